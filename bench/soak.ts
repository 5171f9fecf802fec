/**
 * `make soak HOURS=2`: real daemons in network namespaces for hours, with sessions that come and go and faults mixed in.
 * Follows memory, descriptors, what kernels hold and latencies over time, fits a slope with a confidence interval to each,
 * and looks at the end whether anything is left. Keeps everything in bench/results/soak.json and soak.svg.
 *
 * HOURS=<hours> (2), RATE=<sessions per second> (10), FAULT_EVERY=<seconds> (75), SEED=<number> (1). SIGINT or SIGTERM end
 * the run early and judge what there is; a second one ends it at once. RECORD=<file> keeps what was seen every minute. Exit status 1 when something grows or is left.
 */
import { writeFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { activeSession, isUp, statusOf } from '../chaos/overlay/index.js';
import { describeMachine, type Machine } from './lib/machine.js';
import { CLIENTS, EXITS, SoakBed, SUPERNODES } from './soak/bed.js';
import { FAULTS } from './soak/faults.js';
import { comeAndGo, disconnect } from './soak/guests.js';
import { keepSoak, type Outcome } from './soak/outcome.js';
import { LongPing } from './soak/pinging.js';
import { emptyRecord, type SoakRecord } from './soak/record.js';
import { type Holdings, holdings, untilNothingIsLeft } from './soak/residue.js';
import { sampleRegularly } from './soak/sampling.js';

const HOLD_MS = [2_000, 6_000] as const;
/** Left without a word: a supernode gives such a client five minutes to come back. */
const VANISH_PERCENT = 1;
const PING_TAKE_MS = 15_000;
const WARM_UP_MS = 20_000;
/** Five minutes for clients that have vanished, four of lease for what nobody could be told about, and a sweep. */
const EMPTY_LIMIT_MS = 11 * 60_000;
const SETTLE_LIMIT_MS = 90_000;
const UP_LIMIT_MS = 60_000;

const setting = (name: string, otherwise: number): number => Number(process.env[name] || otherwise);
const options = {
  hours: setting('HOURS', 2),
  perSecond: setting('RATE', 10),
  faultEverySeconds: setting('FAULT_EVERY', 75),
  seed: setting('SEED', 1),
};
if (!Object.values(options).every((value) => Number.isFinite(value) && value > 0)) {
  console.error('HOURS=<hours> RATE=<sessions per second> FAULT_EVERY=<seconds> SEED=<number>, each above 0');
  // Nothing has been started that had to end first.
  process.exit(2);
}

const configuration = { ...options, holdMs: HOLD_MS, vanishPercent: VANISH_PERCENT };
/** Aborts when it is time to come to an end. */
const ending = new AbortController();
let asked = 0;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    // The lab goes with the process.
    if (asked++ > 0) process.exit(1);
    say(`${signal}: ending early; once more ends it at once`);
    ending.abort();
  });
}

const machine = await describeMachine();
say(
  `${machine.cores} x ${machine.cpu}, Linux ${machine.kernel}, Node ${process.version}; others use ${machine.othersCpus} CPUs`,
);
const bed = await SoakBed.make(say);
try {
  process.exitCode = (await soak(bed, machine)) ? 0 : 1;
} finally {
  await bed.close();
}

async function soak(bed: SoakBed, machine: Machine): Promise<boolean> {
  const nodes = bed.fleet.nodes;
  say('every path is used once, so that what stays for good is there before anything is counted');
  await warmUp(bed);
  const before = await holdings(nodes);
  const record = emptyRecord(Date.now());
  const closing = ending.signal;
  const enough = setTimeout(() => ending.abort(), options.hours * 3_600_000);
  say(`${options.hours} h, ${options.perSecond} sessions per second, a fault every ${options.faultEverySeconds} s`);
  const visitors = await bed.visitors(configuration, (tally) => record.visits.push(tally));
  const watching = new AbortController();
  const sampling = sampleRegularly(nodes, record, watching.signal);
  const pings = pinging(bed, record, closing);
  const guests = CLIENTS.filter((name) => name !== 'steady').map((name) =>
    comeAndGo(bed.node(name), closing, (connect) => record.connects.push(connect)),
  );
  const telling = setInterval(() => {
    say(progress(record));
    save(record);
  }, 60_000);
  await faults(bed, record, closing);
  await Promise.all([...guests, pings]);
  clearTimeout(enough);
  visitors.kill('SIGTERM');
  await visitors.exited;
  clearInterval(telling);
  watching.abort();
  await sampling;
  say('everybody has left; waiting until nothing of it is there any more');
  save(record);
  const end = await untilNothingIsLeft(nodes, before, EMPTY_LIMIT_MS);
  return finish(bed, machine, record, end);
}

/** Stops the daemons, one kind after the other, and judges. */
async function finish(
  bed: SoakBed,
  machine: Machine,
  record: SoakRecord,
  end: Pick<Outcome, 'left' | 'tookMs'>,
): Promise<boolean> {
  const running = [...CLIENTS, ...EXITS, ...SUPERNODES].map((name) => bed.node(name));
  for (const node of [...running, bed.fleet.base]) await node.stop();
  const stillRunning = bed.fleet.nodes.flatMap((node) => node.host.pids().map((pid) => `${node.name}: process ${pid}`));
  const outcome: Outcome = {
    record,
    ...end,
    stillRunning,
    options: configuration,
  };
  return keepSoak(outcome, machine, say);
}

async function warmUp(bed: SoakBed): Promise<void> {
  const visits = {
    ...options,
    perSecond: Math.min(options.perSecond, 5),
    holdMs: [500, 1000] as const,
    vanishPercent: 0,
  };
  const visitors = await bed.visitors(visits, ({ failures }) => {
    if (Object.keys(failures).length > 0) say(`visits failed: ${JSON.stringify(failures)}`);
  });
  const clients = CLIENTS.map((name) => bed.node(name));
  for (const { api } of clients) {
    await api.up({}, AbortSignal.timeout(UP_LIMIT_MS));
    await api.down();
  }
  await pause(WARM_UP_MS, undefined, { signal: ending.signal }).catch(() => undefined);
  visitors.kill('SIGTERM');
  await visitors.exited;
  const giveUp = performance.now() + SETTLE_LIMIT_MS;
  const isEmpty = (held: Holdings) => [...held.values()].every((one) => one.wgPeers === 0 && one.elements === 0);
  while (!isEmpty(await holdings(bed.fleet.supernodes.concat(bed.fleet.exits))) && performance.now() < giveUp) {
    await pause(1000);
  }
}

/** One client stays connected, and pings the web server through its tunnel. */
async function pinging(bed: SoakBed, record: SoakRecord, closing: AbortSignal): Promise<void> {
  const steady = bed.node('steady');
  await steady.api.up({}, AbortSignal.timeout(UP_LIMIT_MS));
  await statusOf(steady, (status) => isUp(activeSession(status)));
  const ping = new LongPing(steady.host, bed.fleet.web.host.ipv4 ?? '');
  while (!closing.aborted) {
    await pause(PING_TAKE_MS, undefined, { signal: closing }).catch(() => undefined);
    record.pings.push(ping.take());
  }
  await ping.stop();
  await disconnect(steady);
}

async function faults(bed: SoakBed, record: SoakRecord, closing: AbortSignal): Promise<void> {
  for (let number = 0; !closing.aborted; number++) {
    await pause(options.faultEverySeconds * 1000, undefined, { signal: closing }).catch(() => undefined);
    const fault = FAULTS[number % FAULTS.length];
    if (closing.aborted || fault === undefined) return;
    const at = Date.now();
    try {
      await fault.act(bed);
      record.faults.push({ at, until: Date.now(), name: fault.name });
    } catch (thrown) {
      const trouble = thrown instanceof Error ? thrown.message : String(thrown);
      record.faults.push({ at, until: Date.now(), name: fault.name, trouble });
      say(`${fault.name}: ${trouble}`);
    }
  }
}

/** What was seen so far, for a run that does not come to its end; bench/soak/again.ts judges it. */
function save(record: SoakRecord): void {
  if (process.env.RECORD) writeFileSync(process.env.RECORD, JSON.stringify({ record, options: configuration }));
}

function progress(record: SoakRecord): string {
  const minute = record.visits.filter(({ at }) => at > Date.now() - 60_000);
  const count = (of: (one: (typeof minute)[number]) => number) => minute.reduce((sum, one) => sum + of(one), 0);
  const failures = minute.flatMap((one) => Object.entries(one.failures).map(([why, n]) => `${n} x ${why}`));
  const grants = minute.flatMap((one) => one.grantMs).sort((a, b) => a - b);
  const grant = grants[Math.floor(grants.length / 2)] ?? 0;
  const lost = record.pings.slice(-4).reduce((sum, one) => sum + one.lost, 0);
  const minutes = Math.round((Date.now() - record.began) / 60_000);
  const cpus = record.busy.at(-1)?.cpus ?? 0;
  return `${minutes} min: ${(count((one) => one.opened) / 60).toFixed(1)} sessions/s, ${count((one) => one.missed)} missed, ${failures.length === 0 ? 'none' : failures.join(', ')} failed, grant ${grant.toFixed(0)} ms, ${lost} pings lost, ${record.faults.at(-1)?.name ?? 'no fault yet'}, ${cpus.toFixed(2)} CPUs busy`;
}

function say(text: string): void {
  console.log(`  ${text}`);
}
