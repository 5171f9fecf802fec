import t from 'tap';
import { toVpndError } from '../../src/model/errors.js';
import { minutes, seconds } from '../../src/model/time.js';
import { draining, inRegion, relayed, supervisor } from '../support/overlay-world/drain.js';
import { violations } from '../support/overlay-world/invariants.js';
import { relaysOf } from '../support/overlay-world/scenes.js';
import { overlayWorld } from '../support/overlay-world.js';

t.test('a client’s supernode is drained: fifty sessions go elsewhere, and no packet is lost', async (t) => {
  const world = await overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'us' }],
    exits: inRegion('eu', 2),
    clients: relayed('us', 50),
  });
  const clients = world.of('client').map((one) => one.name);
  for (const name of clients) await world.up(name);
  const traffic = clients.map((name, i) => world.traffic(name, i < 10 ? 20 : 2));
  const before = new Map<string, number>();
  for (const name of clients) {
    const at = (await supervisor(world, name)) ?? '';
    before.set(at, (before.get(at) ?? 0) + 1);
  }
  const leaving = (before.get('a') ?? 0) >= (before.get('c') ?? 0) ? 'a' : 'c';
  const steps = await world.clock.run(draining(world, leaving));
  t.match(steps.at(0), { sessions: before.get(leaving), done: false });
  t.match(steps.at(-1), { sessions: 0, done: true, timedOut: false });
  await world.advance(seconds(2));
  for (const [i, name] of clients.entries()) {
    t.match(await world.session(name), { state: 'up' }, name);
    t.ok(world.way(name).ok, `${name} has a way`);
    t.not(await supervisor(world, name), leaving);
    t.equal(traffic[i]?.lost, 0, `${name} lost nothing`);
  }
  t.same(world.node(leaving).sessionUnits(), [], 'nothing is left on it');
  t.same(world.node(leaving).sessionRecords(), []);
  t.same(violations(world.all()), []);
  t.same(world.leaks, []);
});

for (const [client, exit] of [
  ['port-preserving', 'port-preserving'],
  ['random', 'random'],
  ['random', 'none'],
] as const) {
  t.test(`the same with clients that go direct where they can: ${client} and ${exit}`, async (t) => {
    const world = await overlayWorld({
      supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'us' }],
      exits: inRegion('eu', 2).map((one) => ({ ...one, nat: exit })),
      clients: inRegion('us', 6).map((one) => ({ ...one, nat: client })),
    });
    const clients = world.of('client').map((one) => one.name);
    for (const name of clients) await world.up(name);
    const traffic = clients.map((name, i) => world.traffic(name, [50, 10, 1][i % 3]));
    await world.advance(seconds(10));
    const leaving = (await supervisor(world, 'c0')) ?? '';
    const steps = await world.clock.run(draining(world, leaving));
    t.match(steps.at(-1), { sessions: 0, done: true, timedOut: false });
    // Each session that took the place of another one tries to go direct, some of them several times.
    await world.advance(seconds(25));
    for (const [i, name] of clients.entries()) {
      t.match(await world.session(name), { state: 'up' }, name);
      t.equal(traffic[i]?.lost, 0, `${name}: of ${traffic[i]?.sent}`);
      const direct = relaysOf(world.way(name)).length === 0;
      if (client !== 'random') t.ok(direct, `${name} is direct again`);
      else if (exit === 'random') t.notOk(direct);
    }
    t.same(world.node(leaving).sessionUnits(), []);
    t.same(violations(world.all()), []);
    t.same(world.leaks, []);
  });
}

t.test('an exit’s supernode is drained: the exit is reached over another, also by who names it', async (t) => {
  const world = await overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'eu' }],
    exits: inRegion('eu', 1),
    clients: relayed('us', 3),
  });
  const leaving = (await supervisor(world, 'x0')) ?? '';
  await world.up('c0');
  await world.up('c1', { exit: world.node('x0').id });
  await world.up('c2');
  const traffic = ['c0', 'c1', 'c2'].map((name) => world.traffic(name, 10));
  const open = world.connection('c1', 20);
  world.clock.after(seconds(30), () => open.stop());
  const steps = await world.clock.run(draining(world, leaving));
  t.match(steps.at(-1), { sessions: 0, done: true });
  await world.advance(seconds(2));
  for (const [i, name] of ['c0', 'c1', 'c2'].entries()) {
    const way = world.way(name);
    t.match(way, { ok: true, exit: { name: 'x0' } });
    t.notOk(way.ok && way.hops.some((hop) => hop.startsWith(`${leaving}:`)), `${name} does not go over ${leaving}`);
    t.equal(traffic[i]?.lost, 0);
  }
  t.ok(open.sent > 500);
  t.equal(open.lost, 0, 'what was open went on over the old tunnel until it ended');
  t.not(await supervisor(world, 'x0'), leaving);
  t.same(world.node(leaving).sessionUnits(), []);
});

t.test('client, exit and session at one supernode: all of them leave it', async (t) => {
  const world = await overlayWorld({
    supernodes: [{ region: 'eu' }, { region: 'eu' }],
    exits: inRegion('eu', 1),
    clients: inRegion('eu', 1),
  });
  const leaving = (await supervisor(world, 'c0')) ?? '';
  await world.up('c0');
  const traffic = world.traffic('c0');
  const steps = await world.clock.run(draining(world, leaving));
  t.match(steps.at(-1), { done: true });
  await world.advance(seconds(10));
  t.match(world.way('c0'), { ok: true });
  t.equal(traffic.lost, 0);
  t.same(
    await Promise.all(['c0', 'x0'].map((name) => supervisor(world, name))).then((all) => all.includes(leaving)),
    false,
  );
  t.same(world.node(leaving).sessionUnits(), []);
});

t.test('one that drains takes nobody in and is left out of everything', async (t) => {
  const world = await overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }],
    exits: inRegion('eu', 1),
    clients: inRegion('us', 2),
  });
  await world.clock.run(draining(world, 'a'));
  t.match(await world.status('a'), { facts: { draining: 'yes' }, problems: [/everybody has gone elsewhere/] });
  await world.restart('c1');
  await world.untilConnected(['c0', 'c1']);
  t.equal(await supervisor(world, 'c0'), 'b');
  t.equal(await supervisor(world, 'c1'), 'b', 'though it knows from its disk where it was');
  t.equal(await world.refusal('c1'), undefined);
  await world.restart('a');
  await world.advance(seconds(30));
  t.match(await world.status('a'), { facts: { draining: 'no' } }, 'until it is started again');
  await world.advance(minutes(2));
  t.equal(await supervisor(world, 'c0'), 'a', 'and then it serves its region as before');
});

t.test('who reaches no other supernode keeps its session, and is told why it gets no new one', async (t) => {
  const world = await overlayWorld({ supernodes: [{ region: 'us' }, { region: 'eu' }], clients: relayed('us', 2) });
  await world.up('c0');
  for (const name of ['c0', 'c1']) world.partition(name, 'b', 'control');
  const steps = await world.clock.run(draining(world, 'a', seconds(30)));
  t.match(steps.at(-1), { sessions: 1, done: false, timedOut: true });
  t.match(world.way('c0'), { ok: true });
  world.internet.reset(world.node('a').ip, world.node('c0').ip);
  await world.advance(seconds(2));
  await world.untilConnected(['c0']);
  t.equal(await supervisor(world, 'c0'), 'a', 'who has a session there may come back');
  // Its disk does not say who drains, and it knows nobody else.
  const { length } = world.said('a', /stream refused: this supernode is being taken out of service/);
  await world.restart('c1');
  await world.advance(seconds(40));
  t.notOk(await world.connected('c1'), 'others may not');
  t.ok(world.said('a', /stream refused: this supernode is being taken out of service/).length > length);
  await world.down('c0');
  const refused = await world.refusal('c0');
  t.match(refused, { code: 'draining', details: { next: '198.51.100.11:443' } });
});

t.test('without another supernode there is nowhere to go', async (t) => {
  const world = await overlayWorld({
    supernodes: [{ region: 'eu' }],
    clients: inRegion('eu', 1),
  });
  await world.up('c0');
  const refused = await world.outcome(draining(world, 'a'));
  t.match(refused, { code: 'unreachable', message: 'there is no other supernode to move to' });
  t.match(await world.status('a'), { facts: { draining: 'no' } });
  const other = await overlayWorld({ clients: inRegion('us', 1) });
  other.crash('b', 'power-off');
  t.match(
    await other.clock.run(draining(other, 'a').catch(toVpndError)),
    { code: 'unreachable' },
    'one that is away is none',
  );
});

t.test('a stop drains first, and a restart takes up what could not go', async (t) => {
  const world = await overlayWorld({
    supernodes: [{ region: 'us', drainTimeout: seconds(15) }, { region: 'eu' }, { region: 'us' }],
    exits: inRegion('eu', 2),
    clients: relayed('us', 4),
  });
  const clients = ['c0', 'c1', 'c2', 'c3'];
  for (const name of clients) await world.up(name);
  const traffic = clients.map((name) => world.traffic(name, 10));
  const began = world.clock.monotonic();
  t.same(await world.stop('a'), [], 'nothing is left in its kernel');
  t.ok(world.clock.monotonic() - began < 15_000, 'and it did not have to wait for long');
  await world.restart('a');
  await world.advance(seconds(20));
  for (const [i, name] of clients.entries()) {
    t.equal(traffic[i]?.lost, 0);
    t.match(await world.session(name), { state: 'up' });
  }

  const stuck = await overlayWorld({
    supernodes: [{ region: 'us', drainTimeout: seconds(15) }, { region: 'eu' }],
    clients: inRegion('us', 1),
  });
  await stuck.up('c0');
  const carried = stuck.traffic('c0', 20);
  const session = (await stuck.session('c0'))?.sessionId;
  stuck.partition('c0', 'b', 'control');
  const stopped = stuck.clock.monotonic();
  t.match(await stuck.stop('a'), [/relay/]);
  t.ok(stuck.clock.monotonic() - stopped < 16_000);
  await stuck.restart('a');
  await stuck.untilConnected(['c0']);
  t.equal((await stuck.session('c0'))?.sessionId, session);
  t.equal(carried.lost, 0);
});
