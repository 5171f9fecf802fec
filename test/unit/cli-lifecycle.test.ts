import t from 'tap';
import type { Io } from '../../src/cli/io.js';
import { lifecycle, watchSignals } from '../../src/cli/lifecycle.js';
import { VirtualClock } from '../support/virtual-clock.js';

function report() {
  const lines: string[] = [];
  return {
    lines,
    failed: (name: string, error: unknown) => void lines.push(`${name} failed: ${(error as Error).message}`),
    slow: (name: string) => void lines.push(`waits for ${name}`),
  };
}

t.test('what was started is stopped backwards, each awaited, also past a failure', async (t) => {
  const clock = new VirtualClock();
  const life = lifecycle(clock);
  const stopped: string[] = [];
  for (const name of ['the database', 'the network', 'the role']) {
    life.onStop(name, async () => {
      await Promise.resolve();
      stopped.push(name);
      if (name === 'the network') throw new Error('boom');
    });
  }
  const said = report();
  await life.stop(said);
  t.same(stopped, ['the role', 'the network', 'the database']);
  t.same(said.lines, ['the network failed: boom']);
  t.throws(() => life.onStop('more', () => void stopped.push('more')), { code: 'closed' });
  t.equal(stopped.at(-1), 'more', 'what comes too late is stopped at once');
  t.equal(clock.pending, 0);
});

t.test('whoever waits for a stop is told for what', async (t) => {
  const clock = new VirtualClock();
  const life = lifecycle(clock);
  let gone = (): void => {};
  life.onStop('the database', () => {});
  life.onStop('the supernode', () => new Promise<void>((resolve) => (gone = resolve)));
  const said = report();
  const stopping = life.stop(said);
  await clock.advance(2_000);
  t.same(said.lines, [], 'an ordinary stop is over by then');
  await clock.advance(60_000);
  t.same(said.lines, ['waits for the supernode']);
  gone();
  await stopping;
  t.equal(clock.pending, 0);
});

t.test('the first signal asks, the second ends', async (t) => {
  let signal = (): void => {};
  const said: string[] = [];
  const ended: number[] = [];
  const io: Io = {
    out: () => {},
    err: (text) => void said.push(text),
    env: {},
    interactive: false,
    exitNow: (status) => {
      ended.push(status);
      throw new Error('the process is gone');
    },
    onSignal: (listener) => {
      signal = listener;
      return () => {
        signal = () => {};
      };
    },
  };
  const signals = watchSignals(io);
  signal();
  await signals.first;
  t.same([said, ended], [[], []], 'in order');
  t.throws(signal, /the process is gone/);
  t.same(ended, [1]);
  t.match(said, [/^vpnd: ended at once, by a second signal; [^\n]+\n$/]);
  signals.close();
  signal();
  t.same(ended, [1], 'and then it is over');
});
