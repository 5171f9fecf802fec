import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Result } from '../../lib/report.js';
import { buildGenerator } from '../debian.js';
import { type Spread, spreadOf } from '../spread.js';
import { RelayBed } from './bed.js';
import { NAMES, RELAY_SYSTEMS, type RelaySystem } from './systems.js';

/** What the generator prints; see packets.c. Pairs are for both directions. */
interface Counted {
  readonly sessions: number;
  readonly seconds: number;
  readonly received: readonly [number, number];
  readonly allSent: number;
  readonly allReceived: number;
  readonly generatorCpu: number;
  readonly relayCpu: number;
  readonly softirqCpu: number;
}

interface Sample {
  readonly perSecond: number;
  readonly lossPercent: number;
  /** CPU of everything that a delivered packet passes, and of the relay's own processes. */
  readonly allMicroseconds: number;
  readonly processMicroseconds: number;
}

export interface RelayRow {
  readonly system: string;
  readonly sessions: number;
  readonly packetsPerSecond: Spread;
  readonly lossPercent: Spread;
  readonly allMicroseconds: Spread;
  readonly processMicroseconds: Spread;
  /** What the relay adds to the same packets over one cable: CPU microseconds per delivered packet, seconds per gigabyte. */
  readonly addedMicroseconds: Spread;
  readonly addedSecondsPerGigabyte: Spread;
}

export interface RelaySummary {
  readonly rows: readonly RelayRow[];
}

/** UDP payload. With everybody's header it fits a packet of 1500 bytes. */
const SIZE = 1200;
const SECONDS = 1.5;

/**
 * Packets through each relay, in both directions at once, as many as come through. Every round goes over all systems and numbers of
 * sessions once.
 */
export async function benchRelay(
  command: string,
  rounds: number,
  tell: (line: string) => void,
): Promise<Result<RelaySummary>> {
  const generator = buildGenerator();
  const bed = await RelayBed.build();
  const samples = new Map<string, Sample[]>();
  try {
    for (let round = 1; round <= rounds; round++) {
      for (const sessions of [1, 1_000, 10_000]) {
        for (const system of RELAY_SYSTEMS.filter((one) => one.sessions.includes(sessions))) {
          const sample = await measure(bed, generator.program, system, sessions);
          const key = keyOf(system.name, sessions);
          samples.set(key, [...(samples.get(key) ?? []), sample]);
          tell(
            `${round}/${rounds} ${system.name}, ${sessions} sessions: ${Math.round(sample.perSecond)} packets/s, ` +
              `${sample.allMicroseconds.toFixed(2)} us, lost ${sample.lossPercent.toFixed(2)} %`,
          );
        }
      }
    }
  } finally {
    await bed.close();
    generator.remove();
  }
  const rows = rowsOf(samples);
  return {
    name: 'beside-relay',
    command,
    configuration: {
      rounds,
      secondsEach: SECONDS,
      payloadBytes: SIZE,
      generator: 'bench/beside/packets.c: two threads, one on each side, each sends to and receives from the other',
      systems: RELAY_SYSTEMS.map((one) => ({
        name: one.name,
        setUp: one.setUp,
        extraBytes: one.extraBytes,
        packetsOnTheirWay: Object.fromEntries(one.sessions.map((n) => [n, one.window(n)])),
      })),
    },
    summary: { rows },
    targets: targetsOf(rows),
    samples: Object.fromEntries(samples),
  };
}

const keyOf = (system: string, sessions: number): string => `${system}, ${sessions} sessions`;

async function measure(bed: RelayBed, program: string, system: RelaySystem, sessions: number): Promise<Sample> {
  const { flows, pids, stop } = await system.start(bed, sessions);
  try {
    const file = join(bed.lab.directory, 'flows');
    writeFileSync(file, `${flows.join('\n')}\n`);
    const [left, right] = [bed.left, bed.right].map((host) => `/run/netns/${host.namespace}`);
    const counts = [SIZE, SECONDS, system.window(sessions), 0].map(String);
    const said = await bed.lab.internet.exec(
      [program, left ?? '', right ?? '', file, ...counts, pids.length === 0 ? '-' : pids.join(',')],
      { timeout: 120_000 },
    );
    return sampleOf(JSON.parse(said) as Counted);
  } finally {
    await stop();
  }
}

function sampleOf(counted: Counted): Sample {
  const delivered = counted.received[0] + counted.received[1];
  const each = (seconds: number) => (seconds * 1e6) / Math.max(1, delivered);
  return {
    perSecond: delivered / counted.seconds,
    lossPercent: 100 * (1 - counted.allReceived / counted.allSent),
    allMicroseconds: each(counted.generatorCpu + counted.relayCpu + counted.softirqCpu),
    processMicroseconds: each(counted.relayCpu),
  };
}

function rowsOf(samples: ReadonlyMap<string, readonly Sample[]>): RelayRow[] {
  return RELAY_SYSTEMS.flatMap((system) =>
    system.sessions.map((sessions): RelayRow => {
      const own = samples.get(keyOf(system.name, sessions)) ?? [];
      // Rounds are compared with themselves: what else the machine did then falls on both alike.
      const none = samples.get(keyOf(NAMES.direct, sessions)) ?? [];
      const added = own.map((one, i) => one.allMicroseconds - (none[i]?.allMicroseconds ?? 0));
      return {
        system: system.name,
        sessions,
        packetsPerSecond: spreadOf(own.map((one) => one.perSecond)),
        lossPercent: spreadOf(own.map((one) => one.lossPercent)),
        allMicroseconds: spreadOf(own.map((one) => one.allMicroseconds)),
        processMicroseconds: spreadOf(own.map((one) => one.processMicroseconds)),
        addedMicroseconds: spreadOf(added),
        addedSecondsPerGigabyte: spreadOf(added.map((us) => (us * 1000) / SIZE)),
      };
    }),
  );
}

/** Written as "at most", since that is how results are judged: the reference divided by ours. */
function targetsOf(rows: readonly RelayRow[]) {
  const at = (system: string, sessions: number) =>
    rows.find((row) => row.system === system && row.sessions === sessions);
  const sessions = 10_000;
  const [plain, own, hop, turn] = [NAMES.routing, NAMES.vpnd, NAMES.vpndHop, NAMES.coturn].map((name) =>
    at(name, sessions),
  );
  if (plain === undefined || own === undefined || hop === undefined || turn === undefined) return [];
  const rate = (row: RelayRow) => row.packetsPerSecond.median;
  return [
    {
      what: `plain routing's packets/s over vpnd's, ${sessions} sessions (0.9 of it)`,
      limit: 1 / 0.9,
      measured: rate(plain) / rate(own),
      unit: 'times',
    },
    {
      what: 'the same, as one of two supernodes',
      limit: 1 / 0.9,
      measured: rate(plain) / rate(hop),
      unit: 'times',
    },
    {
      what: `coturn's packets/s over vpnd's, ${sessions} sessions`,
      limit: 0.5,
      measured: rate(turn) / rate(own),
      unit: 'times',
    },
    {
      what: `CPU that vpnd's relay adds to a packet over what coturn adds, ${sessions} sessions`,
      limit: 0.5,
      measured: own.addedMicroseconds.median / turn.addedMicroseconds.median,
      unit: 'times',
    },
  ];
}
