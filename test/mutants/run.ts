/**
 * Makes each mistake of this folder in a copy of the program, and runs the test that has to notice it: a line each, and
 * `<caught>/<all> mutants caught` as the last one; exit status 1 unless all are. `MUTANT=06,port-shadow` for those whose names begin so.
 *
 * Counts as caught: the test passes without the mistake, the program with it compiles, and the test then fails by an
 * assertion. A mistake that fits the source no more is not caught, nor is one that only makes a test hang.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { removeAbandonedLabs } from '../../chaos/lab/residue.js';
import { failuresIn, totalsOf } from '../support/lab-tap.js';
import { Compiler } from './compile.js';
import { MUTANTS } from './index.js';
import { type CaughtBy, edited, editsByFile, type Mutant, needsRoot } from './mutant.js';
import { Tree } from './tree.js';

const ROOT = process.cwd();
const BUILT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
/** Seconds for one test. */
const LIMIT = { quiet: 120, host: 300 };
/** Below everything else that this machine does. */
const NICE = 10;

interface Verdict {
  readonly caught: boolean;
  readonly text: string;
}

interface Outcome {
  readonly kind: 'passed' | 'failed' | 'broken';
  readonly said: string;
}

const running = new Set<ChildProcess>();
const trees: Tree[] = [];
let interrupted: NodeJS.Signals | undefined;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted ??= signal;
    for (const child of running) child.kill('SIGTERM');
  });
}

setPriority(NICE);
const beginnings = (process.env.MUTANT ?? '').split(',');
const wanted = MUTANTS.filter(({ name }) => beginnings.some((beginning) => name.startsWith(beginning)));
const compiler = new Compiler(ROOT);
const baselines = new Map<string, Promise<Outcome>>();
let caught = 0;
try {
  await runAll();
} finally {
  for (const tree of trees) tree.remove();
  for (const name of removeAbandonedLabs()) console.log(`removed what was left of lab ${name}`);
}
if (interrupted) {
  console.log(`interrupted (${interrupted})`);
  process.removeAllListeners(interrupted);
  process.kill(process.pid, interrupted);
} else {
  console.log(`${caught}/${wanted.length} mutants caught`);
  process.exitCode = caught === wanted.length && wanted.length > 0 ? 0 : 1;
}

/** Two at a time, of which one at most is a host test: those have the network's names and the time to themselves. */
async function runAll(): Promise<void> {
  const quiet = wanted.filter(({ caughtBy }) => !needsRoot(caughtBy));
  const host = wanted.filter(({ caughtBy }) => needsRoot(caughtBy));
  const lane = async (queues: readonly Mutant[][]) => {
    const tree = new Tree(ROOT, BUILT);
    trees.push(tree);
    for (const queue of queues)
      for (let next = queue.shift(); next !== undefined && !interrupted; next = queue.shift()) await report(next, tree);
  };
  await Promise.all([lane([host, quiet]), lane([quiet])]);
}

async function report(mutant: Mutant, tree: Tree): Promise<void> {
  const began = performance.now();
  const verdict = await judge(mutant, tree);
  if (interrupted) return;
  if (verdict.caught) caught++;
  const took = ((performance.now() - began) / 1000).toFixed(1);
  console.log(
    `${verdict.caught ? 'caught  ' : 'SURVIVED'} ${mutant.name}: ${mutant.mistake} (${verdict.text}) ${took} s`,
  );
}

async function judge(mutant: Mutant, tree: Tree): Promise<Verdict> {
  const { caughtBy } = mutant;
  if (needsRoot(caughtBy) && process.geteuid?.() !== 0) return { caught: false, text: 'its test needs root' };
  const survived = (text: string): Verdict => ({ caught: false, text });
  let compiled: readonly { readonly file: string; readonly text: string }[];
  const sources = new Map<string, string>();
  try {
    for (const [file, edits] of editsByFile(mutant))
      sources.set(file, edited(file, readFileSync(join(ROOT, file), 'utf8'), edits));
    compiled = compiler.compile(new Map([...sources].filter(([file]) => file.endsWith('.ts'))));
  } catch (thrown) {
    return survived(`not made: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
  }
  const key = JSON.stringify(caughtBy);
  const before = baselines.get(key) ?? runTest(caughtBy, tree);
  baselines.set(key, before);
  const without = await before;
  if (without.kind !== 'passed') return survived(`its test fails without it\n${without.said}`);
  for (const [file, text] of sources) tree.write(file, text);
  for (const { file, text } of compiled) tree.write(join('dist', file), text);
  const outcome = await runTest(caughtBy, tree);
  tree.restore();
  if (outcome.kind === 'failed') return { caught: true, text: caughtBy.file };
  return survived(outcome.kind === 'passed' ? `${caughtBy.file} passes` : `no verdict\n${outcome.said}`);
}

async function runTest(caughtBy: CaughtBy, tree: Tree): Promise<Outcome> {
  const { file, test = [] } = caughtBy;
  const limit = needsRoot(caughtBy) ? LIMIT.host : LIMIT.quiet;
  const grep = test.map((name) => `/^${name.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&')}$/`).join('\n');
  const path = join(tree.root, 'dist', file.replace(/\.ts$/, '.js'));
  const child = spawn(process.execPath, ['--enable-source-maps', path], {
    cwd: tree.root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      TAP_TIMEOUT: String(limit),
      ...(test.length === 0 ? {} : { TAP_GREP: grep, TAP_FILTER_QUIETLY: '1' }),
    },
  });
  running.add(child);
  const alarm = setTimeout(() => child.kill('SIGKILL'), (limit + 20) * 1000);
  const said = [collect(child.stdout), collect(child.stderr)] as const;
  const code = await new Promise<number | null>((resolve) => {
    child.once('close', (status) => resolve(status));
    child.once('error', () => resolve(null));
  });
  clearTimeout(alarm);
  running.delete(child);
  const [tap, complaints] = said.map((read) => read());
  return outcomeOf(code, tap ?? '', complaints ?? '', test);
}

function outcomeOf(code: number | null, tap: string, complaints: string, test: readonly string[]): Outcome {
  const totals = totalsOf(tap);
  const said = `${failuresIn(tap)}\n${complaints}`.trim().split('\n').slice(0, 40).join('\n');
  // A test that is passed over is told as passed, but not begun.
  const begun = tap.split('\n').map((line) => line.trim());
  const ran = test.every((name) => begun.includes(`# Subtest: ${name}`));
  // Who bails out at the first failure counts nothing up.
  const ended = totals === undefined ? /^\s*Bail out!/m.test(tap) : totals.total > 0;
  if (!ended || !ran) return { kind: 'broken', said: `nothing was tested\n${said}` };
  if (code === 0 && totals?.fail === 0) return { kind: 'passed', said };
  const failed = tap.split('\n').filter((line) => /^\s*not ok \d+/.test(line));
  // A test around one that hung fails with it; one that failed by itself says so beside them.
  const hung = /failureType: ['"]?(?:timeout|testCodeFailureTimeout)/.test(tap) || /not ok \d+ - timeout!/.test(tap);
  const assertions = failed.filter((line) => !/timeout!/.test(line)).length;
  return hung && assertions <= 1 ? { kind: 'broken', said: `it took too long\n${said}` } : { kind: 'failed', said };
}

function collect(stream: NodeJS.ReadableStream): () => string {
  const parts: string[] = [];
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => parts.push(text));
  return () => parts.join('');
}
