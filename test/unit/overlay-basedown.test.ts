import t from 'tap';
import { minutes, seconds } from '../../src/model/time.js';
import { exitOf, standbyReady, warm } from '../support/overlay-world/scenes.js';

/** What base knows everybody has on disk: directory, memberships, keys. It may be away for as long as they hold. */
t.test('base is down for ten minutes: running sessions notice nothing', async (t) => {
  const world = await warm();
  const traffic = world.traffic('c0', 20);
  const before = await world.session('c0');
  world.crash('base', 'power-off');
  await world.advance(minutes(10));
  t.equal(traffic.lost, 0);
  t.equal((await world.session('c0'))?.sessionId, before?.sessionId);
  await world.restart('base');
  await world.untilConnected(['a', 'b', 'c']);
  await world.advance(minutes(1));
  t.equal(traffic.lost, 0);
});

t.test('base is down: connects, reconnects, rotations and failovers go on', async (t) => {
  const world = await warm({ clients: [{ region: 'us', standby: true }, { region: 'eu' }] });
  world.crash('base', 'power-off');
  await world.advance(minutes(3));

  t.equal(await world.refusal('c1'), undefined, 'another client connects');
  await world.down('c1');
  for (const name of ['c1', 'x2']) await world.restart(name);
  await world.untilConnected(['c1', 'x2']);
  t.equal(await world.refusal('c1', { region: 'ap' }), undefined, 'and again after a restart');

  const traffic = world.traffic('c0', 20);
  await world.advance(seconds(1));
  await world.rotate('c0');
  await world.advance(seconds(10));
  t.equal(traffic.lost, 0, 'a rotation');
  await standbyReady(world);

  const dying = await exitOf(world);
  const at = world.clock.monotonic();
  world.crash(dying, 'power-off');
  await world.advance(seconds(10));
  t.ok((traffic.resumedAfter(at + 60) ?? Number.POSITIVE_INFINITY) <= 1_500, 'a failover');
  t.not(await exitOf(world), dying);

  world.internet.reset(world.node('a').ip, world.node('c0').ip);
  await world.untilConnected(['c0'], 15_000);
  await world.restart('b');
  await world.untilConnected(
    ['x0', 'x2'].filter((name) => name !== dying),
    30_000,
  );
  await world.advance(minutes(5));
  t.match(await world.session('c0'), { state: 'up' });
  t.ok(world.way('c0').ok);
  t.same(world.leaks, []);
});
