import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readCorpus, writeCorpus } from './engine/corpus.js';
import type { Finding } from './engine/run-target.js';
import { endAll, type Outcome, supervise } from './engine/supervise.js';
import { openTargetNamed, shares, TARGETS } from './targets/index.js';

/**
 * `make fuzz`: N inputs (a million) over all targets, two processes at a time, led by what code they reach.
 *
 *   TARGET=offer,control   only these
 *   N=1000 SEED=7          how many, and which; the same twice gives the same inputs
 *   INPUT=file             runs one input of one TARGET and says what it does
 *   KEEP=1                 keeps what reached new code in test/fuzz/corpus
 *
 * What fails is written to fuzz-findings/, and the line that replays it printed. Ends with `<n> inputs, <m> findings`;
 * exit code 1 unless m is 0.
 */
const FINDINGS = 'fuzz-findings';
const { TARGET, INPUT, KEEP } = process.env;
const N = numberFrom('N', 1_000_000);
const SEED = numberFrom('SEED', 1);
const JOBS = numberFrom('JOBS', 2);

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.once(signal, () => {
    endAll();
    process.kill(process.pid, signal);
  });
}

const names = TARGET === undefined || TARGET === '' ? Object.keys(TARGETS) : TARGET.split(',');
for (const name of names)
  if (!Object.hasOwn(TARGETS, name)) fail(`no target is called ${name}; there are ${Object.keys(TARGETS).join(', ')}`);
if (INPUT !== undefined && INPUT !== '') await replay(names, INPUT);
else await fuzz();

async function fuzz(): Promise<void> {
  const began = performance.now();
  const counts = shares(names, N);
  // The slow ones first, so that no process works alone at the end.
  const waiting = [...names].sort(
    (a, b) => (TARGETS[b]?.cost ?? 0) * (counts.get(b) ?? 0) - (TARGETS[a]?.cost ?? 0) * (counts.get(a) ?? 0),
  );
  const outcomes: Outcome[] = [];
  console.log('target              inputs      s  cpu s  us each  slowest  places  corpus  growth     rss  findings');
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const corpus = readCorpus(name);
      const outcome = await supervise({ target: name, seed: SEED, count: counts.get(name) ?? 0, corpus });
      outcomes.push(outcome);
      console.log(lineOf(outcome));
      for (const finding of outcome.findings) report(finding);
      if (KEEP !== undefined && KEEP !== '') writeCorpus(name, outcome.kept);
    }
  };
  try {
    await Promise.all(Array.from({ length: JOBS }, worker));
  } finally {
    endAll();
  }
  const inputs = outcomes.reduce((sum, one) => sum + one.inputs, 0);
  const findings = outcomes.reduce((sum, one) => sum + one.findings.length, 0);
  const cpu = outcomes.reduce((sum, one) => sum + one.cpuMs, 0) / 1000;
  console.log(`${((performance.now() - began) / 1000).toFixed(0)} s, ${cpu.toFixed(0)} s of processor time`);
  console.log(`${inputs} inputs, ${findings} findings`);
  process.exitCode = findings > 0 ? 1 : 0;
}

function lineOf({ target, inputs, ms, cpuMs, slowest, places, kept, growth, rss, findings }: Outcome): string {
  return [
    target.padEnd(18),
    String(inputs).padStart(8),
    (ms / 1000).toFixed(1).padStart(6),
    (cpuMs / 1000).toFixed(1).padStart(6),
    String(Math.round((cpuMs * 1000) / (inputs || 1))).padStart(8),
    `${slowest.toFixed(0)} ms`.padStart(8),
    String(places).padStart(7),
    String(kept.length).padStart(7),
    `${growth.toFixed(1)} MiB`.padStart(9),
    `${rss.toFixed(0)} MiB`.padStart(8),
    String(findings.length).padStart(5),
  ].join(' ');
}

function report({ target, index, input, what }: Finding): void {
  mkdirSync(FINDINGS, { recursive: true });
  const path = join(FINDINGS, `${target}-${createHash('sha256').update(input).digest('hex').slice(0, 12)}`);
  writeFileSync(path, input);
  console.log(`  ${target}, input ${index}: ${what.split('\n').slice(0, 8).join('\n      ')}`);
  console.log(`    make fuzz TARGET=${target} INPUT=${path}`);
}

/** In this process, so that a debugger finds it. */
async function replay([name, ...more]: readonly string[], path: string): Promise<void> {
  if (name === undefined || more.length > 0) return fail('INPUT needs one TARGET');
  const target = await openTargetNamed(name);
  const open = await target.open(SEED);
  try {
    await open.run(new Uint8Array(readFileSync(path)));
    await open.check?.();
    console.log('1 inputs, 0 findings');
  } catch (thrown) {
    console.log(thrown);
    console.log('1 inputs, 1 findings');
    process.exitCode = 1;
  } finally {
    await open.close?.();
  }
}

function numberFrom(name: string, otherwise: number): number {
  const text = process.env[name];
  if (text === undefined || text === '') return otherwise;
  const value = Number(text);
  return Number.isSafeInteger(value) && value >= 0 ? value : fail(`${name}=${text} is not a number`);
}

function fail(why: string): never {
  console.error(why);
  // Before any target has been started.
  process.exit(2);
}
