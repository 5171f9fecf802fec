import { setTimeout as pause } from 'node:timers/promises';
import { createLab } from '../../../chaos/lab/index.js';
import { cpuTime, memoryUse } from '../../lib/process-cost.js';
import type { Result } from '../../lib/report.js';
import { percentile } from '../../lib/statistics.js';
import { type Spread, spreadOf } from '../spread.js';
import { ASKS, broker, type StreamServer, vpndServer } from './systems.js';

interface Sample {
  readonly kbPerConnection: number;
  readonly emptyMb: number;
  readonly cpuMsPerSecond: number;
  readonly pushP50Ms: number;
  readonly pushP99Ms: number;
}

export interface StreamsRow {
  readonly server: string;
  readonly kbPerConnection: Spread;
  readonly emptyMb: Spread;
  readonly cpuMsPerSecond: Spread;
  readonly pushP50Ms: Spread;
  readonly pushP99Ms: Spread;
}

export interface StreamsSummary {
  readonly connections: number;
  readonly rows: readonly StreamsRow[];
}

const CONNECTIONS = 1_000;
/** So many come and go first: what is loaded, compiled and made once is there then. */
const WARM_UP = 100;
const SETTLE_MS = 3_000;
const REST_MS = 10_000;

/** Idle connections to one server process, and messages pushed down them. Each measurement is of a server just started. */
export async function benchStreamsBeside(
  command: string,
  rounds: number,
  tell: (line: string) => void,
): Promise<Result<StreamsSummary>> {
  const lab = await createLab({ name: 'beside' });
  const samples = new Map<string, Sample[]>();
  const servers: StreamServer[] = [];
  try {
    servers.push(await vpndServer(lab, CONNECTIONS), await broker(lab, 'nats'), await broker(lab, 'mqtt'));
    for (let round = 1; round <= rounds; round++) {
      for (const server of servers) {
        const sample = await measure(server);
        samples.set(server.name, [...(samples.get(server.name) ?? []), sample]);
        tell(
          `${round}/${rounds} ${server.name}: ${sample.kbPerConnection.toFixed(1)} KB each, ` +
            `${sample.cpuMsPerSecond.toFixed(1)} ms/s, push p50 ${sample.pushP50Ms.toFixed(2)} ms`,
        );
      }
    }
  } finally {
    await lab.close();
  }
  const rows = [...samples].map(([server, own]): StreamsRow => {
    const spread = (what: (one: Sample) => number) => spreadOf(own.map(what));
    return {
      server,
      kbPerConnection: spread((one) => one.kbPerConnection),
      emptyMb: spread((one) => one.emptyMb),
      cpuMsPerSecond: spread((one) => one.cpuMsPerSecond),
      pushP50Ms: spread((one) => one.pushP50Ms),
      pushP99Ms: spread((one) => one.pushP99Ms),
    };
  });
  return {
    name: 'beside-streams',
    command,
    configuration: {
      rounds,
      connections: CONNECTIONS,
      warmUp: `${WARM_UP} that came and went`,
      settledForMs: SETTLE_MS,
      restMs: REST_MS,
      push: `${ASKS.times} times, every ${ASKS.everyMs} ms: one message up a connection, one that the server sends down the same; the next time another`,
      memory: 'resident memory of the server’s process; what the kernel keeps for sockets is not in it',
      servers: servers.map(({ name, setUp }) => ({ name, setUp })),
    },
    summary: { connections: CONNECTIONS, rows },
    targets: [],
    samples: Object.fromEntries(samples),
  };
}

async function measure(server: StreamServer): Promise<Sample> {
  const { pid, crowd, stop } = await server.start();
  try {
    await crowd.join(WARM_UP);
    await crowd.leave();
    await pause(SETTLE_MS);
    const empty = memoryUse(pid).rss;
    await crowd.join(CONNECTIONS);
    await pause(SETTLE_MS);
    const [cpuBefore, began] = [cpuTime(pid).own, performance.now()];
    await pause(REST_MS);
    const cpu = ((cpuTime(pid).own - cpuBefore) * 1e6) / (performance.now() - began);
    const full = memoryUse(pid).rss;
    const { latenciesMs } = await crowd.ask();
    await crowd.leave();
    return {
      kbPerConnection: (full - empty) / 1024 / CONNECTIONS,
      emptyMb: empty / 2 ** 20,
      cpuMsPerSecond: cpu,
      pushP50Ms: percentile(latenciesMs, 0.5),
      pushP99Ms: percentile(latenciesMs, 0.99),
    };
  } finally {
    await crowd.leave().catch(() => undefined);
    await stop();
  }
}
