import type { Connect } from './guests.js';
import type { PingTally } from './pinging.js';
import type { DaemonSample, KernelSample } from './probe.js';
import type { Point } from './slopes.js';
import type { VisitTally } from './visit-orders.js';

/** Everything that was seen in a run, in the order in which it came. Times are milliseconds since the epoch. */
export interface SoakRecord {
  readonly began: number;
  readonly daemons: { readonly at: number; readonly node: string; readonly sample: DaemonSample }[];
  readonly kernels: { readonly at: number; readonly node: string; readonly sample: KernelSample }[];
  readonly visits: VisitTally[];
  readonly connects: Connect[];
  readonly pings: PingTally[];
  readonly faults: { readonly at: number; readonly until: number; readonly name: string; readonly trouble?: string }[];
  /** CPUs of the machine in use, by everybody. */
  readonly busy: { readonly at: number; readonly cpus: number }[];
}

export const emptyRecord = (began: number): SoakRecord => ({
  began,
  daemons: [],
  kernels: [],
  visits: [],
  connects: [],
  pings: [],
  faults: [],
  busy: [],
});

const HOUR_MS = 3_600_000;
/** Latencies are looked at a minute at a time: the median of each. */
const BIN_MS = 60_000;

export const hourOf = (record: SoakRecord, at: number): number => (at - record.began) / HOUR_MS;

/** One quantity of one daemon over time; another process is another life. */
export function daemonPoints(record: SoakRecord, node: string, what: keyof DaemonSample): readonly Point[] {
  return record.daemons
    .filter((one) => one.node === node && Number.isFinite(one.sample[what]))
    .map(({ at, sample }) => ({ hour: hourOf(record, at), value: sample[what], life: sample.pid }));
}

/** One quantity of one host's kernel over time. */
export function kernelPoints(record: SoakRecord, node: string, what: keyof KernelSample): readonly Point[] {
  return record.kernels
    .filter((one) => one.node === node)
    .map(({ at, sample }) => ({ hour: hourOf(record, at), value: sample[what], life: 0 }));
}

/** Each minute's median of what was measured within it. */
export function minutePoints(
  record: SoakRecord,
  measured: readonly { readonly at: number; readonly values: readonly number[] }[],
): readonly Point[] {
  const bins = new Map<number, number[]>();
  for (const { at, values } of measured) {
    const bin = Math.floor((at - record.began) / BIN_MS);
    const all = bins.get(bin) ?? [];
    all.push(...values);
    bins.set(bin, all);
  }
  return [...bins]
    .filter(([, values]) => values.length > 0)
    .sort(([a], [b]) => a - b)
    .map(([bin, values]) => ({ hour: ((bin + 0.5) * BIN_MS) / HOUR_MS, value: median(values), life: 0 }));
}

export const visitLatency = (
  record: SoakRecord,
  what: 'streamMs' | 'grantMs' | 'closeMs',
): { readonly at: number; readonly values: readonly number[] }[] =>
  record.visits.map((one) => ({ at: one.at, values: one[what] }));

export const connectLatency = (record: SoakRecord): { readonly at: number; readonly values: readonly number[] }[] =>
  record.connects.flatMap(({ at, tookMs }) => (tookMs === undefined ? [] : [{ at, values: [tookMs] }]));

export const pingLatency = (record: SoakRecord): { readonly at: number; readonly values: readonly number[] }[] =>
  record.pings.map(({ at, roundTripMs }) => ({ at, values: roundTripMs }));

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}
