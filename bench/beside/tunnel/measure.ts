import { readFileSync } from 'node:fs';
import { cpuTime } from '../../lib/process-cost.js';
import type { Result } from '../../lib/report.js';
import { type Spread, spreadOf } from '../spread.js';
import { TunnelBed } from './bed.js';
import { TUNNEL_NAMES, TUNNEL_SYSTEMS, type TunnelSystem } from './systems.js';

interface Sample {
  readonly mbps: number;
  readonly retransmits: number;
  /** CPU of the system's own processes, user and system, per gigabyte (10^9 bytes) that arrived. */
  readonly cpuSecondsPerGigabyte: number;
}

export interface TunnelRow {
  readonly system: string;
  readonly cipher: string;
  readonly mtu: number;
  readonly mbps: Spread;
  /** By round, its throughput over that of bare wireguard-go. */
  readonly ofBare: Spread;
  readonly cpuSecondsPerGigabyte: Spread;
  readonly failures: readonly string[];
}

export interface TunnelSummary {
  readonly rows: readonly TunnelRow[];
}

const SECONDS = 2;
const PORT = '5201';

/** One TCP connection from the web server to the client, through each system in turn. */
export async function benchTunnel(
  command: string,
  rounds: number,
  tell: (line: string) => void,
): Promise<Result<TunnelSummary>> {
  const bed = await TunnelBed.build();
  const samples = new Map<string, (Sample | undefined)[]>();
  const failures = new Map<string, string[]>();
  try {
    for (let round = 1; round <= rounds; round++) {
      for (const system of TUNNEL_SYSTEMS) {
        const sample = await measure(bed, system).catch((thrown: unknown) => {
          const why = thrown instanceof Error ? thrown.message.slice(0, 400) : String(thrown);
          failures.set(system.name, [...(failures.get(system.name) ?? []), why]);
          tell(`${round}/${rounds} ${system.name}: ${why}`);
          return undefined;
        });
        samples.set(system.name, [...(samples.get(system.name) ?? []), sample]);
        if (sample === undefined) continue;
        const cpu = sample.cpuSecondsPerGigabyte.toFixed(2);
        tell(`${round}/${rounds} ${system.name}: ${sample.mbps.toFixed(0)} Mbit/s, ${cpu} s of CPU per GB`);
      }
    }
  } finally {
    await bed.close();
  }
  const rows = rowsOf(samples, failures);
  return {
    name: 'beside-tunnel',
    command,
    configuration: {
      rounds,
      secondsEach: SECONDS,
      traffic: `iperf3 -c -R: one TCP connection, from the web server by way of the exit to the client`,
      systems: TUNNEL_SYSTEMS.map(({ name, cipher, mtu, setUp }) => ({ name, cipher, mtu, setUp })),
    },
    summary: { rows },
    targets: targetsOf(samples),
    samples: Object.fromEntries(samples),
  };
}

async function measure(bed: TunnelBed, system: TunnelSystem): Promise<Sample> {
  const running = await system.start(bed);
  try {
    // A new one each time, for one test: what is left of a tunnel that was ended must not keep it busy.
    const server = bed.web.spawn(['iperf3', '-s', '-1', '-p', PORT, '--forceflush']);
    await server.waitForLine(/listening/);
    const pids = running.pids();
    const before = pids.map(spent);
    const argv = ['iperf3', '-c', bed.webIp, '-p', PORT, '-R', '-J', '-t', String(SECONDS)];
    const said = await bed.client.exec(argv, { timeout: (SECONDS + 15) * 1000 });
    const cpu = pids.reduce((sum, pid, i) => sum + spent(pid) - (before[i] ?? 0), 0);
    const { end } = JSON.parse(said) as {
      end: { sum_received: { bytes: number; bits_per_second: number }; sum_sent: { retransmits?: number } };
    };
    return {
      mbps: end.sum_received.bits_per_second / 1e6,
      retransmits: end.sum_sent.retransmits ?? 0,
      cpuSecondsPerGigabyte: cpu / (end.sum_received.bytes / 1e9),
    };
  } finally {
    await running.stop();
    for (const pid of bed.web.pids()) if (isIperf(pid)) process.kill(pid, 'SIGKILL');
  }
}

const isIperf = (pid: number): boolean => {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim() === 'iperf3';
  } catch {
    return false;
  }
};

/** Zero for one that has ended. */
function spent(pid: number): number {
  try {
    return cpuTime(pid).own;
  } catch {
    return 0;
  }
}

function rowsOf(
  samples: ReadonlyMap<string, readonly (Sample | undefined)[]>,
  failures: ReadonlyMap<string, readonly string[]>,
): TunnelRow[] {
  return TUNNEL_SYSTEMS.flatMap(({ name, cipher, mtu }) => {
    const own = (samples.get(name) ?? []).filter((one) => one !== undefined);
    if (own.length === 0) return [];
    return [
      {
        system: name,
        cipher,
        mtu,
        mbps: spreadOf(own.map((one) => one.mbps)),
        ofBare: spreadOf(ratios(samples, name, TUNNEL_NAMES.bare)),
        cpuSecondsPerGigabyte: spreadOf(own.map((one) => one.cpuSecondsPerGigabyte)),
        failures: failures.get(name) ?? [],
      },
    ];
  });
}

/** By round, where both were measured. */
function ratios(samples: ReadonlyMap<string, readonly (Sample | undefined)[]>, one: string, other: string): number[] {
  const reference = samples.get(other) ?? [];
  const found = (samples.get(one) ?? []).flatMap((sample, i) => {
    const beside = reference[i];
    return sample === undefined || beside === undefined ? [] : [sample.mbps / beside.mbps];
  });
  return found.length === 0 ? [0] : found;
}

function targetsOf(samples: ReadonlyMap<string, readonly (Sample | undefined)[]>) {
  const { bare, direct, relayed } = TUNNEL_NAMES;
  return [
    {
      what: "bare wireguard-go's throughput over vpnd's, direct (0.97 of it)",
      limit: 1 / 0.97,
      measured: spreadOf(ratios(samples, bare, direct)).median,
      unit: 'times',
    },
    {
      what: "vpnd's throughput direct over relayed (0.85 of it)",
      limit: 1 / 0.85,
      measured: spreadOf(ratios(samples, direct, relayed)).median,
      unit: 'times',
    },
  ];
}
