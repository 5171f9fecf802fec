import t, { type Test } from 'tap';
import { minutes, seconds } from '../../src/model/time.js';
import { warm } from '../support/overlay-world/scenes.js';
import { type OverlayWorld, overlayWorld } from '../support/overlay-world.js';

const isCarried = async (world: OverlayWorld) =>
  ((await world.status('c0')).problems ?? []).some((text) => /inside the stream/.test(text));

async function nothingLeft(t: Test, world: OverlayWorld) {
  await world.down('c0');
  await world.advance(seconds(10));
  t.same(world.residue(), []);
  t.same(world.leaks, []);
}

t.test('UDP is blocked under a running tunnel, and let through again', async (t) => {
  const world = await warm({});
  const traffic = world.traffic('c0', 20);
  await world.advance(seconds(5));
  for (let round = 0; round < 2; round++) {
    world.blockUdp('c0');
    const blocked = world.clock.monotonic();
    await world.until('it is carried', () => traffic.resumedAfter(blocked + 100) !== undefined, 30_000);
    await world.advance(seconds(70));
    t.ok(await isCarried(world), 'status says so');
    t.ok(traffic.longestGap(world.clock.monotonic() - 60_000) < 1_000, 'everything goes on');

    world.blockUdp('c0', false);
    const free = world.clock.monotonic();
    await world.advance(seconds(40));
    t.notOk(await isCarried(world), 'left within 40 s');
    t.ok(traffic.longestGap(free) < 1_000, `without a gap: ${traffic.longestGap(free)} ms`);
    await world.advance(seconds(10));
  }
  traffic.stop();
  await nothingLeft(t, world);
});

t.test('a client where UDP never passes is connected', async (t) => {
  const world = await overlayWorld();
  world.blockUdp('c0');
  await world.advance(seconds(30));
  await world.up('c0');
  const traffic = world.traffic('c0', 10);
  await world.advance(minutes(5));
  t.ok(await isCarried(world));
  t.ok(traffic.longestGap(world.clock.monotonic() - minutes(4)) < 1_000, 'renewals and comparisons change nothing');

  await t.test('and again after its supernode was killed', async (t) => {
    world.crash('a');
    await world.advance(seconds(5));
    await world.restart('a');
    const back = world.clock.monotonic();
    await world.until('it passes again', () => traffic.resumedAfter(back) !== undefined, 120_000);
    await world.advance(minutes(2));
    t.ok(traffic.longestGap(world.clock.monotonic() - 60_000) < 1_000);
  });
  traffic.stop();
  await nothingLeft(t, world);
});
