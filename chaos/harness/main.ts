/**
 * `make chaos`: every scenario of chaos/scenarios over real daemons, two at a time; `make chaos SCENARIO=X3` one of them,
 * `SCENARIO=X` a group. `SCENARIO=list` names them. JOBS=1 plays one at a time, which another machine may need.
 *
 * `main.js kernel` plays those of KERNEL alone, one at a time, over lines that delay and lose packets, and with the patience
 * that an emulated machine asks for: `make chaos-kernel` runs it where WireGuard is the kernel's. What is written there is
 * lost with the machine, so figures are printed.
 *
 * Prints a line for each, writes a report with a picture of each to CHAOS_REPORT (chaos-report), and ends with
 * `<n> of <m> scenarios held`; exit status 1 unless that is all of them.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { KERNEL, SCENARIOS } from '../scenarios/index.js';
import type { Told } from './chronicle.js';
import { SMALL } from './places.js';
import { play } from './play.js';
import { wireGuardFirst } from './precedence.js';
import { writeIndex, writeScenario } from './report.js';
import { GROUPS, groupOf, select } from './scenario.js';
import { AS_IT_IS } from './story.js';

// An emulated machine has the command line of the program that runs in it, and not its environment.
const asked = process.argv[3] ?? process.env.SCENARIO ?? '';
const inKernel = process.argv[2] === 'kernel';
const jobs = inKernel ? 1 : Number(process.env.JOBS || 2);
const LINE = { delayMs: 20, lossPercent: 0.5 };
const conditions = inKernel ? { patience: 10, rate: 10, line: LINE } : AS_IT_IS;
const directory = process.env.CHAOS_REPORT || 'chaos-report';

if (asked === 'list') {
  for (const { id, title } of SCENARIOS) console.log(`${id.padEnd(4)} ${title}`);
} else {
  process.exitCode = await run();
}

async function run(): Promise<number> {
  const core = SCENARIOS.filter(({ id }) => KERNEL.includes(id)).map((one) => ({ ...one, place: SMALL }));
  const scenarios = select(inKernel ? core : SCENARIOS, asked);
  const startedAt = new Date();
  const began = performance.now();
  const waiting = [...scenarios];
  const all: Told[] = [];
  // What an earlier run has left would be taken for this one's.
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const asBefore = wireGuardFirst();
  const worker = async () => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
      const told = await play(next, directory, conditions);
      all.push(told);
      writeScenario(directory, told);
      console.log(lineOf(told));
      if (inKernel) for (const { what, value } of told.figures) console.log(`       ${what}: ${value}`);
      for (const complaint of told.complaints) console.log(`       ${complaint}`);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Math.min(jobs, scenarios.length)) }, worker));
  asBefore();
  const order = scenarios.map(({ id }) => id);
  all.sort((one, other) => order.indexOf(one.id) - order.indexOf(other.id));
  const seconds = (performance.now() - began) / 1000;
  const [cpu] = cpus();
  const machine = `${cpus().length} x ${cpu?.model ?? 'CPU'}, Linux ${release()}, Node ${process.version}`;
  const command = `make chaos${inKernel ? '-kernel' : ''}${asked === '' ? '' : ` SCENARIO=${asked}`}`;
  const file = writeIndex(directory, all, { machine, command, startedAt, seconds });
  const held = all.filter(({ complaints }) => complaints.length === 0).length;
  for (const group of new Set(all.map(groupOf))) {
    const inside = all.filter((told) => groupOf(told) === group);
    const broken = inside.filter(({ complaints }) => complaints.length > 0).map(({ id }) => id);
    const verdict = broken.length === 0 ? `${inside.length} held` : `broken: ${broken.join(', ')}`;
    console.log(`${group}  ${GROUPS[group]}: ${verdict}`);
  }
  console.log(`report: ${file}`);
  console.log(`${held} of ${all.length} scenarios held, ${(seconds / 60).toFixed(1)} min`);
  return held === all.length ? 0 : 1;
}

function lineOf({ id, title, complaints, seconds, figures }: Told): string {
  const [gap] = figures.filter(({ what }) => what.endsWith('longest gap')).map(({ value }) => value);
  const verdict = complaints.length === 0 ? 'held  ' : 'BROKEN';
  return `${verdict} ${id.padEnd(4)} ${seconds.toFixed(0).padStart(4)} s  ${title}${gap === undefined ? '' : `  [longest gap ${gap}]`}`;
}
