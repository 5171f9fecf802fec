import t from 'tap';
import { ms } from '../../src/model/time.js';
import { TimerWheel } from '../../src/transport/streams/timer-wheel.js';
import { seededRandom } from '../support/seeded-random.js';
import { VirtualClock } from '../support/virtual-clock.js';

const GRANULE = ms(250);

t.test('every deadline runs once, at its time or within one granule after it', async (t) => {
  for (const seed of [1, 2, 3]) {
    const random = seededRandom(seed);
    const clock = new VirtualClock();
    const wheel = new TimerWheel(clock, GRANULE, () => {});
    const lateness: number[] = [];
    let asked = 0;
    const ask = (depth: number) => {
      asked++;
      // Some lie several rounds of the wheel ahead.
      const delay = ms(Math.floor(random.fraction() ** 4 * 200_000));
      const due = clock.monotonic() + delay;
      const cancel = wheel.after(delay, () => {
        lateness.push(clock.monotonic() - due);
        if (depth > 0) ask(depth - 1);
      });
      if (random.fraction() < 0.2) {
        cancel();
        cancel();
        asked--;
      }
    };
    for (let i = 0; i < 300; i++) {
      ask(3);
      await clock.advance(Math.floor(random.fraction() * 700));
      t.ok(clock.pending <= 1, 'never more than one timer');
    }
    await clock.advance(1_000_000);
    t.equal(lateness.length, asked, `seed ${seed}`);
    t.ok(
      Math.min(...lateness) >= 0 && Math.max(...lateness) <= GRANULE + 1,
      `at most ${Math.max(...lateness)} ms late`,
    );
    t.equal(wheel.size, 0);
    t.equal(clock.pending, 0);
  }
});

t.test('an earlier deadline does not wait for a later one', async (t) => {
  const clock = new VirtualClock();
  const wheel = new TimerWheel(clock, GRANULE, () => {});
  const ran: string[] = [];
  wheel.after(ms(60_000), () => ran.push('far'));
  wheel.after(ms(1_000), () => {
    ran.push('near');
    wheel.after(ms(30_000), () => ran.push('middle'));
  });
  wheel.after(ms(2_000), () => ran.push('second'));
  await clock.advance(2_250);
  t.same(ran, ['near', 'second']);
  await clock.advance(60_000);
  t.same(ran, ['near', 'second', 'middle', 'far']);
});

t.test('after an hour asleep all that is due runs, in order', async (t) => {
  const clock = new VirtualClock();
  const wheel = new TimerWheel(clock, GRANULE, () => {});
  const ran: number[] = [];
  for (const delay of [90_000, 5_000, 300, 70_000]) wheel.after(ms(delay), () => ran.push(delay));
  clock.suspend(3_600_000);
  await clock.advance(1);
  t.same(ran, [300, 5_000, 70_000, 90_000]);
});

t.test('a task that throws is reported and stops no other', async (t) => {
  const clock = new VirtualClock();
  const failures: unknown[] = [];
  const wheel = new TimerWheel(clock, GRANULE, (thrown) => failures.push(thrown));
  let ran = 0;
  wheel.after(ms(100), () => {
    throw new Error('a bug');
  });
  wheel.after(ms(100), () => ran++);
  wheel.after(ms(5_000), () => ran++);
  await clock.advance(6_000);
  t.equal(ran, 2);
  t.equal(failures.length, 1);
});
