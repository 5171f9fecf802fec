import { spawn } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import t from 'tap';
import { certificateTools } from '../../src/identity/ca.js';
import { openSodium } from '../../src/identity/sodium.js';
import { openStateDir } from '../../src/identity/state-dir.js';
import { fileError } from '../../src/identity/state-files.js';
import { hours, instantOf } from '../../src/model/time.js';

const { crypto } = await openSodium();
const mode = (path: string) => (statSync(path).mode & 0o777).toString(8);
const STATE_DIR = new URL('../../src/identity/state-dir.js', import.meta.url).href;
const SODIUM = new URL('../../src/identity/sodium.js', import.meta.url).href;

t.test('a fresh state directory is private, and its keys stay the same from start to start', async (t) => {
  const dir = join(t.testdir(), 'a', 'state');
  const first = openStateDir(dir, crypto);
  const [id, wireguard] = [first.identity().id, first.wireGuardKeys()];
  first.close();
  t.equal(mode(dir), '700');
  t.equal(mode(join(dir, 'identity.key')), '600');
  t.equal(mode(join(dir, 'wireguard.key')), '600');
  t.equal(mode(join(dir, 'lock.db')), '600');
  const second = openStateDir(dir, crypto);
  t.teardown(() => second.close());
  t.equal(second.identity().id, id);
  t.strictSame(second.wireGuardKeys(), wireguard);
  t.same(second.warnings, []);
  t.same(
    readdirSync(dir).sort(),
    ['identity.key', 'lock.db', 'vpnd.pid', 'wireguard.key'],
    'no temporary file is left',
  );
});

t.test('a key that others could read is closed to them, and said so', async (t) => {
  const dir = join(t.testdir(), 'state');
  const first = openStateDir(dir, crypto);
  const { id } = first.identity();
  first.close();
  chmodSync(join(dir, 'identity.key'), 0o644);
  chmodSync(dir, 0o755);
  const second = openStateDir(dir, crypto);
  t.teardown(() => second.close());
  t.equal(second.identity().id, id);
  t.equal(mode(join(dir, 'identity.key')), '600');
  t.equal(mode(dir), '700');
  t.match(second.warnings, [/was open to other users/, /identity\.key could be read by other users/]);
});

t.test("somebody else's directory is not shut", async (t) => {
  const dir = t.testdir({ 'letter.txt': 'dear Anna' });
  chmodSync(dir, 0o755);
  const state = openStateDir(dir, crypto);
  t.teardown(() => state.close());
  t.equal(mode(dir), '755');
  t.match(state.warnings, [/should be vpnd's alone/]);
});

t.test('a key file that does not parse is named and left untouched', async (t) => {
  for (const [name, read] of [
    ['identity.key', 'identity'],
    ['wireguard.key', 'wireGuardKeys'],
  ] as const)
    for (const text of ['', 'garbage', 'AAAA', 'x'.repeat(100_000)]) {
      const dir = t.testdir({ [name]: text });
      chmodSync(join(dir, name), 0o600);
      const state = openStateDir(dir, crypto);
      t.throws(() => state[read](), { code: 'state-unreadable', message: new RegExp(`${name}.*left untouched`) });
      t.equal(readFileSync(join(dir, name), 'utf8'), text);
      state.close();
    }
});

t.test('what is in the way of a state directory is said with its path', async (t) => {
  const dir = t.testdir({ file: 'x', keys: { 'identity.key': {} } });
  const refused = (path: string) =>
    t.throws(() => openStateDir(path, crypto), { code: 'state-unreadable', message: path });
  refused(join(dir, 'file'));
  refused(join(dir, 'file', 'below'));
  const state = openStateDir(join(dir, 'keys'), crypto);
  t.teardown(() => state.close());
  t.throws(() => state.identity(), { code: 'state-unreadable', message: /identity\.key/ });
});

t.test('file system refusals have their words', async (t) => {
  const failed = (code: string) => fileError('/s/identity.key', Object.assign(new Error(code), { code }));
  for (const code of ['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EIO'])
    t.match(failed(code), { code: 'state-unreadable', message: '/s/identity.key' });
  for (const code of ['ENOSPC', 'EDQUOT']) t.match(failed(code), { code: 'disk-full', message: '/s/identity.key' });
});

t.test('certificates are kept in pairs; halves that do not fit are none', async (t) => {
  const tools = certificateTools();
  const now = instantOf(1_800_000_000_000);
  const { authority, identity } = await tools.newAuthority(now);
  const request = await tools.newRequest();
  const certificate = await authority.issue(request.csr, { kind: 'base' }, now, hours(24));
  const state = openStateDir(join(t.testdir(), 'state'), crypto);
  t.teardown(() => state.close());
  t.equal(state.tls(), undefined);
  t.equal(state.ca(), undefined);
  const tls = { certificate, privateKey: request.privateKey };
  state.saveTls(tls);
  state.saveCa(identity);
  t.strictSame(state.tls(), tls);
  t.strictSame(state.ca(), identity);
  for (const name of ['tls.key', 'tls.crt', 'ca.key', 'ca.crt']) t.equal(mode(join(state.path, name)), '600');

  const other = (await tools.newRequest()).privateKey;
  writeFileSync(join(state.path, 'tls.key'), other);
  t.equal(state.tls(), undefined, 'a renewal that was cut short');
  writeFileSync(join(state.path, 'ca.key'), other);
  t.throws(() => state.ca(), { code: 'state-unreadable', message: /ca\.key does not belong to ca\.crt/ });
  writeFileSync(join(state.path, 'ca.crt'), 'x');
  t.throws(() => state.ca(), { code: 'state-unreadable', message: /ca\.crt does not hold a certificate/ });
});

t.test('a second daemon is refused with the pid of the first, also in the same process', async (t) => {
  const dir = join(t.testdir(), 'state');
  const first = openStateDir(dir, crypto);
  t.throws(() => openStateDir(dir, crypto), { code: 'state-locked', message: new RegExp(`pid ${process.pid}`) });
  openStateDir(dir, crypto, { lock: false }).close();
  t.throws(() => openStateDir(dir, crypto), { code: 'state-locked' }, 'who only looks does not open the lock');
  first.close();
  openStateDir(dir, crypto).close();
});

t.test('the lock of a daemon that was killed is free', async (t) => {
  const dir = join(t.testdir(), 'state');
  mkdirSync(dir);
  const script = `
    const { openStateDir } = await import(${JSON.stringify(STATE_DIR)});
    const { openSodium } = await import(${JSON.stringify(SODIUM)});
    openStateDir(${JSON.stringify(dir)}, (await openSodium()).crypto);
    console.log('held');
    setInterval(() => {}, 1000);`;
  const holder = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => holder.kill('SIGKILL'));
  for await (const line of createInterface({ input: holder.stdout })) if (line === 'held') break;
  t.throws(() => openStateDir(dir, crypto), { code: 'state-locked', message: new RegExp(`pid ${holder.pid}`) });
  const gone = new Promise((resolve) => holder.once('exit', resolve));
  holder.kill('SIGKILL');
  await gone;
  const next = openStateDir(dir, crypto);
  t.teardown(() => next.close());
  t.equal(readFileSync(join(dir, 'vpnd.pid'), 'utf8'), `${process.pid}\n`);
});

t.test('a key that took the place of another leaves nothing of it, and a crash in between is ended', async (t) => {
  const dir = t.testdir();
  const state = openStateDir(dir, crypto);
  t.teardown(() => state.close());
  const path = join(dir, 'wireguard.key');
  const before = state.wireGuardKeys();
  // Another name for the same place on the disk: what is overwritten there is seen here.
  linkSync(path, join(dir, 'witness'));
  const next = crypto.wireGuardKeyPair();
  state.keepWireGuardKeys(next);
  t.same(state.wireGuardKeys(), next);
  t.equal(mode(path), '600');
  t.notOk(readFileSync(join(dir, 'witness'), 'utf8').includes(before.privateKey), 'it is overwritten');
  t.notOk(existsSync(`${path}.old`));
  writeFileSync(`${path}.old`, before.privateKey);
  state.keepWireGuardKeys(next);
  t.notOk(existsSync(`${path}.old`), 'what a crash left goes with the next start');

  const [one, two] = [
    await certificateTools().newAuthority(instantOf(0)),
    await certificateTools().newAuthority(instantOf(0)),
  ];
  state.saveCa(one.identity);
  state.keepCa(two.identity);
  t.same(state.ca(), two.identity);
  state.keepCa(two.identity);
  t.same(state.ca(), two.identity);
});
