import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';

/** Where and on what something was measured. */
export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGb: number;
  readonly kernel: string;
  /** CPUs' worth that others used before the benchmark began; undefined where /proc does not say. */
  readonly othersCpus: number;
  readonly loadAverage: readonly number[];
}

const LOOK_MS = 2000;

/** Takes two seconds, in which nothing of the benchmark may run: that is how much of the machine others use. */
export async function describeMachine(): Promise<Machine> {
  const before = busySeconds();
  await pause(LOOK_MS);
  const othersCpus = ((busySeconds() - before) * 1000) / LOOK_MS;
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryGb: round(totalmem() / 2 ** 30),
    kernel: release(),
    othersCpus: round(othersCpus),
    loadAverage: loadavg().map(round),
  };
}

/** Seconds of CPU that all processes and the kernel have used since boot, over all CPUs. */
export function busySeconds(): number {
  const [first = ''] = readFileSync('/proc/stat', 'latin1').split('\n');
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = first.split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softirq) / 100;
}

/** What of other people's software was measured along. */
export function versions(): Readonly<Record<string, string>> {
  return {
    node: process.version,
    openssl: process.versions.openssl ?? 'unknown',
    'wireguard-go': firstLine('wireguard-go', '--version'),
    nft: firstLine('nft', '--version'),
    iproute2: firstLine('ip', '-V'),
    vpnd: firstLine('git', 'rev-parse', '--short', 'HEAD'),
  };
}

function firstLine(program: string, ...args: string[]): string {
  try {
    const said = execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return said.split('\n')[0]?.trim() ?? '';
  } catch {
    return 'unknown';
  }
}

const round = (value: number): number => Math.round(value * 100) / 100;
