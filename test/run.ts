/**
 * Runs compiled test files: `run.js [--no-sum] <layer>...` with the layers unit, host and kernel, or `run.js <file>...`.
 *
 * Every file is a tap program that prints its own verdict, so it is started with plain `node`: the tap command line
 * tool loads a TypeScript compiler and an instrumentation hook into each of them, which more than doubles their time
 * here and takes minutes in the emulated machine of test/kernel. `npx tap dist/test/…` works too.
 *
 * Prints a line per file, the output of those that fail, a line "<layer>: N passed, N failed" each, and the sum alone
 * on the last line unless told not to. An interrupt ends the running files, and whatever their labs leave behind is
 * removed at the end in any case.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { constants, setPriority } from 'node:os';
import { basename, dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { removeAbandonedLabs } from '../chaos/lab/residue.js';
import { failuresIn, totalsOf } from './support/lab-tap.js';

interface Layer {
  readonly name: string;
  readonly files: readonly string[];
  readonly jobs: number;
  /** Seconds for one file. */
  readonly limit: number;
}

interface Count {
  readonly passed: number;
  readonly failed: number;
}

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = process.cwd();
const IN_VIRTUAL_TIME = /\/(unit|golden|sim)\//;
/** Between being asked to end and being killed, in ms: a lab takes less than a second to remove. */
const ENDING_PATIENCE = 10_000;

/** Those that wait longest: begun last, one of them would keep everybody waiting at the end. */
const LONGEST = [
  'preshared',
  'udp-blocked',
  'leaks',
  'exit-contract',
  'repair',
  'bad-input-sessions',
  'bad-input',
  'path',
];

const running = new Set<ChildProcess>();
let interrupted: NodeJS.Signals | undefined;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  process.on(signal, () => {
    interrupted ??= signal;
    for (const child of running) end(child);
  });
}

const args = process.argv.slice(2);
const layers = layersFrom(args.filter((arg) => arg !== '--no-sum'));
const total = { passed: 0, failed: 0 };
// At the same time: one layer computes, and the other mostly waits for timers of daemons.
await Promise.all(
  layers.map(async (layer) => {
    const { passed, failed } = await runLayer(layer);
    total.passed += passed;
    total.failed += failed;
    if (!interrupted) console.log(`${layer.name}: ${passed} passed, ${failed} failed`);
  }),
);
for (const name of removeAbandonedLabs()) console.log(`removed what was left of lab ${name}`);
if (interrupted) {
  console.log(`interrupted (${interrupted})`);
  process.removeAllListeners(interrupted);
  process.kill(process.pid, interrupted);
} else {
  if (!args.includes('--no-sum')) console.log(`${total.passed} passed, ${total.failed} failed`);
  process.exitCode = total.failed > 0 || layers.length === 0 ? 1 : 0;
}

function layersFrom(names: readonly string[]): Layer[] {
  const files = names.filter((name) => name.endsWith('.js'));
  const named = names.filter((name) => !name.endsWith('.js')).map(layer);
  return files.length > 0 ? [...named, { name: 'files', files, jobs: 1, limit: 600 }] : named;
}

/**
 * Test files by folder; those in other folders that need root and namespaces say so in their name: `….host.ts`.
 * `….suite.ts` files are parts of others.
 */
function layer(name: string): Layer {
  const rootNeeded = (file: string) => /\.host\.js$/.test(file);
  const quiet = ['unit', 'contract', 'golden', 'sim'].flatMap(filesIn);
  switch (name) {
    case 'unit':
      return { name, files: quiet.filter((file) => !rootNeeded(file)), jobs: 2, limit: 300 };
    case 'host':
      // Most of a lab's time is waiting for timers, and labs know nothing of each other.
      return { name, files: longestFirst([...quiet.filter(rootNeeded), ...filesIn('host')]), jobs: 3, limit: 300 };
    case 'kernel':
      return { name, files: kernelFiles(), jobs: 1, limit: 2000 };
    default:
      throw new Error(`no test layer is called ${name}`);
  }
}

function filesIn(folder: string): string[] {
  let found: string[];
  try {
    found = readdirSync(join(HERE, folder), { recursive: true, encoding: 'utf8' });
  } catch {
    return [];
  }
  return found
    .filter((file) => file.endsWith('.js') && !file.endsWith('.suite.js') && !file.startsWith('engine/'))
    .sort()
    .map((file) => join(HERE, folder, file));
}

function longestFirst(files: readonly string[]): readonly string[] {
  const rank = (file: string) => {
    const at = LONGEST.indexOf(basename(file).replace(/\..*$/, ''));
    return at < 0 ? LONGEST.length : at;
  };
  return [...files].sort((a, b) => rank(a) - rank(b));
}

/** test/kernel/files.txt names sources, one per line; "#" begins a comment. */
function kernelFiles(): string[] {
  return readFileSync(join(ROOT, 'test/kernel/files.txt'), 'utf8')
    .split('\n')
    .map((line) => line.replace(/#.*/, '').trim())
    .filter((line) => line !== '')
    .map((file) => join(dirname(HERE), file.replace(/\.ts$/, '.js')));
}

async function runLayer({ files, jobs, limit }: Layer): Promise<Count> {
  const waiting = [...files];
  const counts: Count[] = [];
  const worker = async () => {
    for (let file = waiting.shift(); file !== undefined && !interrupted; file = waiting.shift()) {
      counts.push(await runFile(file, limit));
    }
  };
  await Promise.all(Array.from({ length: jobs }, worker));
  return {
    passed: counts.reduce((sum, count) => sum + count.passed, 0),
    failed: counts.reduce((sum, count) => sum + count.failed, 0),
  };
}

async function runFile(file: string, limit: number): Promise<Count> {
  const began = performance.now();
  const child = spawn(process.execPath, ['--enable-source-maps', file], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, TAP_TIMEOUT: String(limit) },
  });
  running.add(child);
  // What computes in virtual time leaves the processors to what talks to real daemons at the same moment.
  if (IN_VIRTUAL_TIME.test(file) && child.pid !== undefined) {
    setPriority(child.pid, constants.priority.PRIORITY_BELOW_NORMAL);
  }
  const stdout = collect(child.stdout);
  const stderr = collect(child.stderr);
  let late = false;
  // tap ends a slow test by itself and says which; this is for a file that does not even do that.
  const alarm = setTimeout(
    () => {
      late = true;
      end(child);
    },
    (limit + 15) * 1000,
  );
  const ended = await new Promise<string>((resolve) => {
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
    child.once('error', (cause) => resolve(cause.message));
  });
  clearTimeout(alarm);
  running.delete(child);
  const name = relative(ROOT, file).replace(/^dist\//, '');
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  if (interrupted) return { passed: 0, failed: 0 };

  const totals = totalsOf(stdout.text());
  // Nothing but a clean end with a verdict and something tested counts as success.
  const broken = ended !== 'exit code 0' || totals === undefined || totals.total === 0;
  const failed = Math.max(totals?.fail ?? 0, broken ? 1 : 0);
  const passed = totals?.pass ?? 0;
  if (failed === 0) {
    const unfinished = totals && totals.skip + totals.todo > 0 ? `, ${totals.skip + totals.todo} skipped` : '';
    console.log(`ok ${name} (${passed}${unfinished}) ${seconds} s`);
  } else {
    const why = late ? 'took too long' : totals === undefined ? `no verdict, ${ended}` : `${ended}`;
    console.log(`not ok ${name} (${passed} passed, ${failed} failed; ${why}) ${seconds} s`);
    console.log(indent([failuresIn(stdout.text()), stderr.text().trimEnd()].filter((text) => text !== '').join('\n')));
  }
  return { passed, failed };
}

/** Keeps the end of long output: that is where a reason stands. */
function collect(stream: NodeJS.ReadableStream): { text(): string } {
  const kept: string[] = [];
  let length = 0;
  stream.setEncoding('utf8');
  stream.on('data', (text: string) => {
    kept.push(text);
    length += text.length;
    while (length > 16e6 && kept.length > 1) length -= kept.shift()?.length ?? 0;
  });
  return { text: () => kept.join('') };
}

function end(child: ChildProcess): void {
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), ENDING_PATIENCE);
  child.once('exit', () => clearTimeout(force));
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, '    ');
}
