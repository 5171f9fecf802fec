import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** How a process ended, as a shell would tell it: a signal is 128 plus its number, a time limit 124. */
export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** Written to standard input, which is closed after it. Secrets go here, never into an argument. */
  readonly stdin?: string | Uint8Array;
  /** Milliseconds until SIGKILL; 30 s when left out. */
  readonly timeout?: number;
  readonly env?: Readonly<Record<string, string>>;
}

export interface SpawnOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Written to standard input, which is closed after it; without it standard input is empty. */
  readonly stdin?: string | Uint8Array;
  /** Sees every line as it comes, also those that the ring buffer has dropped since. */
  readonly onLine?: (line: string, from: 'stdout' | 'stderr') => void;
}

export interface Exit {
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
}

const KEPT_LINES = 4000;
const SIGNAL_BASE = 128;
const TIMED_OUT = 124;
/** A daemon may leave its output open behind it; this long after the exit nothing of the command itself is missing. */
const OUTPUT_GRACE_MS = 100;

/** The parent's environment without what a test runner adds for its own children: a daemon under test is not one. */
export function childEnvironment(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(_?TAP|NODE_OPTIONS$|NODE_V8_COVERAGE$|npm_)/.test(name),
  );
  return { ...(Object.fromEntries(inherited) as Record<string, string>), ...extra };
}

/** Run to the end and answer with everything it wrote. Throws only when the program cannot be started. */
export async function runProcess(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const child = start(argv, { ...options });
  const output = { stdout: '', stderr: '' };
  for (const from of ['stdout', 'stderr'] as const) {
    child[from]?.setEncoding('utf8').on('data', (text: string) => {
      output[from] += text;
    });
  }
  let timedOut = false;
  const limit = setTimeout(() => {
    timedOut = true;
    child.kill('SIGKILL');
  }, options.timeout ?? 30_000);
  try {
    const closed = once(child, 'close');
    // Whoever fails first is told by the other wait; this one must not become an unhandled rejection.
    closed.catch(() => undefined);
    const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
    // Timers come before what has arrived: after something that took long here, output is read only in the turn after.
    await Promise.race([closed, delay(OUTPUT_GRACE_MS).then(() => new Promise((resolve) => setImmediate(resolve)))]);
    return { code: timedOut ? TIMED_OUT : (code ?? SIGNAL_BASE + signalNumber(signal)), ...output };
  } finally {
    clearTimeout(limit);
  }
}

/** Like runProcess, but a failure is an exception that quotes the command and what it said; answers with its output. */
export async function execProcess(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await runProcess(argv, options);
  if (result.code !== 0) {
    const said = (result.stderr || result.stdout).trim();
    throw new Error(`${argv.join(' ')}: exit code ${result.code}${said === '' ? '' : `: ${said}`}`);
  }
  return result.stdout;
}

/** A process that keeps running beside the test, with the last lines of its output at hand. */
export class Spawned {
  readonly argv: readonly string[];
  /** Resolves once, whatever way it ends; never rejects. */
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  readonly #lines: { readonly from: 'stdout' | 'stderr'; readonly text: string }[] = [];
  readonly #watchers = new Set<(line: string) => void>();
  #exit: Exit | undefined;

  constructor(argv: readonly string[], wrapped: readonly string[], options: SpawnOptions = {}) {
    this.argv = argv;
    this.#child = start(wrapped, options);
    this.exited = new Promise((resolve) => {
      const end = (exit: Exit) => {
        this.#exit ??= exit;
        resolve(this.#exit);
      };
      this.#child.once('exit', (code, signal) => end({ code: code ?? undefined, signal: signal ?? undefined }));
      this.#child.once('error', (cause) => {
        this.#keep('stderr', cause.message, options.onLine);
        end({ code: undefined, signal: undefined });
      });
    });
    this.#follow('stdout', options.onLine);
    this.#follow('stderr', options.onLine);
  }

  /** The process's own id (the wrapper that enters the host becomes the program). */
  get pid(): number {
    if (this.#child.pid === undefined) throw new Error(`${this.argv.join(' ')} could not be started`);
    return this.#child.pid;
  }

  get running(): boolean {
    return this.#exit === undefined;
  }

  /** The newest lines, oldest first; of one stream or of both in the order they came. */
  lines(from?: 'stdout' | 'stderr'): string[] {
    return this.#lines.filter((line) => from === undefined || line.from === from).map((line) => line.text);
  }

  /** Harmless when the process is gone. */
  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    if (this.running) this.#child.kill(signal);
  }

  /** End it politely, and after `patience` milliseconds (5 s) by force. */
  async stop(patience = 5000): Promise<Exit> {
    this.kill('SIGTERM');
    const force = setTimeout(() => this.kill('SIGKILL'), patience);
    try {
      return await this.exited;
    } finally {
      clearTimeout(force);
    }
  }

  /**
   * The first line, kept or still to come, that matches. Rejects with the last lines of output when the process ends
   * or `timeoutMs` (30 s) passes before.
   */
  waitForLine(pattern: RegExp, timeoutMs = 30_000): Promise<RegExpMatchArray> {
    for (const { text } of this.#lines) {
      const found = text.match(pattern);
      if (found) return Promise.resolve(found);
    }
    return new Promise((resolve, reject) => {
      const settle = (act: () => void) => {
        clearTimeout(timer);
        this.#watchers.delete(watch);
        act();
      };
      const fail = (why: string) =>
        settle(() =>
          reject(
            new Error(`${this.argv.join(' ')} ${why} before a line matched ${pattern}; it said last:\n${this.#tail()}`),
          ),
        );
      const watch = (line: string) => {
        const found = line.match(pattern);
        if (found) settle(() => resolve(found));
      };
      const timer = setTimeout(() => fail(`ran ${timeoutMs} ms`), timeoutMs);
      this.#watchers.add(watch);
      // Output may arrive a moment after the exit is known.
      void this.exited.then((exit) =>
        setTimeout(() => this.#watchers.has(watch) && fail(`ended (${exit.signal ?? exit.code})`), OUTPUT_GRACE_MS),
      );
    });
  }

  #tail(): string {
    return this.lines().slice(-20).join('\n');
  }

  #follow(from: 'stdout' | 'stderr', onLine: SpawnOptions['onLine']): void {
    let rest = '';
    const stream = this.#child[from];
    stream?.setEncoding('utf8').on('data', (text: string) => {
      const parts = (rest + text).split('\n');
      rest = parts.pop() ?? '';
      for (const part of parts) this.#keep(from, part, onLine);
    });
    stream?.on('close', () => {
      if (rest !== '') this.#keep(from, rest, onLine);
    });
  }

  #keep(from: 'stdout' | 'stderr', text: string, onLine: SpawnOptions['onLine']): void {
    this.#lines.push({ from, text });
    if (this.#lines.length > KEPT_LINES) this.#lines.splice(0, KEPT_LINES / 4);
    onLine?.(text, from);
    for (const watch of [...this.#watchers]) watch(text);
  }
}

function start(argv: readonly string[], options: SpawnOptions): ChildProcess {
  const [program, ...args] = argv;
  if (program === undefined) throw new Error('no program to run');
  const child = spawn(program, args, {
    env: childEnvironment(options.env),
    stdio: [options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  if (options.stdin !== undefined) {
    // A program that ends without reading its input is judged by its exit code, not by our broken pipe.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.stdin);
  }
  return child;
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function signalNumber(signal: NodeJS.Signals | null): number {
  const numbers: Partial<Record<NodeJS.Signals, number>> = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 };
  return signal === null ? 0 : (numbers[signal] ?? 0);
}
