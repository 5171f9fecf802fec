import t from 'tap';
import { minutes, seconds } from '../../src/model/time.js';
import { exitOf, relaysOf, standbyReady, warm } from '../support/overlay-world/scenes.js';
import { overlayWorld } from '../support/overlay-world.js';

t.test('a network that lets no UDP through: vpnd up works, and its user is told why it is slow', async (t) => {
  const world = await overlayWorld();
  world.blockUdp('c0');
  await world.advance(seconds(10));
  t.equal(await world.refusal('c0'), undefined);
  const traffic = world.traffic('c0', 50);
  await world.advance(seconds(30));
  t.equal(traffic.lost, 0);
  t.match(await world.session('c0'), { state: 'up' });
  t.match(await world.status('c0'), { problems: [/no UDP/] });
  await world.advance(minutes(5));
  t.equal(traffic.lost, 0, 'over new keys, too');

  world.blockUdp('c0', false);
  await world.until('UDP is used again', () => world.way('c0').ok, 90_000);
  await world.advance(seconds(10));
  t.match(await world.status('c0'), { problems: [] });
  t.ok(traffic.lost <= 50, `${traffic.lost} of ${traffic.sent} lost on the way back`);
  t.same(world.leaks, []);
  await world.down('c0');
  await world.advance(seconds(10));
  t.same(world.residue(), []);
});

t.test(
  'UDP stops under a running session: the stream carries it, and UDP is taken again when it is back',
  async (t) => {
    for (const nat of ['port-preserving', 'random'] as const) {
      const world = await warm({ nat });
      const traffic = world.traffic('c0', 20);
      await world.advance(seconds(2));
      const at = world.clock.monotonic();
      world.blockUdp('c0');
      await world.until('it passes again', () => traffic.resumedAfter(at + 100) !== undefined, 60_000);
      t.ok((traffic.resumedAfter(at + 100) ?? 0) <= 10_000, `after ${traffic.resumedAfter(at + 100)} ms`);
      await world.advance(seconds(20));
      t.match(await world.session('c0'), { state: 'up' });
      const carried = world.clock.monotonic();
      await world.advance(minutes(3));
      t.ok(traffic.longestGap(carried) <= 200, `longest gap ${traffic.longestGap(carried)} ms`);

      world.blockUdp('c0', false);
      await world.until('UDP is used again', () => world.way('c0').ok, 90_000);
      await world.advance(seconds(20));
      t.match(await world.session('c0'), { state: 'up' });
      t.ok(world.way('c0').ok);
      await standbyReady(world, 'c0', minutes(2));
      t.same(world.leaks, []);
      await world.down('c0');
      await world.advance(seconds(10));
      t.same(world.residue(), []);
    }
  },
);

t.test('the exit dies while the stream carries the tunnel', async (t) => {
  const world = await warm({ nat: 'random' });
  world.blockUdp('c0');
  await world.advance(minutes(1));
  const traffic = world.traffic('c0', 20);
  await world.advance(seconds(5));
  t.equal(traffic.lost, 0);
  const dying = await exitOf(world);
  const at = world.clock.monotonic();
  world.sleep(dying);
  await world.until('it passes again', () => traffic.resumedAfter(at + 200) !== undefined, 30_000);
  await world.advance(seconds(2));
  t.not(await exitOf(world), dying);
  t.same(relaysOf(world.way('c0')), [], 'and still not by UDP');
  t.same(world.leaks, []);
});
