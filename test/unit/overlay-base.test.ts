import t from 'tap';
import { minutes, seconds } from '../../src/model/time.js';
import { draining, inRegion, relayed, supervisor } from '../support/overlay-world/drain.js';
import { violations } from '../support/overlay-world/invariants.js';
import { overlayWorld } from '../support/overlay-world.js';

t.test(
  'base is down for ten minutes: connects, reconnects and new sessions go on from what everybody has',
  async (t) => {
    const world = await overlayWorld({
      supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'eu' }],
      exits: inRegion('eu', 2),
      clients: relayed('us', 4),
    });
    await world.up('c0');
    const traffic = world.traffic('c0', 5);
    world.crash('base', 'power-off');
    for (let minute = 0; minute < 10; minute++) {
      await world.advance(minutes(1));
      const name = ['c1', 'c2', 'c3'][minute % 3] ?? '';
      const began = world.clock.monotonic();
      t.equal(await world.refusal(name, { region: 'eu' }), undefined);
      t.ok(world.clock.monotonic() - began < 2_000, 'base, which does not answer, holds nobody up');
      t.match(world.way(name), { ok: true });
      await world.down(name);
      for (const node of [name, `x${minute % 2}`]) {
        const at = world.node((await supervisor(world, node)) ?? '');
        world.internet.reset(at.ip, world.node(node).ip);
      }
      if (minute === 4) for (const node of ['a', 'x0', 'c0']) await world.restart(node);
      await world.untilConnected([name, 'c0', 'x0', 'x1']);
    }
    t.equal(traffic.lost, 0);
    const way = world.way('c0');
    const exit = way.ok ? way.exit.name : '';
    world.crash(exit, 'power-off');
    await world.advance(seconds(15));
    const other = world.way('c0');
    t.match(other, { ok: true }, 'an exit dies: another one takes over');
    t.not(other.ok && other.exit.name, exit);
    await world.restart('base');
    await world.untilConnected(['a', 'b', 'c']);
    await world.advance(seconds(5));
    t.same(violations(world.all()), []);
  },
);

t.test(
  'base is down while a supernode drains: its peers hear it from itself, the others when they ask it',
  async (t) => {
    const world = await overlayWorld({
      supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'eu' }],
      exits: inRegion('eu', 2),
      clients: inRegion('us', 3),
    });
    world.crash('base', 'power-off');
    await world.advance(minutes(3));
    const leaving = (await supervisor(world, 'x0')) ?? '';
    await world.up('c0', { exit: world.node('x0').id });
    await world.up('c1');
    const traffic = ['c0', 'c1'].map((name) => world.traffic(name, 5));
    const began = world.clock.monotonic();
    const steps = await world.clock.run(draining(world, leaving));
    t.ok(world.clock.monotonic() - began < seconds(15), 'exits move as soon as they hear of it');
    t.match(steps.at(-1), { done: true });
    t.equal(await world.refusal('c2', { region: 'eu' }), undefined, 'a new session finds an exit');
    await world.restart('c0');
    await world.restart('x0');
    await world.untilConnected(['c0', 'x0']);
    t.not(await supervisor(world, 'x0'), leaving);
    await world.advance(minutes(7));
    for (const name of ['c0', 'c1', 'c2']) t.match(world.way(name), { ok: true });
    t.same(
      traffic.map((one) => one.lost),
      [0, 0],
    );
    t.same(world.node(leaving).sessionUnits(), []);
  },
);
