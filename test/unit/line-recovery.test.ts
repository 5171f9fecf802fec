import t from 'tap';
import { hours } from '../../src/model/time.js';
import { memberWorld } from '../support/member-world.js';

const SUPERNODES = { a: ['eu', 20], b: ['eu', 30], c: ['us', 90] } as const;
const CABLE = { fingerprint: 'eth0 192.0.2.99', connected: true };
const WIFI = { fingerprint: 'wlan0 192.0.2.7', connected: true };
const NONE = { fingerprint: '', connected: false };

async function connected() {
  const world = await memberWorld({ supernodes: SUPERNODES });
  world.state.homes = ['a', 'b'];
  world.member.start();
  await world.advance(20_000);
  world.events.length = 0;
  world.dials.length = 0;
  world.vouches.length = 0;
  world.probes.length = 0;
  return world;
}

t.test(
  'from Wi-Fi to cable: both lines are back within a fraction of a second, and UDP is vouched for anew',
  async (t) => {
    const world = await connected();
    world.changeNetwork(CABLE);
    await world.advance(250);
    t.same(world.at(), ['a', 'b']);
    t.same(world.dials, ['a', 'b']);
    t.same(world.events, ['down a', 'down b', 'network eth0 192.0.2.99', 'up a', 'up b']);
    t.same(world.vouches, ['a', 'b']);
    await world.advance(2_000);
    t.same([...new Set(world.probes)].sort(), ['a', 'b', 'c'], 'round trips are measured again');
    await world.advance(600_000);
    t.same(world.dials, ['a', 'b'], 'once');
  },
);

t.test('without a network nothing is dialled in a hurry; when it is back, everything at once', async (t) => {
  const world = await connected();
  world.changeNetwork(NONE);
  t.same(world.events, ['network gone'], 'whether the streams live on is not known yet');
  await world.advance(600_000);
  t.same(world.at(), ['-', '-']);
  t.ok(world.dials.length < 350, `${world.dials.length} dials in ten minutes`);
  const before = world.dials.length;
  world.changeNetwork(CABLE);
  await world.advance(250);
  t.same(world.at(), ['a', 'b']);
  t.same(world.dials.slice(before), ['a', 'b']);
});

t.test('a cable that is pulled and put back: dialled anew at once, before anybody hears of it', async (t) => {
  const world = await connected();
  world.changeNetwork(NONE);
  await world.advance(3_000);
  world.changeNetwork(WIFI);
  await world.advance(250);
  t.same(world.at(), ['a', 'b']);
  t.same(world.dials, ['a', 'b']);
  t.same(world.events, ['network gone', 'down a', 'down b', 'network wlan0 192.0.2.7', 'up a', 'up b']);
  t.same(world.vouches, ['a', 'b']);
});

t.test('the same state told twice changes nothing', async (t) => {
  const world = await connected();
  world.changeNetwork(WIFI, true);
  await world.advance(5_000);
  t.same(world.events, []);
  t.same(world.dials, []);
});

t.test(
  'an exit whose NAT forgot it notices within seconds where sessions hang on it; others at the next ping',
  async (t) => {
    const world = await connected();
    world.rebind();
    await world.advance(2_500);
    t.same(world.at(), ['a', 'b']);
    t.same([...world.dials].sort(), ['a', 'b'], 'each once, whichever was to ping first');

    const client = await memberWorld({ role: 'client', supernodes: SUPERNODES });
    client.state.homes = ['a'];
    client.member.start();
    await client.advance(21_000);
    client.rebind();
    await client.advance(5_000);
    t.equal(client.dials.length, 1, 'a client notices by its tunnel, and lets its radio sleep');
    await client.advance(6_000);
    t.same(client.at(), ['a', '-']);
    t.equal(client.dials.length, 2);
  },
);

t.test('waking after an hour: both lines at once, and one word of it', async (t) => {
  const world = await connected();
  for (const { cable } of world.streams) cable.silence();
  world.clock.suspend(hours(1));
  await world.advance(250);
  t.same(world.at(), ['a', 'b']);
  t.same(
    world.events.slice(0, 3).map((text) => text.split(' ')[0]),
    ['down', 'down', 'woke'],
    'it is told when nothing can be sent on a dead stream any more',
  );
  t.same(world.events.slice(3).sort(), ['up a', 'up b']);
  t.same([...world.dials].sort(), ['a', 'b']);
  await world.advance(10_000);
  t.same([...new Set(world.probes)].sort(), ['a', 'b', 'c'], 'it may have travelled');

  world.events.length = 0;
  world.clock.suspend(hours(8));
  await world.advance(250);
  t.same(
    world.events.filter((text) => text === 'woke'),
    ['woke'],
    'and each time again',
  );
});

t.test('waking where there is no network yet: connected as soon as there is', async (t) => {
  const world = await connected();
  world.changeNetwork(NONE);
  world.clock.suspend(hours(1));
  await world.advance(20_000);
  t.same(world.at(), ['-', '-']);
  world.changeNetwork(CABLE);
  await world.advance(250);
  t.same(world.at(), ['a', 'b']);
});
