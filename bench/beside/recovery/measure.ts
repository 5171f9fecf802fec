import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { monotonicMs } from '../../../chaos/overlay/index.js';
import type { Result } from '../../lib/report.js';
import { type Spread, spreadOf } from '../spread.js';
import { addressOf, TunnelBed } from '../tunnel/bed.js';
import { type RunningTunnel, TUNNEL_SYSTEMS } from '../tunnel/systems.js';

interface Sample {
  /** From beginning the client's part to the first byte of a page by way of the exit. */
  readonly firstByteMs: number;
  /** The longest time without a page, from the kill on; undefined where there is no middle. */
  readonly gapMs: number | undefined;
}

export interface RecoveryRow {
  readonly system: string;
  readonly firstByteMs: Spread;
  readonly gapMs: Spread | undefined;
  readonly failures: readonly string[];
}

export interface RecoverySummary {
  readonly watchedMs: number;
  readonly rows: readonly RecoveryRow[];
}

const POLL = fileURLToPath(new URL('./poll.js', import.meta.url));
const FIRST_LIMIT_MS = 15_000;
const WATCHED_MS = 4_000;
const QUIET_MS = 500;

/** Those that can be begun at the client alone. */
const SYSTEMS = TUNNEL_SYSTEMS.filter(({ name }) => /^(vpnd|nebula|tinc|n2n)/.test(name));

/** Time to the first byte, and what a killed relay or lighthouse does to new connections. */
export async function benchRecoveryBeside(
  command: string,
  rounds: number,
  tell: (line: string) => void,
): Promise<Result<RecoverySummary>> {
  const bed = await TunnelBed.build();
  const samples = new Map<string, Sample[]>();
  const failures = new Map<string, string[]>();
  try {
    for (let round = 1; round <= rounds; round++) {
      for (const system of SYSTEMS) {
        try {
          const running = await system.start(bed);
          const sample = await measure(bed, running).finally(() => running.stop());
          samples.set(system.name, [...(samples.get(system.name) ?? []), sample]);
          const gap = sample.gapMs === undefined ? 'nobody in the middle' : `gap ${sample.gapMs.toFixed(0)} ms`;
          tell(`${round}/${rounds} ${system.name}: first byte ${sample.firstByteMs.toFixed(0)} ms, ${gap}`);
        } catch (thrown) {
          const why = thrown instanceof Error ? thrown.message.slice(0, 400) : String(thrown);
          failures.set(system.name, [...(failures.get(system.name) ?? []), why]);
          tell(`${round}/${rounds} ${system.name}: ${why}`);
        }
      }
    }
  } finally {
    await bed.close();
  }
  const rows = [...samples].map(([system, own]): RecoveryRow => {
    const gaps = own.map((one) => one.gapMs).filter((gap) => gap !== undefined);
    return {
      system,
      firstByteMs: spreadOf(own.map((one) => one.firstByteMs)),
      gapMs: gaps.length === 0 ? undefined : spreadOf(gaps),
      failures: failures.get(system) ?? [],
    };
  });
  return {
    name: 'beside-recovery',
    command,
    configuration: {
      rounds,
      watchedMs: WATCHED_MS,
      instrument:
        'a page asked for every 20 ms, each time by a new connection; those that came past the tunnel do not count',
      begin: 'vpnd: up of a running daemon. Others: start of the client’s daemon, which is what they have',
      middle:
        'vpnd: the supernode’s daemon. nebula: lighthouse and relay, one process. n2n: its supernode. tinc has none here',
      systems: SYSTEMS.map(({ name, setUp }) => ({ name, setUp })),
    },
    summary: { watchedMs: WATCHED_MS, rows },
    targets: [],
    samples: Object.fromEntries(samples),
  };
}

async function measure(bed: TunnelBed, running: RunningTunnel): Promise<Sample> {
  const { client, middle } = running;
  if (client === undefined) throw new Error('it has no part of the client’s own');
  await client.end();
  await pause(QUIET_MS);
  const cold = await polled(bed, async () => {
    const began = monotonicMs();
    await client.begin();
    await bed.reaches(FIRST_LIMIT_MS / 1000);
    return began;
  });
  const first = cold.answered.find((at) => at > cold.since);
  if (first === undefined) throw new Error('no page by way of the exit');
  const firstByteMs = first - cold.since;
  if (middle === undefined) return { firstByteMs, gapMs: undefined };
  const killed = await polled(bed, async () => {
    await pause(QUIET_MS);
    const at = monotonicMs();
    await middle.kill();
    await pause(WATCHED_MS);
    return at;
  });
  await middle.restore();
  const end = killed.since + WATCHED_MS;
  const moments = [killed.since, ...killed.answered.filter((at) => at > killed.since && at < end), end];
  const gaps = moments.slice(1).map((at, i) => at - (moments[i] ?? at));
  return { firstByteMs, gapMs: Math.max(...gaps) };
}

/** Polls while something happens, which answers with the moment that counts. */
async function polled(
  bed: TunnelBed,
  act: () => Promise<number>,
): Promise<{ readonly since: number; readonly answered: readonly number[] }> {
  const url = `http://${bed.webIp}/`;
  const poll = bed.client.spawn([process.execPath, POLL, url, addressOf(bed.exit)]);
  await poll.waitForLine(/^polling/);
  try {
    const since = await act();
    poll.kill('SIGTERM');
    const [said = '[]'] = await poll.waitForLine(/^\[.*\]$/);
    return { since, answered: JSON.parse(said) as number[] };
  } finally {
    await poll.stop();
  }
}
