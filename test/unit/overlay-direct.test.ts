import t from 'tap';
import { Path } from '../../src/gen/vpnd/v1/types_pb.js';
import { minutes, seconds } from '../../src/model/time.js';
import type { NatKind } from '../support/overlay-world/nat.js';
import { relaysOf } from '../support/overlay-world/scenes.js';
import { type OverlayWorld, overlayWorld } from '../support/overlay-world.js';

/** A session is given a second to prove itself, and some to find out whether it may go direct. */
const SOON = seconds(6);
const pair = (client: NatKind, exit: NatKind, privacy: 'auto' | 'private' | 'direct' = 'auto') =>
  overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }],
    exits: [{ region: 'eu', nat: exit }],
    clients: [{ region: 'us', nat: client, privacy }],
  });

const relayUnits = (world: OverlayWorld) =>
  world.of('supernode').flatMap((one) => one.sessionUnits().filter((unit) => unit.startsWith('relay')));

const DIRECT: readonly (readonly [NatKind, NatKind])[] = [
  ['port-preserving', 'port-preserving'],
  ['none', 'port-preserving'],
  ['port-preserving', 'none'],
  ['full-cone', 'full-cone'],
  ['full-cone', 'port-preserving'],
  ['address-restricted', 'port-preserving'],
];
for (const [client, exit] of DIRECT) {
  t.test(`client behind ${client}, exit behind ${exit}: direct, with nothing lost`, async (t) => {
    const world = await pair(client, exit);
    await world.up('c0');
    const traffic = world.traffic('c0', 100);
    await world.advance(SOON);
    t.match(await world.session('c0'), { path: Path.DIRECT, state: 'up', via: [] });
    t.match(world.way('c0'), { ok: true, hops: ['x0'] });
    t.equal(relayUnits(world).length, 2, 'the relays are kept for a while');
    t.equal(traffic.lost, 0);
    t.ok(traffic.longestGap() < 100, `longest gap ${traffic.longestGap()} ms`);
    traffic.stop();
    const slow = world.traffic('c0', 10);
    await world.advance(seconds(40));
    t.same(relayUnits(world), [], 'and leave the kernels once the path has held');
    t.equal(slow.lost, 0);
    await world.down('c0');
    await world.advance(seconds(5));
    t.same(world.residue(), []);
  });
}

t.test('a direct session lives through new keys and leases', async (t) => {
  const world = await pair('port-preserving', 'port-preserving');
  await world.up('c0');
  await world.advance(SOON);
  const traffic = world.traffic('c0', 2);
  await world.advance(minutes(70));
  t.equal(traffic.lost, 0);
  t.match(await world.session('c0'), { path: Path.DIRECT, state: 'up' });
  t.match(world.way('c0'), { ok: true, hops: ['x0'] });
});

const RELAYED: readonly (readonly [NatKind, NatKind])[] = [
  ['random', 'random'],
  ['random', 'port-preserving'],
  ['port-preserving', 'random'],
  ['address-restricted', 'random'],
];
for (const [client, exit] of RELAYED) {
  t.test(`client behind ${client}, exit behind ${exit}: stays relayed, with nothing lost`, async (t) => {
    const world = await pair(client, exit);
    await world.up('c0');
    const traffic = world.traffic('c0', 100);
    await world.advance(SOON);
    t.match(await world.session('c0'), { path: Path.RELAY2, state: 'up' });
    t.same(relaysOf(world.way('c0')), ['a', 'b']);
    t.equal(traffic.lost, 0, `of ${traffic.sent}`);
    traffic.stop();
    const slow = world.traffic('c0', 1);
    await world.advance(minutes(10));
    t.equal(slow.lost, 0, 'and trying again costs nothing either');
    t.match(await world.session('c0'), { path: Path.RELAY2 });
  });
}

t.test('another network, another try', async (t) => {
  const world = await pair('random', 'port-preserving');
  await world.up('c0');
  await world.advance(SOON);
  t.match(await world.session('c0'), { path: Path.RELAY2 });
  world.move('c0', '192.0.2.77', 'port-preserving');
  await world.advance(seconds(30));
  t.match(await world.session('c0'), { path: Path.DIRECT });
  t.match(world.way('c0'), { ok: true, hops: ['x0'] });
});

t.test('a private session never goes direct, whatever it is asked', async (t) => {
  const world = await pair('none', 'none', 'private');
  await world.up('c0');
  await world.advance(minutes(2));
  t.match(await world.session('c0'), { path: Path.RELAY2 });
  t.match(await world.outcome(world.setPath('c0', Path.DIRECT)), { code: 'bad-config' });
  await world.advance(seconds(30));
  t.same(relaysOf(world.way('c0')), ['a', 'b']);
});

t.test('the direct way dies, before and after the relays are gone: back to them, without a new session', async (t) => {
  for (const after of [seconds(5), minutes(2)]) {
    const world = await pair('port-preserving', 'port-preserving');
    await world.up('c0');
    const before = (await world.session('c0'))?.sessionId;
    const traffic = world.traffic('c0', 50);
    await world.advance(after);
    t.match(await world.session('c0'), { path: Path.DIRECT });
    t.equal(traffic.lost, 0);
    world.partition('c0', 'x0');
    const at = world.clock.monotonic();
    await world.until('it passes again', () => traffic.resumedAfter(at) !== undefined, 10_000);
    const took = traffic.resumedAfter(at + 30) ?? Number.POSITIVE_INFINITY;
    t.ok(took <= 3_000, `${took} ms`);
    await world.advance(seconds(10));
    t.match(await world.session('c0'), { path: Path.RELAY2, state: 'up', sessionId: before });
    t.same(relaysOf(world.way('c0')), ['a', 'b']);
    await world.down('c0');
    await world.advance(seconds(5));
    t.same(world.residue(), []);
  }
});

t.test('vpnd path: to the relay and back to direct under traffic, with nothing lost', async (t) => {
  const world = await pair('port-preserving', 'port-preserving');
  await world.up('c0');
  await world.advance(minutes(1));
  const traffic = world.traffic('c0', 50);
  for (let n = 0; n < 3; n++) {
    await world.setPath('c0', Path.RELAY);
    t.match(await world.session('c0'), { path: Path.RELAY2 });
    await world.advance(seconds(n === 1 ? 60 : 5));
    t.match(await world.session('c0'), { path: Path.RELAY2 }, 'it stays where its user wants it');
    await world.setPath('c0', Path.DIRECT);
    t.match(await world.session('c0'), { path: Path.DIRECT });
    await world.advance(seconds(n === 1 ? 60 : 5));
  }
  t.equal(traffic.lost, 0);
  t.ok(traffic.longestGap() < 100, `longest gap ${traffic.longestGap()} ms`);
});

t.test('the control plane goes away under a direct session: nothing is lost', async (t) => {
  for (const name of ['a', 'b', 'base', 'c0', 'x0']) {
    const world = await pair('port-preserving', 'port-preserving');
    await world.up('c0');
    await world.advance(seconds(40));
    const traffic = world.traffic('c0', 20);
    world.crash(name);
    await world.advance(seconds(20));
    await world.restart(name);
    await world.advance(minutes(1));
    t.equal(traffic.lost, 0, name);
    t.match(await world.session('c0'), { path: Path.DIRECT, state: 'up' }, name);
    await world.down('c0');
    await world.advance(seconds(5));
    t.same(world.residue(), [], name);
  }
});
