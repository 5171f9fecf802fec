import t from 'tap';
import { steadyClock } from '../../src/core/steady-clock.js';
import { minutes, seconds } from '../../src/model/time.js';
import { overlayWorld } from '../support/overlay-world.js';
import { VirtualClock } from '../support/virtual-clock.js';

const LEASE = minutes(1);
const HOUR = minutes(60);

for (const [name, by] of [
  ['a', HOUR],
  ['b', HOUR],
  ['x0', HOUR],
  ['c0', HOUR],
  ['x0', -HOUR],
] as const) {
  const where = by > 0 ? 'an hour ahead' : 'an hour back';
  t.test(
    `somebody sets the clock of ${name} ${where}: its sessions live on, lose nothing and end as they would have`,
    async (t) => {
      const world = await overlayWorld({ lease: LEASE });
      await world.up('c0', { region: 'eu' });
      await world.advance(seconds(20));
      const before = (await world.session('c0'))?.sessionId;
      const traffic = world.traffic('c0', 2);
      // Not for longer: with such a clock nobody's certificate is valid, and nothing can be renewed.
      world.node(name).skew = by;
      await world.advance(LEASE / 2);
      world.node(name).skew = 0;
      await world.advance(2 * LEASE);
      t.equal((await world.session('c0'))?.sessionId, before);
      t.equal(traffic.lost, 0);
      traffic.stop();

      world.node(name).skew = by;
      world.crash('c0', 'power-off');
      await world.advance(2 * LEASE);
      t.same(
        ['a', 'b', 'x0'].flatMap((one) => world.node(one).sessionUnits()),
        [],
        'nobody renews it: its lease ends it everywhere',
      );
    },
  );
}

t.test('a client whose lease ran out says so to a supernode that would renew it', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  await world.up('c0', { region: 'eu' });
  const before = (await world.session('c0'))?.sessionId;
  // Renewals do not arrive, and the supernode thinks that all is well.
  world.node('a').tampering.sends = (message) =>
    message.kind === 'event' && message.news.kind === 'session-renewed' ? undefined : message;
  await world.until('it gave the session up', () => world.said('c0', /was lost/).length > 0, 5 * LEASE);
  await world.advance(seconds(5));
  const records = ['a', 'b', 'x0'].flatMap((name) => world.node(name).sessionRecords());
  t.notOk(
    records.some((one) => one.includes(String(before))),
    'nothing of it is left',
  );
});

t.test('a steady clock', async (t) => {
  const clock = new VirtualClock();
  const steady = steadyClock(clock);
  const began = steady.now();
  t.equal(began, clock.now());
  clock.setWall((began + minutes(60)) as typeof began);
  t.equal(steady.now(), began);
  await clock.advance(1_500);
  t.equal(steady.now(), began + 1_500);
  t.equal(steady.monotonic(), clock.monotonic());
});
