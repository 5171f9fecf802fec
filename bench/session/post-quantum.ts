import { firstPackets, type Overlay } from '../../chaos/overlay/index.js';
import type { Result, Row } from '../lib/report.js';
import { percentile, type Summary, summarise } from '../lib/statistics.js';

type Mode = 'off' | 'require';

export interface PostQuantumSummary {
  readonly off: Summary;
  readonly require: Summary;
  /** Median of the rounds' differences of medians, `require` less `off`, milliseconds. */
  readonly addedMs: number;
}

/** What pre-shared keys from ML-KEM may cost. */
const LIMIT_MS = 10;
const LEFT_OUT = 4;

/**
 * From the request to the first packet with and without post-quantum keys: rounds of both in turn, the client's daemon
 * restarted for each, the first sessions of each round left out, since nothing is compiled yet.
 */
export async function benchPostQuantum(
  overlay: Overlay,
  command: string,
  rounds: number,
  perRound: number,
): Promise<Result<PostQuantumSummary>> {
  const samples: Record<Mode, number[][]> = { off: [], require: [] };
  for (let round = 0; round < rounds; round++) {
    // Neither always comes first: whoever else uses the machine does it for a while.
    const order: readonly Mode[] = round % 2 === 0 ? ['off', 'require'] : ['require', 'off'];
    for (const mode of order) {
      await overlay.client.stop();
      await overlay.client.start({ more: ['--pq', mode] });
      const measured = await firstPackets(overlay, perRound + LEFT_OUT, 'us');
      await overlay.client.cli('down');
      samples[mode].push(measured.slice(LEFT_OUT).map((one) => one.firstPacketMs));
    }
  }
  const median = (values: readonly number[] = []) => percentile(values, 0.5);
  const differences = samples.require.map((values, round) => median(values) - median(samples.off[round]));
  const addedMs = percentile(differences, 0.5);
  return {
    name: 'post-quantum',
    command,
    configuration: {
      rounds,
      perRound,
      leftOut: LEFT_OUT,
      path: 'relay2',
      topology: 'as in first-packet',
      exit: '--pq prefer',
    },
    summary: { off: summarise(samples.off.flat()), require: summarise(samples.require.flat()), addedMs },
    targets: [{ what: 'added by post-quantum keys', limit: LIMIT_MS, measured: addedMs, unit: 'ms' }],
    samples: { ...samples, differences },
  };
}

export const postQuantumRows = ({ off, require }: PostQuantumSummary): readonly Row[] =>
  Object.entries({ '--pq off': off, '--pq require': require }).map(
    ([what, { min, p50, p90, p99, max }]): Row => [what, min, p50, p90, p99, max],
  );
