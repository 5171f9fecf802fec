import { setTimeout as pause } from 'node:timers/promises';
import type { Overlay, OverlayNode } from '../../chaos/overlay/index.js';
import { busySeconds } from '../lib/machine.js';
import { cpuTime } from '../lib/process-cost.js';
import type { Result, Row } from '../lib/report.js';
import { percentile } from '../lib/statistics.js';

interface Spent {
  /** CPU, of all rounds together. */
  readonly cpuSeconds: number;
  /** CPU per second of the clock. */
  readonly msPerSecond: number;
}

export interface ForwardingSummary {
  readonly mbps: { readonly median: number; readonly min: number; readonly max: number };
  readonly gigabytes: number;
  readonly cpusBusyOnTheWholeMachine: number;
  readonly supernodes: readonly {
    readonly node: string;
    readonly transferring: Spent;
    readonly idle: Spent;
    /** By round, the difference between the two; the median of all rounds. */
    readonly addedMsPerSecond: number;
  }[];
}

/** More than any machine downloads in the time given. */
const ENDLESS = 1_000_000_000_000;
const CURL_TIMED_OUT = 28;
/** Half a percent of a CPU: a periodic task that falls into one half of a round more often than into the other. */
const NOTHING_MS_PER_S = 5;

/** Each with a download and without, one after the other, so that what else the machine does falls on both alike. */
const ROUNDS = 5;

/**
 * CPU that the supernodes' own processes use while the client downloads through both of them, and while it does not.
 * A session must be up. `seconds` is the length of all downloads together.
 */
export async function benchForwarding(
  overlay: Overlay,
  command: string,
  seconds: number,
): Promise<Result<ForwardingSummary>> {
  const rounds: { readonly idle: Watched<void>; readonly busy: Watched<Transfer> }[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    rounds.push({
      idle: await watch(overlay, () => pause((seconds * 1000) / ROUNDS)),
      busy: await watch(overlay, () => download(overlay, seconds / ROUNDS)),
    });
  }
  const supernodes = [overlay.a, overlay.b].map((node, i) => {
    const cpu = (one: Watched<unknown>) => one.cpuSeconds[i] ?? 0;
    const idle = rounds.map((one) => cpu(one.idle));
    const busy = rounds.map((one) => cpu(one.busy));
    const added = rounds.map((one) => (cpu(one.busy) / one.busy.seconds - cpu(one.idle) / one.idle.seconds) * 1000);
    return {
      node: node.name,
      addedMsPerSecond: percentile(added, 0.5),
      transferring: { cpuSeconds: sum(busy), msPerSecond: (sum(busy) * 1000) / sum(rounds.map((r) => r.busy.seconds)) },
      idle: { cpuSeconds: sum(idle), msPerSecond: (sum(idle) * 1000) / sum(rounds.map((r) => r.idle.seconds)) },
    };
  });
  const mbps = rounds.map(({ busy }) => (busy.result.bytes * 8) / busy.result.took / 1e6);
  return {
    name: 'forwarding',
    command,
    configuration: {
      rounds: ROUNDS,
      secondsOfDownload: seconds,
      path: 'relay2',
      transfer: 'one HTTP download by curl in each round, TCP inside WireGuard',
    },
    summary: {
      mbps: { median: percentile(mbps, 0.5), min: percentile(mbps, 0), max: percentile(mbps, 1) },
      gigabytes: sum(rounds.map(({ busy }) => busy.result.bytes)) / 1e9,
      cpusBusyOnTheWholeMachine: sum(rounds.map((r) => r.busy.machine)) / sum(rounds.map((r) => r.busy.seconds)),
      supernodes,
    },
    targets: supernodes.map(({ node, addedMsPerSecond }) => ({
      what: `CPU that forwarding adds to the process of ${node}`,
      limit: NOTHING_MS_PER_S,
      measured: addedMsPerSecond,
      unit: 'ms/s',
    })),
    samples: { mbps, rounds },
  };
}

const sum = (values: readonly number[]): number => values.reduce((all, one) => all + one, 0);

interface Watched<T> {
  readonly seconds: number;
  /** CPU seconds of everything on the machine. */
  readonly machine: number;
  /** Of A and of B: their own processes, and the programs they started. */
  readonly cpuSeconds: readonly number[];
  readonly result: T;
}

async function watch<T>({ a, b }: Overlay, during: () => Promise<T>): Promise<Watched<T>> {
  const used = (node: OverlayNode) => {
    const { own, children } = cpuTime(node.pid);
    return own + children;
  };
  const nodes = [a, b];
  const before = nodes.map(used);
  const machine = busySeconds();
  const started = performance.now();
  const result = await during();
  return {
    seconds: (performance.now() - started) / 1000,
    machine: busySeconds() - machine,
    cpuSeconds: nodes.map((node, i) => used(node) - (before[i] ?? 0)),
    result,
  };
}

interface Transfer {
  readonly bytes: number;
  /** Seconds. */
  readonly took: number;
}

async function download(overlay: Overlay, seconds: number): Promise<Transfer> {
  const argv = ['curl', '-sS', '-o', '/dev/null', '-w', '%{size_download} %{time_total}', '--max-time', `${seconds}`];
  const ran = await overlay.client.host.run([...argv, `${overlay.web.url}/bytes/${ENDLESS}`], {
    timeout: (seconds + 10) * 1000,
  });
  if (ran.code !== CURL_TIMED_OUT) throw new Error(`the download did not last: ${ran.stderr.trim() || ran.code}`);
  const [bytes = 0, took = seconds] = ran.stdout.split(' ').map(Number);
  return { bytes, took };
}

export const transferRows = ({ supernodes }: ForwardingSummary): readonly Row[] =>
  supernodes.map(
    ({ node, transferring, idle, addedMsPerSecond }): Row => [
      node,
      transferring.cpuSeconds,
      idle.cpuSeconds,
      transferring.msPerSecond,
      idle.msPerSecond,
      addedMsPerSecond,
    ],
  );
