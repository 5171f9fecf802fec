import t from 'tap';
import { type MemberWorld, memberWorld } from '../support/member-world.js';
import { seededRandom } from '../support/seeded-random.js';

const EUROPE = { a: ['eu', 30], b: ['eu', 60], c: ['eu', 16], d: ['us', 120] } as const;

t.test('one line will do where nothing hangs on a second', async (t) => {
  const world = await memberWorld({ supernodes: EUROPE });
  world.member.start();
  await world.advance(60_000);
  t.same(world.at(), ['a', '-']);
  t.same(world.dials, ['a']);
  t.same(world.connectedAt(), ['a']);
  t.equal(world.member.main(), world.member.lines()[0]);
  t.equal(world.member.lineTo(world.named('b').self), undefined);

  await world.member.stop();
  await world.advance(10_000);
  t.same(world.connectedAt(), []);
  t.equal(world.clock.pending, 0, 'no timer is left');
});

t.test('a node whose supernode dies goes to the closest other of its region', async (t) => {
  const world = await memberWorld({ supernodes: { ...EUROPE, e: ['us', 1] } });
  world.member.start();
  await world.advance(20_000);
  world.kill('a');
  await world.advance(50_000);
  t.same(world.at(), ['c', '-'], 'not b, which is published before it, and not e of another region');
  world.revive('a');
  await world.advance(120_000);
  t.same(world.at(), ['c', '-'], 'nothing hangs on a');
});

t.test('every supernode that owns sessions here has a line, and loses it when the last has ended', async (t) => {
  const world = await memberWorld({ supernodes: EUROPE });
  world.member.start();
  await world.advance(1_000);
  world.state.homes = ['b', 'a'];
  await world.advance(3_000);
  t.same(world.at(), ['a', 'b']);
  t.equal(world.main(), 'b', 'the more important home is the main line');
  t.equal(world.member.upstream, world.member.lines()[1]?.upstream);
  t.equal(world.member.lineTo(world.named('a').self), world.member.lines()[0]);

  world.state.homes = ['b'];
  await world.advance(4_000);
  t.same(world.at(), ['a', 'b'], 'for a moment both stay: the last words of a session still go out');
  await world.advance(6_000);
  t.same(world.at(), ['-', 'b']);
  t.same(world.dials, ['a', 'b']);
  t.same(world.connectedAt(), ['b']);
});

t.test('when nothing hangs on either of two lines any more, the main one is the one that stays', async (t) => {
  for (const homes of [
    ['a', 'b'],
    ['b', 'a'],
    ['c', 'b'],
    ['b', 'c'],
    ['d', 'b'],
  ]) {
    const world = await memberWorld({ supernodes: EUROPE });
    world.member.start();
    await world.advance(1_000);
    world.state.homes = homes;
    await world.advance(30_000);
    t.same([...world.at()].sort(), [...homes].sort());
    world.state.homes = [];
    await world.advance(3_000);
    t.same([...world.at()].sort(), [...homes].sort(), 'both are still there');
    const main = world.main();
    await world.advance(10_000);
    t.equal(world.at().filter((at) => at !== '-').length, 1, 'one of them has gone to rest');
    t.equal(world.main(), main, `the other one: what was asked for over it is answered (${homes})`);
    await world.member.stop();
  }
});

t.test(
  'a home that could not be reached is taken up again by the second line, and the first stays until then',
  async (t) => {
    const world = await memberWorld({ supernodes: EUROPE });
    world.state.homes = ['a'];
    world.state.dead.add('a');
    world.member.start();
    await world.advance(40_000);
    t.equal(world.at()[0], 'c');
    await world.advance(300_000);
    t.same(world.at(), ['c', '-']);
    t.equal(world.main(), 'c');
    const before = world.events.length;
    world.revive('a');
    await world.advance(25_000);
    t.same(world.at(), ['-', 'a']);
    t.same(world.events.slice(before), ['up a', 'down c'], 'there was a line at every moment');
  },
);

t.test(
  'an exit whose supernode drains has a line elsewhere at once, and keeps the old one for its sessions',
  async (t) => {
    const world = await memberWorld({ supernodes: EUROPE });
    world.state.homes = ['a'];
    world.member.start();
    await world.advance(5_000);
    world.drain('a');
    await world.advance(200);
    t.same(world.at(), ['a', 'c']);
    await world.advance(600_000);
    t.same(world.at(), ['a', 'c'], 'as long as a owns sessions here');

    world.state.homes = ['a', 'c'];
    await world.advance(10_000);
    world.state.homes = ['c'];
    await world.advance(10_000);
    t.same(world.at(), ['-', 'c']);
    t.equal(world.main(), 'c');
    t.same(world.dials, ['a', 'c']);
    await world.advance(60_000);
    t.same(world.dials, ['a', 'c'], 'and nobody goes back to what drains');
  },
);

t.test('a supernode that drains with no session of the node loses it, with no moment without a line', async (t) => {
  const world = await memberWorld({ supernodes: EUROPE });
  world.member.start();
  await world.advance(5_000);
  world.drain('a');
  await world.advance(15_000);
  t.same(world.events, ['up a', 'up c', 'down a']);
  t.same(world.at(), ['-', 'c']);
});

t.test('where both homes drain, one line goes where new sessions are taken', async (t) => {
  const world = await memberWorld({ supernodes: EUROPE });
  world.state.homes = ['a', 'b'];
  world.member.start();
  await world.advance(5_000);
  t.same(world.at(), ['a', 'b']);
  world.drain('b');
  await world.advance(20_000);
  t.same(world.at(), ['a', 'b'], 'a takes new ones');
  world.drain('a');
  await world.advance(20_000);
  t.same(world.at(), ['a', 'c']);
});

t.test('a supernode that ends streams because it drains is not asked again at once', async (t) => {
  const world = await memberWorld({ supernodes: { a: ['eu', 10], b: ['eu', 20] } });
  world.member.start();
  await world.advance(5_000);
  world.state.draining.add('a');
  const { VpndError } = await import('../../src/model/errors.js');
  world.named('a').manager.disconnect(world.id, new VpndError('draining', 'this supernode is leaving'));
  await world.advance(1_000);
  t.same(world.dials, ['a', 'b']);
});

t.test(
  'with a second line wanted there are two, at two supernodes; when one dies the other is the main one',
  async (t) => {
    const world = await memberWorld({ role: 'client', supernodes: EUROPE });
    world.member.wantSecond(true);
    world.member.start();
    await world.advance(1_000);
    t.same(world.at(), ['a', 'b'], 'nothing was measured yet');
    world.state.homes = ['a'];
    await world.advance(20_000);

    world.kill('a');
    await world.advance(60_000);
    t.same(world.at(), ['c', 'b']);
    t.equal(world.main(), 'c');
    t.equal(world.events.filter((text) => text.startsWith('up b')).length, 1, 'b was not touched');
    world.revive('a');
    await world.advance(90_000);
    t.ok(world.at().includes('a'), 'the home is looked for, and found again');

    world.member.wantSecond(false);
    await world.advance(20_000);
    t.same(
      world.at().filter((name) => name !== '-'),
      ['a'],
    );
  },
);

t.test('with one supernode only, the second line costs nothing', async (t) => {
  const world = await memberWorld({ supernodes: { a: ['eu', 30] } });
  world.member.wantSecond(true);
  world.state.homes = ['a'];
  world.member.start();
  await world.advance(1_000);
  const said = world.log.lines.length;
  await world.advance(600_000);
  t.same(world.at(), ['a', '-']);
  t.same(world.dials, ['a']);
  t.same(
    world.log.lines.slice(said).map((line) => line.text),
    [],
    'and says nothing',
  );
  world.drain('a');
  await world.advance(60_000);
  t.same(world.at(), ['a', '-'], 'there is nowhere else to go');
});

t.test('without any sessions, an exit returns to its region when a supernode there is back', async (t) => {
  const world = await memberWorld({ supernodes: { a: ['eu', 30], d: ['us', 120] } });
  world.kill('a');
  world.member.start();
  await world.advance(60_000);
  t.equal(world.main(), 'd');
  const dialled = world.dials.length;
  await world.advance(600_000);
  t.equal(world.dials.length, dialled, 'its stream is not given up for one that does not answer');
  world.revive('a');
  await world.advance(30_000);
  t.equal(world.main(), 'a');
});

t.test(
  'the first eight supernodes a client names are those it may turn to: its homes, its lines, the nearest',
  async (t) => {
    const supernodes = Object.fromEntries(
      [...'abcdefghijklmnop'].map((name, i) => [name, [i < 12 ? 'eu' : 'us', 200 - 10 * i] as const]),
    );
    const world = await memberWorld({ role: 'client', supernodes });
    world.state.homes = ['p', 'k'];
    world.member.wantSecond(true);
    world.member.start();
    await world.advance(20_000);
    const first = () =>
      world.member
        .supernodes()
        .slice(0, 8)
        .map(({ id }) => world.nameOf(id));
    t.same(first(), ['p', 'k', 'c', 'b', 'a', 'o', 'n', 'm'], 'homes, then by round trip');
    world.state.homes = [];
    await world.advance(20_000);
    t.ok(first().includes('p') && first().includes('k'), 'lines stay within reach');
  },
);

t.test('two lines are never at one supernode, whatever happens; then every home is held again', async (t) => {
  for (let seed = 1; seed <= 12; seed++) {
    const world = await memberWorld({ role: seed % 2 === 0 ? 'client' : 'exit', seed, supernodes: EUROPE });
    const chance = seededRandom(seed + 100);
    const one = <T>(...from: readonly T[]): T => from[Math.floor(chance.fraction() * from.length)] as T;
    world.member.start();
    for (let step = 0; step < 60; step++) {
      misfortune(world, one);
      for (let n = 0; n < 20; n++) {
        await world.advance(chance.fraction() * 500);
        const places = world.member.lines().flatMap((line) => line.supervisor() ?? []);
        if (new Set(places).size !== places.length) t.fail(`both lines go to one supernode (seed ${seed})`);
      }
    }
    t.notOk(
      world.events.some((text) => text.includes('true')),
      `no stream replaced another (seed ${seed})`,
    );
    for (const name of world.state.dead) world.revive(name);
    world.state.draining.clear();
    world.drain('d');
    for (const name of ['a', 'b', 'c', 'd']) {
      const { manager } = world.named(name);
      world.state.draining.clear();
      manager.send(world.id, { kind: 'event', news: { kind: 'directory', supernodes: world.directory() } });
    }
    world.state.homes = ['b', 'c'];
    await world.advance(180_000);
    t.same([...world.at()].sort(), ['b', 'c'], `homes are held (seed ${seed})`);
    await world.member.stop();
  }
});

function misfortune(world: MemberWorld, one: <T>(...from: readonly T[]) => T): void {
  const name = one('a', 'b', 'c', 'd');
  const { state } = world;
  switch (one('kill', 'revive', 'cut', 'homes', 'homes', 'want', 'drain', 'network')) {
    case 'kill':
      if (state.dead.size < 3) world.kill(name);
      break;
    case 'revive':
      world.revive(name);
      break;
    case 'cut':
      for (const { to, cable } of world.streams) if (to === name) cable.cut();
      break;
    case 'homes':
      state.homes = [...new Set([one('a', 'b', 'c', 'd'), one('a', 'b', 'c', 'd')])].slice(0, one(0, 1, 2));
      break;
    case 'want':
      world.member.wantSecond(one(true, false));
      break;
    case 'drain':
      world.drain(name);
      break;
    case 'network':
      world.changeNetwork({ fingerprint: `wlan${one(0, 1, 2)}`, connected: one(true, true, false) });
      if (!state.network.connected) world.changeNetwork({ fingerprint: 'wlan9', connected: true });
  }
}
