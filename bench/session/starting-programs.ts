import { type Launch, type Launched, launch } from '../../dataplane/launch.js';
import { startLauncher } from '../../dataplane/launcher.js';
import type { Log } from '../../src/core/ports/log.js';
import type { Result, Row } from '../lib/report.js';
import { percentile } from '../lib/statistics.js';

/** Milliseconds, of the rounds' medians. */
interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface StartingSummary {
  readonly ways: readonly {
    readonly way: string;
    readonly holdsMb: number;
    /** How long the event loop stands still. */
    readonly stopped: Spread;
    /** Until the program has ended. */
    readonly whole: Spread;
  }[];
}

const HELD_MB = [0, 60, 360];
const ROUNDS = 5;
const PER_ROUND = 10;
const PROGRAM: Launched = { path: '/bin/true', args: [], env: {}, input: undefined, timeoutMs: 10_000 };
const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT };

/** Of a process that holds more and more memory: starting programs itself, and by way of the launcher beside it. */
export async function benchStartingPrograms(command: string): Promise<Result<StartingSummary>> {
  const launcher = startLauncher(SILENT);
  const held: Buffer[] = [];
  const ways: StartingSummary['ways'][number][] = [];
  const samples: object[] = [];
  try {
    await launcher.launch(PROGRAM);
    let holds = 0;
    for (const holdsMb of HELD_MB) {
      for (; holds < holdsMb; holds++) held.push(Buffer.alloc(2 ** 20, 1));
      const rounds = [
        { way: 'by itself', start: launch },
        { way: 'by the launcher', start: launcher.launch },
      ].map((one) => ({ ...one, stopped: [] as number[], whole: [] as number[] }));
      for (let round = 0; round < ROUNDS; round++) {
        for (const one of rounds) {
          const { stopped, whole } = await measure(one.start);
          one.stopped.push(stopped);
          one.whole.push(whole);
        }
      }
      for (const { way, stopped, whole } of rounds) {
        ways.push({ way, holdsMb, stopped: spread(stopped), whole: spread(whole) });
        samples.push({ way, holdsMb, stopped, whole });
      }
    }
  } finally {
    launcher.close();
  }
  return {
    name: 'starting-programs',
    command,
    configuration: { program: PROGRAM.path, rounds: ROUNDS, startsPerRound: PER_ROUND, each: 'median of its round' },
    summary: { ways },
    targets: [],
    samples: { rounds: samples },
  };
}

async function measure(start: Launch): Promise<{ readonly stopped: number; readonly whole: number }> {
  const stopped: number[] = [];
  const whole: number[] = [];
  for (let n = 0; n < PER_ROUND; n++) {
    const began = performance.now();
    const ended = start(PROGRAM);
    stopped.push(performance.now() - began);
    await ended;
    whole.push(performance.now() - began);
  }
  return { stopped: percentile(stopped, 0.5), whole: percentile(whole, 0.5) };
}

const spread = (values: readonly number[]): Spread => ({
  median: percentile(values, 0.5),
  min: percentile(values, 0),
  max: percentile(values, 1),
});

export const startingRows = ({ ways }: StartingSummary): readonly Row[] =>
  ways.flatMap(({ way, holdsMb, stopped, whole }): Row[] => {
    const what = `${holdsMb} MB more, ${way}`;
    return [
      [`${what}: stopped for`, stopped.median, stopped.min, stopped.max],
      [`${what}: until it had run`, whole.median, whole.min, whole.max],
    ];
  });
