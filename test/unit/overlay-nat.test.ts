import t from 'tap';
import { Path } from '../../src/gen/vpnd/v1/types_pb.js';
import { ms, seconds } from '../../src/model/time.js';
import { violations } from '../support/overlay-world/invariants.js';
import type { NatKind } from '../support/overlay-world/nat.js';
import { exitOf, relaysOf, standbyReady, warm } from '../support/overlay-world/scenes.js';
import { type OverlayWorld, overlayWorld } from '../support/overlay-world.js';

/** `knocks`: each end's packets get in where the other one is seen to be. `roams`: the client's come from a port that
 * nobody foresaw, and the exit's router lets them in all the same. `no`: they get in nowhere (docs/nat.md). */
type Lets = 'knocks' | 'roams' | 'no';
const EXITS: readonly NatKind[] = ['none', 'full-cone', 'address-restricted', 'port-preserving', 'random'];
const CLIENTS: Readonly<Record<NatKind, readonly Lets[]>> = {
  none: ['knocks', 'knocks', 'knocks', 'knocks', 'no'],
  'full-cone': ['knocks', 'knocks', 'knocks', 'knocks', 'no'],
  'address-restricted': ['knocks', 'knocks', 'knocks', 'knocks', 'no'],
  'port-preserving': ['knocks', 'knocks', 'knocks', 'knocks', 'no'],
  random: ['roams', 'roams', 'roams', 'no', 'no'],
};
const PAIRS = (Object.keys(CLIENTS) as NatKind[]).flatMap((client) =>
  EXITS.map((exit, column) => ({ client, exit, lets: CLIENTS[client][column] ?? 'no' })),
);
/** Longer than a session needs to prove itself, and than an attempt takes at most. */
const SOON = seconds(6);

const between = (client: NatKind, exit: NatKind, clients = 1): Promise<OverlayWorld> =>
  overlayWorld({
    clients: Array.from({ length: clients }, () => ({ region: 'us', nat: client })),
    exits: [{ region: 'eu', nat: exit, sessionCapacity: clients }],
  });
const isDirect = (world: OverlayWorld, name = 'c0'): boolean =>
  world.way(name).ok && relaysOf(world.way(name)).length === 0;

for (const { client, exit, lets } of PAIRS) {
  const becomes = lets === 'no' ? 'stays on its relays' : 'goes direct';

  t.test(`${client} and ${exit}, a tunnel that is hardly used: it ${becomes}, with nothing lost`, async (t) => {
    const world = await between(client, exit, 4);
    for (const name of ['c0', 'c1', 'c2', 'c3']) await world.up(name);
    // One that nobody uses, and packets every second, wherever in an attempt they fall.
    const traffic = await Promise.all(
      ['c1', 'c2', 'c3'].map(async (name, i) => {
        await world.advance(i * 330);
        return world.traffic(name, 1);
      }),
    );
    await world.advance(SOON + seconds(4));
    for (const name of ['c0', 'c1', 'c2', 'c3']) t.equal(isDirect(world, name), lets !== 'no', name);
    await world.advance(seconds(10));
    for (const { sent, lost } of traffic) t.equal(lost, 0, `of ${sent}`);
    t.same(violations(world.all()), []);
  });

  t.test(`${client} and ${exit}, 100 packets a second: nothing lost`, async (t) => {
    const world = await between(client, exit);
    for (const name of ['c0', 'x0']) world.node(name).kernelTakes = ms(10);
    await world.up('c0');
    const traffic = world.traffic('c0', 100);
    await world.advance(SOON);
    t.equal(isDirect(world), lets === 'knocks');
    await world.advance(seconds(4));
    t.equal(traffic.lost, 0, `of ${traffic.sent}`);
    t.ok(traffic.longestGap() <= 60, `longest gap ${traffic.longestGap()} ms`);
    traffic.stop();
    t.same(violations(world.all()), []);
    t.same(world.leaks, []);
    await world.down('c0');
    await world.advance(seconds(10));
    t.same(world.residue(), [], 'and nothing is left of it');
  });
}

t.test('what was too busy to find out is tried again, and goes direct in a quiet moment', async (t) => {
  const world = await between('random', 'full-cone');
  await world.up('c0');
  const busy = world.traffic('c0', 100);
  await world.advance(seconds(30));
  t.notOk(isDirect(world));
  busy.stop();
  await world.until('it is direct', () => isDirect(world), 120_000);
  const traffic = world.traffic('c0', 100);
  await world.advance(seconds(60));
  t.equal(busy.lost + traffic.lost, 0);
  t.ok(isDirect(world), 'and stays it, however busy');
});

t.test('who asks for the direct path by hand need not wait for a quiet moment', async (t) => {
  const world = await between('random', 'full-cone');
  await world.up('c0');
  const traffic = world.traffic('c0', 100);
  await world.advance(SOON);
  await world.setPath('c0', Path.DIRECT);
  t.ok(isDirect(world));
  await world.advance(seconds(5));
  t.equal(traffic.lost, 0, 'and where there is one, it costs nothing');

  const shut = await between('random', 'random');
  await shut.up('c0');
  await shut.advance(SOON);
  const carried = shut.traffic('c0', 100);
  t.match(await shut.outcome(shut.setPath('c0', Path.DIRECT)), { code: 'no-direct' });
  await shut.advance(seconds(10));
  t.ok(carried.lost <= 40, `where there is none, a third of a second: ${carried.lost} packets`);
});

for (const [client, exit] of [
  ['random', 'random'],
  ['port-preserving', 'port-preserving'],
] as const) {
  t.test(`${client} and ${exit}: sessions that come by rotation and failover lose nothing either`, async (t) => {
    const world = await warm({
      exits: ['eu', 'ap', 'eu'].map((region) => ({ region, nat: exit })),
      clients: [{ region: 'us', nat: client, standby: true }],
    });
    const traffic = world.traffic('c0', 50);
    for (let n = 0; n < 2; n++) {
      await world.rotate('c0');
      await world.advance(seconds(10));
    }
    t.equal(traffic.lost, 0, 'by rotation');
    await standbyReady(world);
    world.sleep(await exitOf(world));
    await world.advance(seconds(4));
    const failed = traffic.lost;
    t.ok(failed > 0);
    await world.advance(seconds(20));
    t.equal(traffic.lost, failed, 'by failover, and with the standby after it');
    traffic.stop();
    await world.down('c0');
  });
}

t.test('a session that ends while its direct path is looked for is closed at once', async (t) => {
  const world = await between('random', 'random');
  await world.up('c0');
  const traffic = world.traffic('c0', 100);
  await world.until('it is being looked for', () => /pin .*:/.test(world.node('c0').print()), 5_000);
  const began = world.clock.monotonic();
  traffic.stop();
  t.match(await world.down('c0'), { wasUp: true, releasedEverywhere: true });
  t.ok(world.clock.monotonic() - began < 500, `${world.clock.monotonic() - began} ms`);
  await world.advance(seconds(10));
  t.same(world.residue(), []);
});
