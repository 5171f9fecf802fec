import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { ResolvConf } from '../../dataplane/dns-file.js';
import { type DnsFiles, nodeDnsFiles } from '../../dataplane/dns-files.js';
import { serversOf } from '../../dataplane/dns-text.js';

const OURS = ['9.9.9.9', '149.112.112.112'];

function scene(t: Test) {
  const root = mkdtempSync(join(tmpdir(), 'vpnd-etc-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const etc = join(root, 'etc');
  mkdirSync(etc);
  const path = join(etc, 'resolv.conf');
  return { root, etc, path, conf: new ResolvConf(nodeDnsFiles, path) };
}

t.test('a file is replaced, and comes back with its bytes and its mode', async (t) => {
  const { etc, path, conf } = scene(t);
  const before = Buffer.from([...Buffer.from('nameserver 192.168.1.1\n# caf'), 0xe9, 0, 0xff, 10, 13, 10, 35]);
  writeFileSync(path, before);
  chmodSync(path, 0o640);
  const inode = statSync(path).ino;
  t.equal(conf.put(OURS), true);
  t.not(statSync(path).ino, inode, 'whoever reads it has one or the other, whole');
  t.equal(statSync(path).mode & 0o7777, 0o644, 'every program may read it');
  t.same(serversOf(readFileSync(path, 'latin1')), OURS);
  t.same(readdirSync(etc), ['resolv.conf']);
  t.equal(conf.put(OURS), false);
  t.equal(conf.restore(), true);
  t.ok(readFileSync(path).equals(before));
  t.equal(statSync(path).mode & 0o7777, 0o640);
  t.same(readdirSync(etc), ['resolv.conf']);
});

t.test('a link is replaced, what it leads to is not touched, and it comes back as it was', async (t) => {
  const { root, path, conf } = scene(t);
  mkdirSync(join(root, 'run'));
  writeFileSync(join(root, 'run/resolv.conf'), 'nameserver 192.168.1.1\n');
  symlinkSync('../run/resolv.conf', path);
  conf.put(OURS);
  t.ok(lstatSync(path).isFile());
  t.equal(readFileSync(join(root, 'run/resolv.conf'), 'utf8'), 'nameserver 192.168.1.1\n');
  writeFileSync(join(root, 'run/resolv.conf'), 'nameserver 172.16.0.1\n');
  conf.restore();
  t.equal(readlinkSync(path), '../run/resolv.conf');
  t.equal(readFileSync(path, 'utf8'), 'nameserver 172.16.0.1\n', 'with what its keeper has written meanwhile');
});

t.test('a link that leads nowhere, and nothing at all', async (t) => {
  const { path, conf } = scene(t);
  conf.put(OURS);
  t.same(serversOf(readFileSync(path, 'latin1')), OURS);
  conf.restore();
  t.notOk(existsSync(path));
  symlinkSync('/nowhere/resolv.conf', path);
  conf.put(OURS);
  conf.restore();
  t.equal(readlinkSync(path), '/nowhere/resolv.conf');
});

t.test('another program replaces it, as dhclient does', async (t) => {
  const { etc, path, conf } = scene(t);
  writeFileSync(path, 'nameserver 192.168.1.1\n');
  conf.put(OURS);
  writeFileSync(join(etc, 'resolv.conf.dhclient-new'), 'nameserver 10.0.0.1\n');
  renameSync(join(etc, 'resolv.conf.dhclient-new'), path);
  t.equal(conf.put(OURS), true);
  t.same(serversOf(readFileSync(path, 'latin1')), OURS);
  conf.restore();
  t.equal(readFileSync(path, 'utf8'), 'nameserver 10.0.0.1\n');
});

t.test('what a power cut left of a new file is taken away', async (t) => {
  const { etc, path, conf } = scene(t);
  writeFileSync(path, 'nameserver 192.168.1.1\n');
  writeFileSync(join(etc, 'resolv.conf.vpnd-new'), '# vpnd: names are as');
  conf.restore();
  t.same(readdirSync(etc), ['resolv.conf']);
  symlinkSync(join(etc, 'victim'), join(etc, 'resolv.conf.vpnd-new'));
  conf.put(OURS);
  t.notOk(existsSync(join(etc, 'victim')), 'and a link there is not followed');
});

t.test('what is no such file is refused, and left', async (t) => {
  const { path, conf } = scene(t);
  mkdirSync(path);
  t.throws(() => conf.put(OURS), { code: 'dataplane', message: /it is no file/ });
  rmSync(path, { recursive: true });
  writeFileSync(path, 'x'.repeat(70_000));
  t.throws(() => conf.put(OURS), { code: 'dataplane', message: /larger/ });
  t.equal(statSync(path).size, 70_000);
});

t.test('written over in its place, where something is mounted there', async (t) => {
  const { etc, path } = scene(t);
  const files: DnsFiles = { ...nodeDnsFiles, isMounted: () => true };
  const conf = new ResolvConf(files, path);
  for (const before of ['', 'nameserver 10.0.0.2', `nameserver 10.0.0.2\n${'# long\n'.repeat(400)}`]) {
    writeFileSync(path, before);
    const inode = statSync(path).ino;
    conf.put(OURS);
    t.same(serversOf(readFileSync(path, 'latin1')), OURS);
    t.equal(statSync(path).ino, inode);
    conf.restore();
    t.equal(readFileSync(path, 'utf8'), before);
    t.equal(statSync(path).ino, inode);
  }
  t.same(readdirSync(etc), ['resolv.conf']);
});

t.test('nothing is mounted on an ordinary file, and something on the root', async (t) => {
  const { path } = scene(t);
  t.equal(nodeDnsFiles.isMounted(path), false);
  t.equal(nodeDnsFiles.isMounted('/proc'), true);
});
