/**
 * `make bench-recovery RUNS=30`: what happens to traffic when exits, relays and networks go away or change, and when
 * paths and exits are changed on purpose. Names of events as arguments run those alone, and leave the others' figures as
 * they were kept. Prints tables, keeps everything in bench/results/recovery.json, and judges nothing by its exit status.
 */

import { describeMachine } from './lib/machine.js';
import { Bed } from './recovery/bed.js';
import { baseAway, supernodeRestarted } from './recovery/control-plane.js';
import { drained, drainedAuto } from './recovery/drain.js';
import type { BedEvent, RecoveryEvent, Sample } from './recovery/event.js';
import {
  addressChange,
  exitCutOff,
  exitFrozen,
  exitFrozenBehindRelays,
  exitKilled,
  exitUnplugged,
  natRebinding,
  relayUnplugged,
} from './recovery/failures.js';
import { keepEvents } from './recovery/kept.js';
import { rotation, rotationWithDownload, toDirect, toRelay } from './recovery/planned.js';

const EVENTS: readonly RecoveryEvent[] = [
  toDirect,
  toRelay,
  rotation,
  rotationWithDownload,
  exitKilled,
  exitFrozen,
  exitFrozenBehindRelays,
  exitUnplugged,
  exitCutOff,
  relayUnplugged,
  supernodeRestarted,
  baseAway,
  drained,
  drainedAuto,
  ...natRebinding,
  ...addressChange,
];
const DEFAULT_RUNS = 5;

const asked = Number(process.env.RUNS || DEFAULT_RUNS);
const names = process.argv.slice(2);
const unknown = names.filter((name) => !EVENTS.some((event) => event.name === name));
if (unknown.length > 0 || !Number.isInteger(asked) || asked < 1) {
  console.error(`RUNS=<number> recovery.js [${EVENTS.map(({ name }) => name).join(' ')}]`);
  // Nothing has been started that had to end first.
  process.exit(2);
}

const machine = await describeMachine();
console.log(`${machine.cores} x ${machine.cpu}, Linux ${machine.kernel}, Node ${process.version}`);
if (machine.othersCpus > 0.2) console.log(`Others use ${machine.othersCpus} of ${machine.cores} CPUs at present.`);

let bed: Bed | undefined;
try {
  for (const event of EVENTS) {
    if (names.length > 0 && !names.includes(event.name)) continue;
    const runs = event.runs?.(asked) ?? asked;
    console.log(`\n${event.name}: ${event.title}, ${runs} runs`);
    const outcome =
      'once' in event ? await inTheBed(event, runs) : { samples: await event.all(runs, say), failures: [] };
    console.log(keepEvents(machine, event, outcome));
  }
} finally {
  await bed?.close();
}

/** A run that cannot be set up or measured is a failure that is told, and costs nobody else's runs. */
async function inTheBed(event: BedEvent, runs: number): Promise<{ samples: readonly Sample[]; failures: string[] }> {
  const samples: Sample[] = [];
  const failures: string[] = [];
  for (let run = 0; run < runs; run++) {
    try {
      bed ??= await Bed.make();
      try {
        samples.push(await event.once(bed));
      } finally {
        await bed.restore();
      }
      const [last] = samples.slice(-1);
      say(`${run + 1}: ${last === undefined ? '' : told(last)}`);
    } catch (thrown) {
      const why = thrown instanceof Error ? thrown.message : String(thrown);
      failures.push(why);
      say(`${run + 1}: FAILED ${why}`);
      // Whatever it left must not be the next run's trouble.
      await bed?.close();
      bed = undefined;
    }
  }
  return { samples, failures };
}

function told(sample: Sample): string {
  const { recoveredMs, gapMs, quietGapMs, instrumentPauseMs, sent, lost, lostAtMs } = sample;
  const { tookMs, download, troubles = [] } = sample;
  const ms = (value: number) => `${Math.round(value)} ms`;
  return [
    `traffic again after ${ms(recoveredMs)}`,
    `longest gap ${ms(gapMs)} (${ms(quietGapMs)} before, sender ${ms(instrumentPauseMs)})`,
    `${lost} of ${sent} lost${lost > 0 && lost <= 10 && lostAtMs !== undefined ? ` (sent at ${lostAtMs.join(', ')} ms)` : ''}`,
    ...(tookMs === undefined ? [] : [`answered in ${ms(tookMs)}`]),
    ...troubles,
    ...(download === undefined ? [] : [download.intact ? 'download intact' : `download: ${download.trouble}`]),
  ].join(', ');
}

function say(text: string): void {
  console.log(`  ${text}`);
}
