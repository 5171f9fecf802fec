/**
 * `make bench-base SUPERNODES=1000 PEERS=1000000`: base with a directory of that size, as the real daemon over its real
 * database, asked over TLS. Prints tables and keeps everything in bench/results/base.json.
 *
 * REVOKED=<nodes> (10000), AUDIT_EVERY=<enrolments> (10), REGIONS=<number> (20), SECONDS=<of each rate> (5).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSodium } from '../src/identity/sodium.js';
import { BaseDaemon } from './base/daemon.js';
import { fill } from './base/fill.js';
import type { Flood } from './base/flood.js';
import { calls, heartbeats, idle, joinAll, news, operator } from './base/measures.js';
import { issue } from './base/supernode.js';
import { describeMachine } from './lib/machine.js';
import { keep, type Row, table } from './lib/report.js';
import { summarise } from './lib/statistics.js';

const PORT = 17_400;
const STARTS = 3;
const KNOWN = 5_000;
const IDLE_SECONDS = 15;

const setting = (name: string, otherwise: number): number => Number(process.env[name] || otherwise);
const size = {
  supernodes: setting('SUPERNODES', 1_000),
  peers: setting('PEERS', 1_000_000),
  regions: setting('REGIONS', 20),
  revoked: setting('REVOKED', 10_000),
  auditEvery: setting('AUDIT_EVERY', 10),
  known: KNOWN,
};
const floodSeconds = setting('SECONDS', 5);

const machine = await describeMachine();
console.log(
  `${machine.cores} x ${machine.cpu}, Linux ${machine.kernel}, Node ${process.version}; others use ${machine.othersCpus} CPUs`,
);
const { crypto, random } = await openSodium();
const dir = mkdtempSync(join(tmpdir(), 'vpnd-bench-base-'));
let daemon: BaseDaemon | undefined;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    daemon?.process.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
    process.exit(1);
  });
}

try {
  const filled = await fill(dir, size, crypto);
  console.log(`filled in ${filled.seconds.toFixed(0)} s: ${filled.megabytes.toFixed(0)} MB`);
  const starts: number[] = [];
  for (let n = 0; n < STARTS; n++) {
    await daemon?.stop();
    daemon = await BaseDaemon.start(dir, PORT);
    starts.push(daemon.startMs);
  }
  if (daemon === undefined) throw new Error('base was not started');
  const bed = { daemon, port: PORT, filled, issued: await issue(filled, crypto), crypto, random, floodSeconds };
  const memoryAlone = daemon.memory();
  const { streams, told: joining } = await joinAll(bed);
  say('supernodes have joined', joining);
  const memoryJoined = daemon.memory();
  const resting = await idle(bed, streams, IDLE_SECONDS);
  const rates = { heartbeats: await heartbeats(bed, streams), ...(await calls(bed)) };
  for (const [name, one] of Object.entries(rates)) say(name, one);
  const told = await news(bed, streams);
  const operators = await operator(bed, streams);
  const memoryAfter = daemon.memory();
  const summary = {
    databaseMb: filled.megabytes,
    databaseAfterMb: daemon.disk(),
    startMs: summarise(starts),
    memoryMb: { alone: memoryAlone, joined: memoryJoined, after: memoryAfter },
    joining,
    idle: resting,
    rates,
    oneSupernodeDrains: told,
    operator: operators,
    streamsLost: streams.filter((one) => one.ended).length,
  };
  for (const one of streams) one.close();
  const rows = Object.entries(rates).map(
    ([name, one]: [string, Flood]): Row => [
      name,
      one.perSecond,
      one.ms.p50,
      one.ms.p99,
      one.cpuMs,
      Object.keys(one.failures).length === 0 ? '' : JSON.stringify(one.failures),
    ],
  );
  console.log(`\n${table(['', 'per second', 'p50, ms', 'p99, ms', 'CPU of base each, ms', 'failed'], rows)}`);
  const asked = Object.entries(operators).map(
    ([name, one]): Row => [
      name,
      one.ms,
      one.heartbeatsWaitedMs,
      one.cpuMs,
      one.rssGrewMb,
      'failure' in one ? String(one.failure) : '',
    ],
  );
  console.log(table(['', 'ms', 'heartbeats waited, ms', 'CPU, ms', 'RSS grew, MB', 'failed'], asked));
  say('one supernode drains', told);
  say('memory, MB', summary.memoryMb);
  say('start, ms', summary.startMs);
  const command = `make bench-base SUPERNODES=${size.supernodes} PEERS=${size.peers}`;
  const configuration = {
    ...size,
    floodSeconds,
    supernodes: `${size.supernodes}, each with a control stream over mutual TLS`,
  };
  const samples = { starts };
  console.log(keep({ name: 'base', command, configuration, summary, targets: [], samples }, machine));
} finally {
  await daemon?.stop();
  rmSync(dir, { recursive: true, force: true });
}
// Heartbeats that are still planned have nobody to go to.
process.exit(0);

function say(what: string, data: object): void {
  console.log(
    `${what}: ${JSON.stringify(data, (_key, one: unknown) => (typeof one === 'number' ? Math.round(one * 100) / 100 : one))}`,
  );
}
