import { type ChildProcess, fork } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Job, Told, ToldFinding } from './child.js';
import type { Finding, Stats } from './run-target.js';
import { CACHE_VARIABLE } from './shared.js';

/** What became of a target. */
export interface Outcome extends Stats {
  /** MiB the process had at most. */
  readonly rss: number;
}

/** An input that is not through after so much processor time hangs; */
const HANGS = 20_000;
/** and one that waits for so long. */
const WAITS = 600_000;
/** Loading and counting all modules of a whole overlay takes seconds by itself. */
const STARTS = 180_000;
const LOOK = 1_000;
const HEAP_MIB = 1_536;

const here = (name: string): string => fileURLToPath(new URL(name, import.meta.url));
const running = new Set<ChildProcess>();

let cache: string | undefined;
const cacheFolder = (): string => (cache ??= mkdtempSync(join(tmpdir(), 'vpnd-fuzz-modules-')));

/** Ends what still runs, and removes what was kept for it. */
export function endAll(): void {
  for (const child of running) child.kill('SIGKILL');
  if (cache !== undefined) rmSync(cache, { recursive: true, force: true });
  cache = undefined;
}

export interface Wanted {
  readonly target: string;
  readonly seed: number;
  readonly count: number;
  readonly corpus: readonly Uint8Array[];
}

/** Runs a target to its end, over crashes and hangs: each is a finding, and the next process goes on behind it. */
export async function supervise(wanted: Wanted): Promise<Outcome> {
  const folder = mkdtempSync(join(tmpdir(), 'vpnd-fuzz-'));
  const total = {
    target: wanted.target,
    inputs: 0,
    ms: 0,
    cpuMs: 0,
    slowest: 0,
    places: 0,
    growth: 0,
    rss: 0,
    kept: [...wanted.corpus] as readonly Uint8Array[],
    findings: [] as Finding[],
  };
  try {
    let from = 0;
    while (from < wanted.count) {
      const current = join(folder, 'current');
      const end = await runChild({
        ...wanted,
        from,
        count: wanted.count - from,
        corpus: total.kept.map((one) => Buffer.from(one).toString('base64')),
        current,
      });
      if (end.kind === 'done') {
        const { stats, kept, findings, rss } = end;
        total.kept = kept.map((one) => Buffer.from(one, 'base64'));
        total.findings.push(
          ...findings.map((one: ToldFinding) => ({ ...one, input: Buffer.from(one.input, 'base64') })),
        );
        total.places = Math.max(total.places, stats.places);
        total.growth = Math.max(total.growth, stats.growth);
        total.slowest = Math.max(total.slowest, stats.slowest);
        total.ms += stats.ms;
        total.cpuMs += stats.cpuMs;
        total.rss = Math.max(total.rss, rss);
        total.inputs = from + stats.inputs;
        return total;
      }
      const { index, input } = readCurrent(current);
      total.findings.push({ target: wanted.target, index, input, what: end.why });
      total.inputs = from = Math.max(from, index + 1);
      if (total.findings.length > 5 || index < 0) return total;
    }
    return total;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

type End = Extract<Told, { kind: 'done' }> | { readonly kind: 'broken'; readonly why: string };

function runChild(job: Job): Promise<End> {
  const child = fork(here('./child.js'), [], {
    execArgv: ['--stack-trace-limit=6', `--max-old-space-size=${HEAP_MIB}`, '--import', here('./register.js')],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    env: { ...process.env, [CACHE_VARIABLE]: cacheFolder() },
  });
  running.add(child);
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding('utf8').on('data', (text: string) => {
      said = (said + text).slice(-4_000);
    });
  return new Promise((resolve) => {
    let told: End | undefined;
    let progress = { head: '', at: performance.now(), cpuMs: cpuMsOf(child.pid) };
    const look = setInterval(() => {
      const now = { head: headOf(job.current), at: performance.now(), cpuMs: cpuMsOf(child.pid) };
      if (now.head !== progress.head) progress = now;
      else if (told === undefined && isOver(progress, now)) {
        told = { kind: 'broken', why: now.head === '' ? 'it does not start' : 'it does not end' };
        child.kill('SIGKILL');
      }
    }, LOOK);
    child.on('message', (message: Told) => {
      if (message.kind === 'done') told ??= message;
      if (message.kind === 'failed') told ??= { kind: 'broken', why: message.why };
    });
    child.once('error', (cause) => {
      told ??= { kind: 'broken', why: cause.message };
    });
    child.once('close', (code, signal) => {
      clearInterval(look);
      running.delete(child);
      resolve(told ?? { kind: 'broken', why: `the process ended (${signal ?? `exit code ${code}`}): ${said.trim()}` });
    });
    child.send(job);
  });
}

interface Progress {
  readonly head: string;
  readonly at: number;
  readonly cpuMs: number;
}

const isOver = (since: Progress, now: Progress): boolean =>
  now.cpuMs - since.cpuMs > (now.head === '' ? STARTS : HANGS) || now.at - since.at > WAITS;

/** Of a process, with all its threads; a tick of proc_pid_stat(5) is 10 ms. 0 where it cannot be said. */
function cpuMsOf(pid: number | undefined): number {
  try {
    const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'latin1').split(/^.*\) /s);
    const [, , , , , , , , , , , user, system] = fields.split(' ').map(Number);
    return 10 * ((user ?? 0) + (system ?? 0));
  } catch {
    return 0;
  }
}

/** The number of an input repeats only where it is the same input. */
function headOf(path: string): string {
  try {
    const file = openSync(path, 'r');
    try {
      const head = Buffer.alloc(72);
      return head.toString('latin1', 0, readSync(file, head, 0, head.length, 0));
    } finally {
      closeSync(file);
    }
  } catch {
    return '';
  }
}

function readCurrent(path: string): { readonly index: number; readonly input: Uint8Array } {
  try {
    const all = readFileSync(path);
    return { index: all.readInt32LE(0), input: all.subarray(8, 8 + all.readUInt32LE(4)) };
  } catch {
    return { index: -1, input: new Uint8Array() };
  }
}
