/**
 * `make leaks RUNS=20`: what a client lets out of its machine outside its tunnels while things change, with recordings of
 * everything that its router is handed. Names as arguments run those transitions alone. Prints a table, keeps it in
 * bench/results/leaks.json, and ends with `<n> runs, <m> packets outside`; exit status 1 unless m is 0.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { LeakBed } from './bed.js';
import { TRANSITIONS, type Transition } from './transitions.js';

const RESULTS = 'bench/results/leaks.json';

interface Kept {
  readonly title: string;
  readonly at: string;
  readonly runs: number;
  /** Frames that the routers recorded, and datagrams that the traffic program had sent. */
  readonly frames: number;
  readonly sent: number;
  readonly leaks: readonly string[];
  /** Runs that did not come to their end, with why. */
  readonly failed: readonly string[];
}

const runs = Number(process.env.RUNS || 2);
const names = process.argv.slice(2).filter((name) => name !== '');
const unknown = names.filter((name) => !TRANSITIONS.some((one) => one.name === name));
if (unknown.length > 0 || !Number.isInteger(runs) || runs < 1) {
  console.error(`RUNS=<number> leaks [${TRANSITIONS.map(({ name }) => name).join(' ')}]`);
  // Nothing has been started that had to end first.
  process.exit(2);
}

const chosen = TRANSITIONS.filter(({ name }) => names.length === 0 || names.includes(name));
const seen = new Map<string, Kept>();
let bed = await LeakBed.make();
try {
  // In rounds: who ends it early has as many runs of each.
  for (let run = 0; run < runs; run++) {
    for (const transition of chosen) keep(transition.name, await oneMore(transition, seen.get(transition.name)));
    console.log(
      `round ${run + 1} of ${runs}: ${[...seen.values()].flatMap(({ leaks }) => leaks).length} packets outside`,
    );
  }
} finally {
  await bed.close();
}
console.log('transition       runs   frames     sent  outside  failed');
for (const [name, { runs, frames, sent, leaks, failed }] of seen) {
  const cells = [runs, frames, sent, leaks.length, failed.length];
  console.log(`${name.padEnd(15)} ${cells.map((cell, i) => String(cell).padStart([5, 8, 8, 8, 7][i] ?? 8)).join(' ')}`);
  for (const line of [...leaks.slice(0, 5), ...failed.slice(0, 3)]) console.log(`    ${line}`);
}
const all = [...seen.values()];
const broken = all.flatMap(({ failed }) => failed).length;
const outside = all.flatMap(({ leaks }) => leaks).length;
const total = all.reduce((sum, one) => sum + one.runs, 0) - broken;
console.log(`${total} runs, ${outside} packets outside${broken > 0 ? `, ${broken} runs failed` : ''}`);
process.exitCode = outside + broken > 0 ? 1 : 0;

async function oneMore({ title, once }: Transition, before: Kept | undefined): Promise<Kept> {
  const { runs: run, frames, sent, leaks, failed } = before ?? { runs: 0, frames: 0, sent: 0, leaks: [], failed: [] };
  const after = { title, at: new Date().toISOString(), runs: run + 1 };
  try {
    const one = await once(bed);
    const more = one.leaks.map((leak) => `run ${run}: ${leak}`);
    return { ...after, frames: frames + one.frames, sent: sent + one.sent, leaks: [...leaks, ...more], failed };
  } catch (thrown) {
    // Whatever it has left half done would be held against the next ones.
    await bed.close();
    bed = await LeakBed.make();
    const why = `run ${run}: ${thrown instanceof Error ? thrown.message : String(thrown)}`;
    return { ...after, frames, sent, leaks, failed: [...failed, why] };
  }
}

function keep(name: string, kept: Kept): void {
  seen.set(name, kept);
  let all: Record<string, Kept> = {};
  try {
    all = JSON.parse(readFileSync(RESULTS, 'utf8')) as Record<string, Kept>;
  } catch {
    // The first ones.
  }
  writeFileSync(
    RESULTS,
    `${JSON.stringify({ ...all, [name]: { ...kept, leaks: kept.leaks.slice(0, 50) } }, undefined, 2)}\n`,
  );
}
