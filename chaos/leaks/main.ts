/**
 * `make leaks RUNS=20`: what a client lets out of its machine outside its tunnels while things change, with recordings of
 * everything that its router is handed. Names as arguments run those transitions alone. Prints a table, keeps it in
 * bench/results/leaks.json, and ends with `<n> runs, <m> packets outside`; exit status 1 unless m is 0.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { LeakBed } from './bed.js';
import { TRANSITIONS } from './transitions.js';

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

const bed = await LeakBed.make();
let total = 0;
let outside = 0;
let broken = 0;
try {
  console.log('transition       runs   frames     sent  outside  failed');
  for (const transition of TRANSITIONS) {
    if (names.length > 0 && !names.includes(transition.name)) continue;
    const seen = { frames: 0, sent: 0 };
    const leaks: string[] = [];
    const failed: string[] = [];
    for (let run = 0; run < runs; run++) {
      try {
        const one = await transition.once(bed);
        seen.frames += one.frames;
        seen.sent += one.sent;
        leaks.push(...one.leaks.map((leak) => `run ${run}: ${leak}`));
      } catch (thrown) {
        failed.push(`run ${run}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
        await restartAll(bed);
      }
    }
    const { name, title } = transition;
    keep(name, { title, at: new Date().toISOString(), runs, ...seen, leaks: leaks.slice(0, 50), failed });
    const cells = [runs, seen.frames, seen.sent, leaks.length, failed.length];
    console.log(
      `${name.padEnd(15)} ${cells.map((cell, i) => String(cell).padStart([5, 8, 8, 8, 7][i] ?? 8)).join(' ')}`,
    );
    for (const line of [...leaks.slice(0, 5), ...failed.slice(0, 3)]) console.log(`    ${line}`);
    total += runs - failed.length;
    outside += leaks.length;
    broken += failed.length;
  }
} finally {
  await bed.close();
}
console.log(`${total} runs, ${outside} packets outside${broken > 0 ? `, ${broken} runs failed` : ''}`);
process.exitCode = outside + broken > 0 ? 1 : 0;

/** What a run that failed may have left dead. */
async function restartAll({ fleet }: LeakBed): Promise<void> {
  for (const node of fleet.nodes) {
    const answers = await node.api.status().then(
      () => true,
      () => false,
    );
    if (!answers) await node.start().catch(() => undefined);
  }
}

function keep(name: string, kept: Kept): void {
  let all: Record<string, Kept> = {};
  try {
    all = JSON.parse(readFileSync(RESULTS, 'utf8')) as Record<string, Kept>;
  } catch {
    // The first ones.
  }
  writeFileSync(RESULTS, `${JSON.stringify({ ...all, [name]: kept }, undefined, 2)}\n`);
}
