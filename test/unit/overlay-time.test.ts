import t from 'tap';
import { days, minutes, seconds } from '../../src/model/time.js';
import { overlayWorld } from '../support/overlay-world.js';

/** Short, so that its end is soon. */
const LEASE = minutes(9);

t.test('a session is renewed for as long as it is wanted', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  await world.up('c0');
  const { sessionId, leaseUntilMs = 0n } = (await world.session('c0')) ?? {};
  for (let n = 0; n < 12; n++) {
    await world.advance(minutes(3));
    const session = await world.session('c0');
    t.equal(session?.sessionId, sessionId);
    t.ok(Number(session?.leaseUntilMs) > world.clock.now() + LEASE / 2, 'never near its end');
    t.match(world.way('c0'), { ok: true });
  }
  t.ok(Number(leaseUntilMs) < world.clock.now());
  t.equal(world.said('c0', /lost/).length, 0);
  await world.down('c0');
  t.same(world.residue(), []);
});

t.test('a laptop that slept for long gets a session by itself, and leaks nothing before', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  await world.up('c0');
  const before = (await world.session('c0'))?.sessionId;
  world.sleep('c0');
  await world.advance(2 * LEASE);
  t.same(
    ['a', 'b', 'x0'].flatMap((name) => world.node(name).sessionUnits()),
    [],
    'nobody keeps a place for it',
  );
  let held = true;
  world.wake('c0');
  for (let n = 0; n < 300 && !world.way('c0').ok; n++) {
    held &&= /full-tunnel/.test(world.node('c0').print());
    await world.advance(100);
  }
  await world.advance(seconds(2));
  t.ok(held, 'its routes stayed all the time');
  t.match(await world.session('c0'), { state: 'up' });
  t.not((await world.session('c0'))?.sessionId, before);
  t.match(world.way('c0'), { ok: true });
  await world.down('c0');
  t.same(world.residue(), []);
});

t.test('a nap within the lease costs nothing', async (t) => {
  const world = await overlayWorld();
  await world.up('c0');
  const before = (await world.session('c0'))?.sessionId;
  world.sleep('c0');
  await world.advance(minutes(2));
  world.wake('c0');
  await world.advance(seconds(10));
  t.ok(await world.connected('c0'));
  t.equal((await world.session('c0'))?.sessionId, before);
  t.match(world.way('c0'), { ok: true });
});

t.test('the client moves to another network: its relay lets the new address in', async (t) => {
  const world = await overlayWorld();
  await world.up('c0');
  const before = (await world.session('c0'))?.sessionId;
  world.move('c0', '192.0.2.77');
  t.match(world.way('c0'), { ok: false });
  const took = await world.until('its packets pass again', () => world.way('c0').ok, minutes(2));
  t.ok(took < 50_000, `${took} ms`);
  t.match(world.node('a').print(), /vouched 192.0.2.77 /, 'and the old one out');
  await world.advance(seconds(30));
  t.equal((await world.session('c0'))?.sessionId, before);
  await world.down('c0');
  t.same(world.residue(), []);
});

t.test('the exit moves to another network', async (t) => {
  const world = await overlayWorld();
  await world.up('c0');
  const before = (await world.session('c0'))?.sessionId;
  world.move('x0', '192.0.2.78');
  const took = await world.until('packets pass again', () => world.way('c0').ok, minutes(2));
  t.ok(took < 50_000, `${took} ms`);
  await world.advance(seconds(30));
  t.equal((await world.session('c0'))?.sessionId, before);
  await world.down('c0');
  t.same(world.residue(), []);
});

t.test('a NAT that sends UDP from another address than TCP', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  for (const name of ['c0', 'x0']) {
    const machine = world.node(name);
    machine.udpIp = `192.0.2.${machine.ip.split('.')[3]}` as typeof machine.ip;
    await world.restart(name);
  }
  await world.untilConnected(['c0', 'x0']);
  await world.advance(seconds(3));
  await world.up('c0');
  t.match(world.way('c0'), { ok: true });
  await world.advance(2 * LEASE);
  t.match(world.way('c0'), { ok: true }, 'renewals keep it');
  await world.down('c0');
  t.same(world.residue(), []);
});

t.test('memberships and certificates are renewed long before they end, under running sessions', async (t) => {
  const world = await overlayWorld({ base: { membershipTtl: minutes(20), certificateTtl: minutes(15) } });
  await world.up('c0');
  const before = (await world.session('c0'))?.sessionId;
  const names = ['a', 'b', 'x0', 'c0'];
  const since = () => Promise.all(names.map(async (name) => (await world.upstream(name))?.sinceMs));
  const streams = await since();
  const ends = async () =>
    Promise.all(names.map(async (name) => Number((await world.status(name)).membershipNotAfterMs)));
  for (let n = 0; n < 12; n++) {
    await world.advance(minutes(5));
    for (const end of await ends()) t.ok(end > world.clock.now() + minutes(3));
  }
  t.equal((await world.session('c0'))?.sessionId, before);
  t.same(await since(), streams, 'no stream ended for it');
  for (const name of ['c0', 'x0']) world.crash(name);
  for (const name of ['c0', 'x0']) await world.restart(name);
  await world.untilConnected(['c0', 'x0']);
  t.equal((await world.session('c0'))?.sessionId, before, 'new streams are let in by what was renewed');
  t.equal(world.lines.filter((line) => /could not be renewed/.test(line.text)).length, 0);
  await world.down('c0');
  t.equal(await world.refusal('c0'), undefined);
});

t.test('base is away while memberships would be renewed: they are as soon as it is back', async (t) => {
  const world = await overlayWorld({ base: { membershipTtl: minutes(30), certificateTtl: minutes(30) } });
  await world.up('c0');
  world.crash('base');
  await world.advance(minutes(22));
  t.match(world.way('c0'), { ok: true });
  await world.restart('base');
  await world.untilConnected(['a', 'b']);
  await world.advance(minutes(3));
  for (const name of ['a', 'b', 'x0', 'c0'])
    t.ok(Number((await world.status(name)).membershipNotAfterMs) > world.clock.now() + minutes(25), name);
  t.match(world.way('c0'), { ok: true });
});

t.test('everything was switched off for forty days', async (t) => {
  const world = await overlayWorld();
  await world.up('c0');
  await world.down('c0');
  const names = ['base', 'a', 'b', 'x0', 'c0'];
  for (const name of names) world.crash(name);
  world.clock.suspend(days(40));
  for (const name of names) await world.restart(name);
  await world.untilConnected(['a', 'b', 'x0', 'c0']);
  // Who is there goes around a moment after everybody is.
  await world.advance(seconds(3));
  t.equal(await world.refusal('c0', { region: 'eu' }), undefined);
  t.match(world.way('c0'), { ok: true });
});

t.test('the same seed runs the same, another one otherwise', async (t) => {
  const run = async (seed: number) => {
    const world = await overlayWorld({ seed });
    await world.up('c0');
    world.crash('a');
    await world.advance(seconds(7));
    await world.restart('a');
    await world.untilConnected(['c0', 'x0']);
    await world.down('c0');
    const said = world.lines.map(({ at, node, text, fields }) => `${at} ${node} ${text} ${fields.session_id}`);
    return [...said, world.print()].join('\n');
  };
  const first = await run(1);
  t.equal(await run(1), first);
  t.not(await run(2), first);
});
