import t from 'tap';
import { ADDRESSES, Overlay, Pings, statusOf } from '../../chaos/overlay/index.js';
import { eventsOf, pathOf } from '../support/fleet-checks.js';
import { eventually, kernelResidue, relayElements, wireGuardPeers } from '../support/overlay-checks.js';

t.test('a session goes direct under traffic, and back, and nothing is lost', async (t) => {
  const overlay = await Overlay.start({ clientArgs: ['--standby', 'off'] });
  t.teardown(() => overlay.close());
  const { a, b, exit, client, clientHome, web } = overlay;
  const up = await client.cli('up');
  t.equal(up.code, 0, up.stderr);
  const pings = await Pings.start(client.host, web);
  const becomes = (path: string) =>
    eventually(
      () => pathOf(client),
      (seen) => seen === path,
      30_000,
    );

  t.equal(await becomes('direct'), 'direct', 'of itself, soon after it is up');
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome);

  await t.test('no supernode carries its packets any more', async (t) => {
    const atA = await a.host.capture('eth0', 'udp and not port 443');
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
    t.equal((await atA.stop()).byKind.wireguard ?? 0, 0);
  });

  await t.test('half a minute later the relays’ kernels hold nothing of it', async (t) => {
    for (const node of [a, b]) {
      const left = await eventually(
        () => relayElements(node),
        (elements) => elements === 0,
        60_000,
      );
      t.equal(left, 0, node.name);
    }
    t.equal(await pathOf(client), 'direct');
  });

  await t.test('vpnd path relay takes it back to them', async (t) => {
    const asked = await client.cli('path', 'relay');
    t.equal(asked.code, 0, asked.stderr);
    t.equal(await pathOf(client), 'relay2');
    t.ok((await relayElements(a)) > 0 && (await relayElements(b)) > 0);
    const atA = await a.host.capture('eth0', 'udp');
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
    t.ok(((await atA.stop()).byKind.wireguard ?? 0) > 0, 'they carry it again');
  });

  await t.test('vpnd path direct makes it direct once more', async (t) => {
    const asked = await client.cli('path', 'direct');
    t.equal(asked.code, 0, asked.stderr);
    t.equal(await pathOf(client), 'direct');
  });

  const { sent, lost } = await pings.stop();
  t.equal(lost, 0, `of ${sent} packets`);

  await t.test('the direct way dies: the relays take over, by themselves', async (t) => {
    await clientHome.router.nft(
      `table inet between { chain forward { type filter hook forward priority 0; ip saddr ${ADDRESSES.exitHome} drop; ip daddr ${ADDRESSES.exitHome} drop; }; }\n`,
    );
    await becomes('relay2');
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'the same exit, over supernodes');
    const refused = await client.cli('path', 'direct');
    t.not(refused.code, 0, 'asking for it says that it does not work');
    t.match(refused.stderr, /^vpnd: /);
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'and has broken nothing');
    t.ok((await eventsOf(client)).includes('path-relay'));
  });

  t.equal((await client.cli('down')).code, 0);
  t.same(await kernelResidue(client), []);
  t.same(await wireGuardPeers(exit), []);
  for (const node of [a, b]) t.equal(await relayElements(node), 0, node.name);
});

t.test('who wants privacy never goes direct', async (t) => {
  const overlay = await Overlay.start({ clientArgs: ['--standby', 'off'] });
  t.teardown(() => overlay.close());
  const { client, clientHome } = overlay;
  const uplink = await clientHome.router.capture('eth0', `ip host ${ADDRESSES.exitHome}`);
  t.equal((await client.cli('up', '--privacy', 'private')).code, 0);
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
  const asked = await client.cli('path', 'direct');
  t.not(asked.code, 0);
  t.match(asked.stderr, /^vpnd: /);
  // Longer than a session that may go direct takes to become so.
  await t.rejects(
    statusOf(client, ({ sessions }) => sessions.some(({ via }) => via.length !== 2), 4000),
    'two supernodes all the time',
  );
  t.same((await uplink.stop()).byKind, {}, 'client and exit never exchange a packet');
});
