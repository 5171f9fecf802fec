import { setTimeout as pause } from 'node:timers/promises';
import { monotonicMs } from '../load/crowd.js';
import type { Generators } from './size.js';
import type { MeasuredSupernode } from './supernode.js';

const LIMIT_MS = 90_000;
const LOOK_MS = 250;
const STAY_MS = 10_000;

export interface Storm {
  readonly streams: number;
  /** From the kill to the last stream that was back; undefined where some never were. */
  readonly seconds: number | undefined;
  readonly startedAfterSeconds: number;
  readonly back: number;
  /** Streams that were back and broke again. */
  readonly lostAgain: number;
  readonly cpuSeconds: { readonly supernode: number; readonly generators: number };
  /** Attempts that failed, by what they were told. */
  readonly failures: Readonly<Record<string, number>>;
  /** How many were back, second by second. */
  readonly progress: readonly number[];
}

/** Kills the supernode's process with all its streams, starts it again at once, and waits until everybody is back. */
export async function measureStorm(supernode: MeasuredSupernode, generators: Generators): Promise<Storm> {
  const counts = () => generators.counts();
  const sum = (numbers: readonly number[]) => numbers.reduce((all, one) => all + one, 0);
  const before = await counts();
  const streams = sum(before.map((one) => one.up));
  const generatorsBefore = generators.cpu();
  const killed = monotonicMs();
  await supernode.node.crash();
  supernode.restart();
  await supernode.node.process.waitForLine(/ ready: /);
  const started = monotonicMs();
  const progress: number[] = [];
  let now = await counts();
  while (sum(now.map((one) => one.up)) < streams && monotonicMs() - killed < LIMIT_MS) {
    await pause(LOOK_MS);
    now = await counts();
    progress[Math.floor((monotonicMs() - killed) / 1000)] = sum(now.map((one) => one.up));
  }
  const cpuSeconds = { supernode: supernode.cpu(), generators: generators.cpu() - generatorsBefore };
  const lastUp = Math.max(...now.map((one) => one.lastUp));
  await pause(STAY_MS);
  const after = await counts();
  const back = sum(after.map((one) => one.up));
  return {
    streams,
    seconds: back >= streams ? (lastUp - killed) / 1000 : undefined,
    startedAfterSeconds: (started - killed) / 1000,
    back,
    lostAgain: sum(after.map((one) => one.lost)) - sum(before.map((one) => one.lost)) - streams,
    cpuSeconds,
    failures: difference(
      before.map((one) => one.failures),
      after.map((one) => one.failures),
    ),
    progress: Array.from(progress, (one) => one ?? 0),
  };
}

function difference(
  before: readonly Readonly<Record<string, number>>[],
  after: readonly Readonly<Record<string, number>>[],
): Record<string, number> {
  const total: Record<string, number> = {};
  for (const one of after) for (const [what, n] of Object.entries(one)) total[what] = (total[what] ?? 0) + n;
  for (const one of before) for (const [what, n] of Object.entries(one)) total[what] = (total[what] ?? 0) - n;
  return Object.fromEntries(Object.entries(total).filter(([, n]) => n > 0));
}
