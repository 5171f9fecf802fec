import { readFileSync } from 'node:fs';
import type { Clock } from '../core/ports/clock.js';
import { type Millis, seconds } from '../model/time.js';
import type { HostMetrics } from './metrics.js';

/** Load of the whole machine, averaged over the last sampling interval. */
export interface HostLoad {
  /** 0 to 100, all cores together. */
  readonly cpuPercent: number;
  /** Megabits per second on the interfaces of the default routes. */
  readonly txMbps: number;
  readonly rxMbps: number;
}

export interface HostLoadSampler {
  current(): HostLoad;
  close(): void;
}

export interface HostLoadOptions {
  readonly clock: Clock;
  readonly metrics?: HostMetrics;
  readonly every?: Millis;
  /** Text of a file below /proc; throws where there is none. */
  readonly read?: (path: string) => string;
}

const IDLE: HostLoad = { cpuPercent: 0, txMbps: 0, rxMbps: 0 };

/** Samples /proc now and then every five seconds. Where /proc tells nothing, the load stays zero. */
export function sampleHostLoad(options: HostLoadOptions): HostLoadSampler {
  const { clock, metrics, every = seconds(5), read = (path) => readFileSync(path, 'utf8') } = options;
  let load = IDLE;
  let last = takeSample(clock, read);
  let cancel = (): void => {};
  const tick = (): void => {
    const sample = takeSample(clock, read);
    load = loadBetween(last, sample);
    last = sample;
    metrics?.cpuPercent.set(load.cpuPercent);
    metrics?.txMbps.set(load.txMbps);
    metrics?.rxMbps.set(load.rxMbps);
    cancel = clock.after(every, tick);
  };
  cancel = clock.after(every, tick);
  return { current: () => load, close: () => cancel() };
}

interface Sample {
  readonly at: Millis;
  /** Ticks since boot. */
  readonly busy: number;
  readonly total: number;
  /** Bytes since boot. */
  readonly tx: number;
  readonly rx: number;
}

function takeSample(clock: Clock, read: (path: string) => string): Sample {
  const attempt = (path: string): string => {
    try {
      return read(path);
    } catch {
      return '';
    }
  };
  const uplinks = uplinkNames(attempt('/proc/net/route'), attempt('/proc/net/ipv6_route'));
  return {
    at: clock.monotonic(),
    ...parseCpu(attempt('/proc/stat')),
    ...parseNetDev(attempt('/proc/net/dev'), uplinks),
  };
}

export function loadBetween(from: Sample, to: Sample): HostLoad {
  const ticks = to.total - from.total;
  const elapsed = to.at - from.at;
  // Counters start again when an interface is made anew.
  const mbps = (bytes: number): number => (elapsed > 0 ? Math.max(0, (bytes * 8) / 1_000 / elapsed) : 0);
  return {
    cpuPercent: ticks > 0 ? Math.min(100, Math.max(0, (100 * (to.busy - from.busy)) / ticks)) : 0,
    txMbps: mbps(to.tx - from.tx),
    rxMbps: mbps(to.rx - from.rx),
  };
}

/** Ticks of /proc/stat's first line (proc(5)); waiting for a disk is idle. */
export function parseCpu(stat: string): { busy: number; total: number } {
  const line = /^cpu\s+(.+)$/m.exec(stat)?.[1];
  if (line === undefined) return { busy: 0, total: 0 };
  // Guest time is already counted in user time.
  const ticks = line.trim().split(/\s+/).slice(0, 8).map(Number);
  const total = ticks.reduce((sum, n) => sum + n, 0);
  return { busy: total - (ticks[3] ?? 0) - (ticks[4] ?? 0), total };
}

/** Bytes of /proc/net/dev over the named interfaces; over all but `lo` when none are named. */
export function parseNetDev(text: string, names: ReadonlySet<string>): { tx: number; rx: number } {
  let tx = 0;
  let rx = 0;
  for (const line of text.split('\n')) {
    const match = /^\s*([^:\s]+):\s*(.+)$/.exec(line);
    if (!match) continue;
    const [, name = '', numbers = ''] = match;
    if (names.size > 0 ? !names.has(name) : name === 'lo') continue;
    const fields = numbers.trim().split(/\s+/).map(Number);
    rx += fields[0] ?? 0;
    tx += fields[8] ?? 0;
  }
  return { tx, rx };
}

/** Interfaces that default routes leave by, from /proc/net/route and /proc/net/ipv6_route. */
export function uplinkNames(route4: string, route6: string): ReadonlySet<string> {
  const names = new Set<string>();
  for (const line of route4.split('\n').slice(1)) {
    const [name, destination, , , , , , mask] = line.trim().split(/\s+/);
    if (name && destination === '00000000' && mask === '00000000') names.add(name);
  }
  for (const line of route6.split('\n')) {
    const fields = line.trim().split(/\s+/);
    const name = fields[9];
    if (name && name !== 'lo' && fields[0] === '0'.repeat(32) && fields[1] === '00') names.add(name);
  }
  return names;
}
