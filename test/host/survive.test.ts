import t from 'tap';
import { Fleet, freezeMachine, Pings, statusOf, thawMachine, withStandby } from '../../chaos/overlay/index.js';
import { activeOf, pathOf, reaches, strangePackets, TWO_EXITS_ABROAD } from '../support/fleet-checks.js';
import { eventually, kernelResidue, wireGuardPeers } from '../support/overlay-checks.js';

/** The core of path, rotate and failover in one overlay: short enough for an emulated machine with kernel WireGuard. */
t.test('another path, another exit, a frozen exit: traffic goes on', async (t) => {
  const fleet = await Fleet.start(TWO_EXITS_ABROAD);
  t.teardown(() => fleet.close());
  const client = fleet.node('c1');
  const names = await fleet.names();
  const homes = ['x1', 'x2'].map((name) => fleet.home(name).publicIpv4);
  const used = async () => names.get((await activeOf(client)).exitId) ?? '';
  const uplink = await fleet.home('c1').router.capture('eth0');
  const up = await client.cli('up');
  t.equal(up.code, 0, up.stderr);
  await withStandby(client);

  await t.test('to the direct path', async (t) => {
    const pings = await Pings.start(client.host, fleet.web, { everySeconds: 0.1 });
    const path = await eventually(
      () => pathOf(client),
      (seen) => seen === 'direct',
      90_000,
    );
    t.equal(path, 'direct');
    const { sent, lost } = await pings.stop();
    t.equal(lost, 0, `of ${sent} packets`);
  });

  await t.test('to another exit', async (t) => {
    const before = await used();
    const pings = await Pings.start(client.host, fleet.web, { everySeconds: 0.1 });
    const rotated = await client.cli('rotate');
    t.equal(rotated.code, 0, rotated.stderr);
    t.not(await used(), before);
    t.equal(await fleet.seenIp(client.host, undefined, 20), fleet.home(await used()).publicIpv4);
    const { sent, lost } = await pings.stop();
    t.equal(lost, 0, `of ${sent} packets`);
  });

  await t.test('away from one that stands still', async (t) => {
    await withStandby(client);
    const frozen = await used();
    await freezeMachine(fleet.node(frozen));
    const others = homes.filter((ip) => ip !== fleet.home(frozen).publicIpv4);
    t.ok(await reaches(fleet, client, others, 90_000));
    await thawMachine(fleet.node(frozen));
    await withStandby(client);
  });

  await t.test('and leaves nothing behind, nor let anything out on the way', async (t) => {
    t.same(await strangePackets(uplink), []);
    const down = await client.cli('down');
    t.equal(down.code, 0, down.stderr);
    t.same(await kernelResidue(client), []);
    await statusOf(client, ({ sessions }) => sessions.length === 0);
    for (const exit of fleet.exits) {
      const left = await eventually(
        () => wireGuardPeers(exit),
        (peers) => peers.length === 0,
        60_000,
      );
      t.same(left, [], exit.name);
    }
  });
});
