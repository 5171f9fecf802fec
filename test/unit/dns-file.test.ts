import fc from 'fast-check';
import t from 'tap';
import { ResolvConf } from '../../dataplane/dns-file.js';
import { type Place, parseOwnFile, renderOwnFile, serversOf } from '../../dataplane/dns-text.js';
import { MemoryFiles, PowerCut } from '../support/memory-files.js';

const PATH = '/etc/resolv.conf';
const OURS = ['9.9.9.9', '149.112.112.112'];

/** A byte in each character, as files are read. */
const bytes = fc.uint8Array({ maxLength: 300 }).map((all) => Buffer.from(all).toString('latin1'));
const lines = fc
  .array(
    fc.constantFrom('nameserver 192.168.1.1', '# vpnd: end', '#|', '', 'search lan', '# vpnd: before: nothing', '\r'),
  )
  .map((all) => all.join('\n'));
const place: fc.Arbitrary<Place> = fc.oneof(
  fc.constant<Place>({ kind: 'nothing' }),
  fc.record({ kind: fc.constant('link' as const), target: bytes.filter((target) => target !== '') }),
  fc.record({
    kind: fc.constant('file' as const),
    text: fc.oneof(bytes, lines),
    mode: fc.constantFrom(0o644, 0o600, 0o755, 0o4755, 0),
  }),
);

t.test('whatever was there before comes out of the file as it went in, byte for byte', async (t) => {
  fc.assert(
    fc.property(place, (before) => {
      const text = renderOwnFile(OURS, before);
      const own = parseOwnFile(text);
      t.same(own?.before, before);
      t.same(own?.servers, OURS);
      t.same(serversOf(text), OURS, 'who reads it asks nobody else');
    }),
    { numRuns: 500, seed: 36 },
  );
});

/** What can be at a machine's /etc/resolv.conf. */
const MACHINES: readonly (readonly [string, () => MemoryFiles])[] = [
  ['a file', () => new MemoryFiles().file(PATH, 'nameserver 192.168.1.1\nsearch lan', 0o755)],
  ['nothing at all', () => new MemoryFiles()],
  [
    'a link',
    () => {
      const files = new MemoryFiles().file('/run/NetworkManager/resolv.conf', 'nameserver 192.168.1.1\n');
      files.places.set(PATH, { kind: 'link', target: '../run/NetworkManager/resolv.conf' });
      return files;
    },
  ],
  [
    'a file that is mounted there',
    () => {
      const files = new MemoryFiles().file(PATH, 'nameserver 10.0.0.2\n');
      files.mounted.add(PATH);
      return files;
    },
  ],
];

for (const [what, machine] of MACHINES) {
  t.test(
    `${what}: the power fails before or after any write, and the next start finds one thing or the other`,
    async (t) => {
      const before = machine().look(PATH);
      const writes = countWrites(machine);
      for (let cut = 0; cut <= writes; cut++) {
        const files = machine();
        files.powerFor = cut;
        const failed = attempt(() => {
          new ResolvConf(files, PATH).put(OURS);
          new ResolvConf(files, PATH).restore();
        });
        t.equal(failed, cut < writes, `power for ${cut} of ${writes} writes`);
        const found = files.look(PATH);
        const isOurs = found.kind === 'file' && serversOf(found.text).join() === OURS.join();
        if (!isOurs) t.same(found, before, 'never half of either');

        // Either way the next start goes.
        files.powerFor = Number.POSITIVE_INFINITY;
        const again = copyOf(files);
        new ResolvConf(again, PATH).put(OURS);
        const after = again.look(PATH);
        t.same(after.kind === 'file' ? serversOf(after.text) : [], OURS, 'a tunnel is still wanted');
        new ResolvConf(files, PATH).restore();
        t.same(files.look(PATH), before, 'none is wanted any more');
        new ResolvConf(again, PATH).restore();
        t.same(again.look(PATH), before);
        for (const left of [files, again]) {
          t.same([...left.places.keys()].sort(), [...machine().places.keys()].sort(), 'nothing else is left');
        }
      }
    },
  );
}

t.test('what is right is not touched', async (t) => {
  const files = new MemoryFiles().file(PATH, 'nameserver 192.168.1.1\n');
  const conf = new ResolvConf(files, PATH);
  t.equal(conf.put(OURS), true);
  const writes = files.done.length;
  t.equal(conf.put(OURS), false);
  t.equal(files.done.length, writes);
  conf.restore();
  t.equal(conf.restore(), false, 'a second restore finds nothing of ours');
});

t.test('other resolvers: what was there before stays known', async (t) => {
  const files = new MemoryFiles().file(PATH, 'nameserver 192.168.1.1\n');
  const conf = new ResolvConf(files, PATH);
  conf.put(OURS);
  conf.put(['1.1.1.1']);
  t.same(serversOf(files.read(PATH) ?? ''), ['1.1.1.1']);
  conf.restore();
  t.equal(files.read(PATH), 'nameserver 192.168.1.1\n');
});

t.test('somebody rewrites the file meanwhile', async (t) => {
  const files = new MemoryFiles().file(PATH, 'nameserver 192.168.1.1\n');
  const conf = new ResolvConf(files, PATH);
  conf.put(OURS);
  files.file(PATH, 'nameserver 172.16.0.1\n');

  await t.test('ours is put back, and theirs is what comes after', async (t) => {
    t.equal(conf.put(OURS), true, 'it is counted');
    t.same(serversOf(files.read(PATH) ?? ''), OURS);
    conf.restore();
    t.equal(files.read(PATH), 'nameserver 172.16.0.1\n', 'the newer one');
  });

  await t.test('the tunnel ends before it was noticed: theirs stays', async (t) => {
    conf.put(OURS);
    files.file(PATH, 'nameserver 10.11.12.13\n');
    t.equal(conf.restore(), false);
    t.equal(files.read(PATH), 'nameserver 10.11.12.13\n');
  });

  await t.test('they added a line to ours: it goes', async (t) => {
    conf.put(OURS);
    files.file(PATH, `${files.read(PATH)}nameserver 192.168.1.66\n`);
    t.equal(conf.put(OURS), true);
    t.same(serversOf(files.read(PATH) ?? ''), OURS);
    conf.restore();
    t.equal(files.read(PATH), 'nameserver 10.11.12.13\n');
  });

  await t.test(
    'they cut out what was before: names are still answered afterwards, and the file is nobody’s',
    async (t) => {
      conf.put(OURS);
      files.file(PATH, (files.read(PATH) ?? '').split('\n').slice(0, 3).join('\n'));
      t.equal(conf.restore(), true);
      t.equal(files.read(PATH), 'nameserver 9.9.9.9\nnameserver 149.112.112.112\n');
      t.equal(parseOwnFile(files.read(PATH) ?? ''), undefined);
    },
  );
});

t.test('what cannot be changed stays as it was, and the error says why', async (t) => {
  for (const [fault, code, why] of [
    ['EROFS', 'dataplane', /read-only/],
    ['EPERM', 'dataplane', /chattr -i \/etc\/resolv\.conf/],
    ['ENOSPC', 'disk-full', /disk is full/],
    ['EACCES', 'no-root', /may not/],
  ] as const) {
    for (const [what, machine] of MACHINES) {
      const files = machine();
      files.fault = fault;
      t.throws(() => new ResolvConf(files, PATH).put(OURS), { code, message: why }, `${what}, ${fault}`);
      t.same(files.look(PATH), machine().look(PATH));
    }
  }
});

t.test('a file that turns out to be mounted is written over', async (t) => {
  const files = new MemoryFiles().file(PATH, 'nameserver 10.0.0.2\n');
  files.mounted.add(PATH);
  files.isMounted = () => false;
  const conf = new ResolvConf(files, PATH);
  conf.put(OURS);
  t.same(serversOf(files.read(PATH) ?? ''), OURS);
  conf.restore();
  t.equal(files.read(PATH), 'nameserver 10.0.0.2\n');
  t.same([...files.places.keys()], [PATH]);
});

function countWrites(machine: () => MemoryFiles): number {
  const files = machine();
  const conf = new ResolvConf(files, PATH);
  conf.put(OURS);
  conf.restore();
  return files.done.length;
}

/** Whether the power failed on the way. */
function attempt(task: () => void): boolean {
  try {
    task();
    return false;
  } catch (thrown) {
    if (thrown instanceof PowerCut) return true;
    throw thrown;
  }
}

function copyOf(files: MemoryFiles): MemoryFiles {
  const copy = new MemoryFiles();
  for (const [path, content] of files.places) copy.places.set(path, content);
  for (const path of files.mounted) copy.mounted.add(path);
  return copy;
}
