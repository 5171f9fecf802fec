import t, { type Test } from 'tap';
import { hours, minutes, seconds } from '../../src/model/time.js';
import { standbyReady, warm } from '../support/overlay-world/scenes.js';
import type { OverlayWorld } from '../support/overlay-world.js';

/** From the moment the network is there again. */
const WITHIN = 3_000;

const ROUTERS = ['port-preserving', 'random'] as const;

/** Something happens to the network underneath; `back` is when packets could pass again. */
async function passesAgain(
  t: Test,
  world: OverlayWorld,
  happens: () => Promise<void> | void,
  keeps: 'the session' | 'the wish' = 'the session',
): Promise<void> {
  const before = await world.session('c0');
  const traffic = world.traffic('c0', 50);
  await world.advance(seconds(2));
  await happens();
  const back = world.clock.monotonic();
  await world.advance(WITHIN + 500);
  const took = traffic.resumedAfter(back) ?? Number.POSITIVE_INFINITY;
  t.ok(took <= WITHIN, `passing again after ${took} ms`);
  await world.advance(seconds(30));
  t.ok(traffic.longestGap(back + WITHIN) <= 1_200, `then on and on: ${traffic.longestGap(back + WITHIN)} ms`);
  t.match(await world.session('c0'), { state: 'up' });
  if (keeps === 'the session') t.equal((await world.session('c0'))?.sessionId, before?.sessionId, 'with what it had');
  traffic.stop();
  await standbyReady(world);
  t.same(world.leaks, []);
  await world.down('c0');
  await world.advance(seconds(10));
  t.same(world.residue(), []);
}

for (const nat of ROUTERS) {
  t.test(`${nat}: another address`, async (t) => {
    const world = await warm({ nat });
    await passesAgain(t, world, () => world.move('c0', '192.0.2.77'));
  });

  t.test(`${nat}: the client’s router forgets its mappings`, async (t) => {
    const world = await warm({ nat });
    await passesAgain(t, world, () => world.rebind('c0'));
  });

  t.test(`${nat}: the exit’s router forgets its mappings`, async (t) => {
    const world = await warm({ nat, exits: [{ region: 'eu' }], client: { standby: false } });
    const traffic = world.traffic('c0', 20);
    await world.advance(seconds(2));
    world.rebind('x0');
    const at = world.clock.monotonic();
    await world.until('it passes again', () => traffic.resumedAfter(at + 100) !== undefined, 30_000);
    await world.advance(seconds(40));
    t.ok(traffic.longestGap(at + 30_000) < 1_200, `${traffic.longestGap(at + 30_000)}`);
    t.same(world.leaks, []);
  });

  t.test(`${nat}: the cable is out for ten seconds`, async (t) => {
    const world = await warm({ nat });
    await passesAgain(t, world, async () => {
      world.unplug('c0');
      await world.advance(seconds(10));
      t.notMatch(await world.session('c0'), { state: 'up' }, 'nobody is told that it is connected');
      world.plug('c0');
    });
  });

  t.test(`${nat}: asleep for ten minutes`, async (t) => {
    const world = await warm({ nat });
    await passesAgain(t, world, async () => {
      world.sleep('c0');
      await world.advance(minutes(10));
      world.wake('c0');
    });
  });
}

t.test(
  'asleep for an hour, in which its leases end: connected within three seconds, with nothing leaked',
  async (t) => {
    const world = await warm({ lease: minutes(20) });
    const traffic = world.traffic('c0', 20);
    await world.advance(seconds(2));
    world.sleep('c0');
    await world.advance(hours(1));
    t.same(
      ['a', 'b', 'c'].flatMap((name) => world.node(name).sessionUnits()),
      [],
      'nobody keeps a place for it',
    );
    world.wake('c0');
    const back = world.clock.monotonic();
    await world.advance(WITHIN + 500);
    const took = traffic.resumedAfter(back) ?? Number.POSITIVE_INFINITY;
    t.ok(took <= WITHIN, `passing again after ${took} ms`);
    t.match(await world.session('c0'), { state: 'up' });
    await standbyReady(world);
    t.same(world.leaks, []);
  },
);

t.test('it wakes up in another network', async (t) => {
  const world = await warm();
  const traffic = world.traffic('c0', 20);
  await world.advance(seconds(2));
  world.sleep('c0');
  await world.advance(minutes(30));
  world.move('c0', '192.0.2.78', 'random');
  world.wake('c0');
  const back = world.clock.monotonic();
  await world.advance(WITHIN + 500);
  const took = traffic.resumedAfter(back) ?? Number.POSITIVE_INFINITY;
  t.ok(took <= WITHIN, `passing again after ${took} ms`);
  t.same(world.leaks, []);
});

t.test('from Wi-Fi to cable and back, again and again', async (t) => {
  const world = await warm();
  const traffic = world.traffic('c0', 20);
  for (let n = 0; n < 6; n++) {
    await world.advance(seconds(15));
    const at = world.clock.monotonic();
    world.move('c0', `192.0.2.${80 + (n % 2)}`);
    await world.advance(WITHIN + 500);
    t.ok((traffic.resumedAfter(at + 50) ?? Number.POSITIVE_INFINITY) <= WITHIN, `change ${n}`);
  }
  t.same(world.leaks, []);
  await world.down('c0');
  await world.advance(seconds(10));
  t.same(world.residue(), []);
});
