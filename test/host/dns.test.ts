import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ADDRESSES, type Host, Overlay, vpnd } from '../../chaos/overlay/index.js';
import { nameServer } from '../support/name-server.js';
import { eventually } from '../support/overlay-checks.js';
import { commandOf, factsOf, setsNames } from '../support/process-facts.js';

const RESOLVER = '198.51.100.53';
const HOME_RESOLVER = '192.168.2.1';
/** What somebody's own file looks like: with a comment in another encoding, and no end of the last line. */
const BEFORE = Buffer.from(
  `# caf\xe9\nsearch lan\nnameserver ${HOME_RESOLVER}\noptions timeout:1 attempts:1`,
  'latin1',
);

t.test('names are asked through the tunnel, and of nobody else', { bail: true }, async (t) => {
  const overlay = await Overlay.build({ clientArgs: ['--dns', RESOLVER, '--standby', 'off'] });
  t.teardown(() => overlay.close());
  const { client, clientHome } = overlay;
  const file = join(client.host.directory, 'resolv.conf');
  const inForce = () =>
    readFileSync(file, 'latin1')
      .split('\n')
      .filter((line) => line.startsWith('nameserver '));
  writeFileSync(file, BEFORE);
  const atHome = await nameServer(clientHome.router, { address: ADDRESSES.web });
  const abroad = await nameServer(await overlay.lab.publicHost('names', { ipv4: RESOLVER }), {
    address: ADDRESSES.web,
  });
  const resolve = async (name: string): Promise<string> =>
    (await client.host.run(['getent', 'ahostsv4', name])).stdout.split(/\s/)[0] ?? '';
  const underlay = await client.host.capture('eth0', 'port 53 or port 853');
  const seenOutside = async () => (await underlay.packets()).length;
  await overlay.startAll();

  await t.test('before: as ever', async (t) => {
    t.equal(await resolve('before.example'), ADDRESSES.web);
    t.same(atHome.asked(), ['before.example']);
  });
  const before = await eventually(seenOutside, (count) => count > 0);

  await t.test('up: the resolver sees the exit, and the network here sees nothing', async (t) => {
    const up = await client.cli('up');
    t.equal(up.code, 0, up.stderr);
    t.same(inForce(), [`nameserver ${RESOLVER}`]);
    t.equal(await resolve('tunnel.example'), ADDRESSES.web);
    t.ok(abroad.asked().includes('tunnel.example'));
    t.same([...new Set(abroad.from())], [ADDRESSES.exitHome]);
    t.match(await client.json('status'), {
      facts: { dns: `${RESOLVER} through the tunnel, by /etc/resolv.conf` },
    });
  });

  await t.test('what sets it is root in name only: no capability, one file', async (t) => {
    const helper = helperOf(client.host);
    t.match(factsOf(helper), {
      uid: '0 0 0 0',
      groups: '',
      capabilities: ['0', '0', '0', '0', '0'],
      noNewPrivileges: '1',
    });
    t.same(
      factsOf(helper)
        .env.map((one) => one.split('=')[0])
        .sort(),
      ['LC_ALL', 'PATH'],
    );
  });

  await t.test(
    'kill -9: names stay in the tunnel, with nobody to look after them, and after the next start',
    async (t) => {
      await client.crash();
      t.equal(await resolve('crashed.example'), ADDRESSES.web);
      t.ok(abroad.asked().includes('crashed.example'));
      await eventually(
        async () => helpersOf(client.host),
        (left) => left.length === 0,
      );
      await client.start();
      const again = await eventually(
        () => resolve('again.example'),
        (ip) => ip !== '',
        20_000,
      );
      t.equal(again, ADDRESSES.web);
      t.ok(abroad.asked().includes('again.example'));
    },
  );

  await t.test('somebody rewrites the file: put back, and said', async (t) => {
    writeFileSync(file, `nameserver ${HOME_RESOLVER}\n`);
    await eventually(
      async () => inForce().join(),
      (seen) => seen === `nameserver ${RESOLVER}`,
      10_000,
    );
    const events = await client.json<{ code: string; text: string }[]>('events');
    t.ok(events.some(({ code, text }) => code === 'repaired' && text.includes('/etc/resolv.conf')));
    // What they wrote is what comes after; here it is to be what was there at first.
    writeFileSync(file, BEFORE);
    await eventually(
      async () => inForce().join(),
      (seen) => seen === `nameserver ${RESOLVER}`,
      10_000,
    );
  });

  await t.test('a stop leaves the tunnel, and so the names', async (t) => {
    await client.stop();
    t.same(inForce(), [`nameserver ${RESOLVER}`]);
    t.equal(await resolve('stopped.example'), ADDRESSES.web);
    t.ok(abroad.asked().includes('stopped.example'));
    await client.start();
  });

  t.same(atHome.asked(), ['before.example'], 'the resolver at home was asked for nothing since');
  t.equal(await seenOutside(), before, 'and no question left beside the tunnel');

  await t.test('vpnd down: byte for byte what it was', async (t) => {
    const inode = statSync(file).ino;
    const down = await client.cli('down');
    t.equal(down.code, 0, down.stderr);
    t.ok(readFileSync(file).equals(BEFORE));
    t.equal(statSync(file).ino, inode);
    t.equal(await resolve('after.example'), ADDRESSES.web);
    t.ok(atHome.asked().includes('after.example'));
  });

  await t.test('vpnd clean after a kill puts it back, too', async (t) => {
    t.equal((await client.cli('up')).code, 0);
    t.same(inForce(), [`nameserver ${RESOLVER}`]);
    await client.crash();
    const cleaned = await client.host.run(vpnd('clean', '--role', 'client', '--state-dir', client.stateDir));
    t.match(cleaned.stdout, /removed resolvers of vpnd's in \/etc\/resolv\.conf/);
    t.ok(readFileSync(file).equals(BEFORE));
  });
});

const helpersOf = (host: Host): number[] => host.pids().filter((pid) => setsNames(commandOf(pid)));

function helperOf(host: Host): number {
  const [only, ...more] = helpersOf(host);
  if (only === undefined || more.length > 0) throw new Error('there is not exactly one helper');
  return only;
}
