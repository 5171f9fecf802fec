import t, { type Test } from 'tap';
import { minutes, seconds } from '../../src/model/time.js';
import { exitOf, relaysOf, standbyReady, warm } from '../support/overlay-world/scenes.js';
import type { OverlayWorld } from '../support/overlay-world.js';

/** Silence of 600 ms, three probes 200 ms apart, and some for looking. */
const WITHIN = 1_500;

/** Something happens to the active tunnel; when traffic is back, after so many milliseconds at most. */
async function survives(t: Test, world: OverlayWorld, happens: () => void, within = WITHIN): Promise<void> {
  const traffic = world.traffic('c0', 50);
  await world.advance(seconds(2));
  t.equal(traffic.lost, 0);
  const at = world.clock.monotonic();
  happens();
  await world.advance(within + 2_000);
  const resumed = traffic.resumedAfter(at + 30) ?? Number.POSITIVE_INFINITY;
  t.ok(resumed <= within, `traffic again after ${resumed} ms`);
  await world.advance(seconds(20));
  t.ok(traffic.longestGap(at + within) < 100, `and it stays: ${traffic.longestGap(at + within)} ms`);
  traffic.stop();
  t.same(world.leaks, []);
}

for (const nat of ['port-preserving', 'random'] as const)
  for (const [what, happen] of Object.entries<(world: OverlayWorld, exit: string) => void>({
    'loses power': (world, exit) => world.crash(exit, 'power-off'),
    'hangs, with nothing closed': (world, exit) => world.sleep(exit),
    'is unplugged': (world, exit) => world.unplug(exit),
  })) {
    t.test(
      `${nat}: the exit ${what}: the standby carries the traffic, and there is a new one afterwards`,
      async (t) => {
        const world = await warm({ nat });
        t.equal(relaysOf(world.way('c0')).length, nat === 'random' ? 2 : 0);
        const [before, next] = [await exitOf(world), await exitOf(world, 'c0', 'standby')];
        t.not(next, before);
        await survives(t, world, () => happen(world, before));
        t.equal(await exitOf(world), next);
        t.match(await world.session('c0'), { state: 'up', lastChange: nat === 'random' ? /failed over/ : /direct/ });
        t.ok(world.events('c0').includes('failed-over'));
        await standbyReady(world);
        t.not(await exitOf(world, 'c0', 'standby'), before);
        await world.down('c0');
      },
    );
  }

t.test('the supernode of the exit is unplugged', async (t) => {
  const world = await warm({ nat: 'random' });
  const relay = relaysOf(world.way('c0')).at(-1) ?? '';
  await survives(t, world, () => world.unplug(relay));
  await standbyReady(world, 'c0', minutes(2));
  t.notOk(relaysOf(world.way('c0')).includes(relay));
});

t.test('the client’s own supernode is unplugged: its standby goes over another one', async (t) => {
  const world = await warm({ nat: 'random' });
  const standby = await world.session('c0', 'standby');
  t.notOk(relaysOf(world.way('c0', standby?.device)).includes('a'), 'another supernode relays it');
  await survives(t, world, () => world.unplug('a'), 2_000);
});

t.test('what is open over a dead tunnel is told at once', async (t) => {
  const world = await warm();
  const open = world.connection('c0', 50);
  await world.advance(seconds(1));
  world.sleep(await exitOf(world));
  await world.advance(WITHIN + 500);
  t.ok(open.wasReset);
});

t.test(
  'the exit has lost the internet, and its kernel answers probes: it says so, and its clients leave',
  async (t) => {
    const world = await warm();
    const before = await exitOf(world);
    const supervisor = (await world.upstream(before))?.supervisorId;
    const own = world.all().find((one) => one.id === supervisor)?.name;
    await survives(t, world, () => world.cutUplink(before, own), 12_000);
    t.not(await exitOf(world), before);
    await world.advance(minutes(1));
    t.not(await exitOf(world), before, 'nobody is sent back to it');
    t.not(await exitOf(world, 'c0', 'standby'), before);
  },
);

for (const [what, happen] of Object.entries<(world: OverlayWorld, exit: string) => void>({
  'is killed': (world, exit) => world.crash(exit),
  'is stopped (SIGSTOP)': (world, exit) => world.node(exit).clock?.sleep(),
})) {
  t.test(`the exit’s daemon ${what} over a working data plane: nothing is lost`, async (t) => {
    const world = await warm();
    const before = await exitOf(world);
    const traffic = world.traffic('c0', 50);
    await world.advance(seconds(1));
    happen(world, before);
    await world.advance(minutes(2));
    t.equal(traffic.lost, 0);
    t.equal(await exitOf(world), before);
    t.notOk(world.events('c0').includes('failed-over'));
  });
}

t.test('the standby’s exit dies: nothing is lost, and another one stands by', async (t) => {
  const world = await warm();
  const [active, standby] = [await exitOf(world), await exitOf(world, 'c0', 'standby')];
  const traffic = world.traffic('c0', 50);
  world.crash(standby, 'power-off');
  await world.advance(seconds(30));
  await standbyReady(world);
  t.not(await exitOf(world, 'c0', 'standby'), standby);
  t.equal(await exitOf(world), active);
  t.equal(traffic.lost, 0);
});

t.test('an exit that comes and goes is not gone back to each time', async (t) => {
  const world = await warm();
  const flapping = await exitOf(world);
  const traffic = world.traffic('c0', 20);
  for (let n = 0; n < 20; n++) {
    world.sleep(flapping);
    await world.advance(seconds(4));
    world.wake(flapping);
    await world.advance(seconds(11));
  }
  const changes = world.events('c0').filter((code) => code === 'failed-over' || code === 'rotated').length;
  t.ok(changes <= 2, `${changes} changes in five minutes`);
  t.not(await exitOf(world), flapping);
  t.ok(traffic.lost < 20 * 2 * changes, `${traffic.lost} of ${traffic.sent} lost`);
  t.same(world.leaks, []);
});

t.test('no exit is left: traffic is held, its user is told, and it goes on as soon as one is back', async (t) => {
  const world = await warm({ exits: [{ region: 'eu' }, { region: 'ap' }] });
  const traffic = world.traffic('c0', 20);
  await world.advance(seconds(1));
  world.sleep('x0');
  world.sleep('x1');
  await world.advance(seconds(10));
  t.match(await world.session('c0'), { state: 'waiting' });
  t.match(await world.status('c0'), { problems: [/held/] });
  const silentSince = world.clock.monotonic();
  await world.advance(minutes(3));
  t.equal(traffic.resumedAfter(silentSince), undefined);
  t.same(world.leaks, [], 'nothing leaves outside');
  t.match(await world.session('c0'), { state: 'waiting' });
  world.wake('x1');
  const back = world.clock.monotonic();
  await world.until('traffic flows again', () => traffic.resumedAfter(back) !== undefined, seconds(60));
  await world.advance(seconds(2));
  t.match(await world.session('c0'), { state: 'up' });
  t.equal(await exitOf(world), 'x1');
  t.same(world.leaks, []);
});
