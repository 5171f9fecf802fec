import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Clock } from '../src/core/ports/clock.js';
import type { Log } from '../src/core/ports/log.js';
import type { NetworkState, NetworkWatch } from '../src/core/ports/network-watch.js';
import { toVpndError } from '../src/model/errors.js';
import { type Millis, ms, seconds } from '../src/model/time.js';
import { networkStateOf } from './network-state.js';
import { cleanEnvironment, createRunner, missingTool, type Runner, TOOL_DIRECTORIES } from './run.js';

export interface NetworkWatchOptions {
  readonly clock: Pick<Clock, 'after' | 'monotonic'>;
  readonly log: Log;
  /** Interfaces that are not networks underneath; those that the data plane made are known to be none. */
  readonly ownDevices?: (name: string) => boolean;
  /** Where `ip` is looked for; the fixed system directories unless given. */
  readonly toolDirectories?: readonly string[];
}

export interface OpenNetworkWatch extends NetworkWatch {
  /** No news any more, and nothing left running. */
  close(): Promise<void>;
}

/** Things are quiet when nothing has happened for so long, */
const QUIET: Millis = ms(100);
/** and where they never are, they are looked at this often. */
const UNQUIET: Millis = ms(500);
/** Until the program that watches surely listens: what changed before it did is seen then. */
const LISTENING: Millis = seconds(1);
/** How long after its end the watching program is started again, doubling; each time the networks are looked at. */
const RESTART: Millis = seconds(1);
const RESTART_MOST: Millis = seconds(30);

/**
 * Watches this machine's networks by `ip monitor`, which runs as long as the watch does. Where it cannot (an `ip` or a
 * kernel without it), the networks are looked at each time it is tried again. Rejects with `no-tool` without `ip`.
 */
export async function openNetworkWatch(options: NetworkWatchOptions): Promise<OpenNetworkWatch> {
  const runner = createRunner(options.toolDirectories ?? TOOL_DIRECTORIES);
  const path = runner.find('ip');
  if (path === undefined) throw missingTool('ip');
  const watch = new Watch(options, runner, path);
  await watch.open();
  return watch;
}

class Watch implements OpenNetworkWatch {
  #state: NetworkState = { fingerprint: '', connected: false };
  readonly #listeners = new Set<(state: NetworkState) => void>();
  #child: ChildProcess | undefined;
  #closed = false;
  #restartAfter = RESTART;
  #timers: { quiet?: () => void; restart?: () => void; listening?: () => void } = {};
  /** When the change that is waited out began. */
  #since: Millis | undefined;
  #looking: Promise<void> = Promise.resolve();

  constructor(
    private readonly options: NetworkWatchOptions,
    private readonly runner: Runner,
    private readonly path: string,
  ) {}

  async open(): Promise<void> {
    this.#start();
    this.#state = (await this.#read()) ?? this.#state;
  }

  current(): NetworkState {
    return this.#state;
  }

  listen(listener: (state: NetworkState) => void): () => void {
    const own = (state: NetworkState) => listener(state);
    this.#listeners.add(own);
    return () => this.#listeners.delete(own);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const cancel of Object.values(this.#timers)) cancel?.();
    this.#listeners.clear();
    process.removeListener('exit', this.#kill);
    const child = this.#child;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
      child.ref();
      this.#kill();
      await ended;
    }
    await this.#looking;
  }

  readonly #kill = (): void => {
    this.#child?.kill('SIGKILL');
  };

  #start(): void {
    const startedAt = this.options.clock.monotonic();
    const child = spawn(this.path, ['monitor', 'link', 'address', 'route', 'label'], {
      cwd: '/',
      env: cleanEnvironment(),
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    if (this.#child === undefined) process.once('exit', this.#kill);
    this.#child = child;
    // Watching is no reason for a process to stay.
    child.unref();
    (child.stdout as Socket | null)?.unref();
    if (child.stdout !== null) createInterface({ input: child.stdout }).on('line', (line) => this.#hear(line));
    let over = false;
    const restart = (why: string) => {
      if (over || this.#closed) return;
      over = true;
      const lived = this.options.clock.monotonic() - startedAt;
      const after = lived > RESTART_MOST ? RESTART : this.#restartAfter;
      this.#restartAfter = ms(Math.min(after * 2, RESTART_MOST));
      this.options.log.debug('the program that watches the networks has ended', { reason: why });
      this.#timers.restart = this.options.clock.after(after, () => this.#start());
    };
    child.once('error', (cause) => restart(cause.message));
    child.once('close', (code, signal) => restart(`${signal ?? code}`));
    this.#timers.listening?.();
    this.#timers.listening = this.options.clock.after(LISTENING, () => this.#look());
  }

  #hear(line: string): void {
    if (!this.#closed && isNews(line, this.options.ownDevices)) this.#soon();
  }

  #soon(): void {
    const now = this.options.clock.monotonic();
    this.#since ??= now;
    this.#timers.quiet?.();
    const left = Math.max(0, UNQUIET - (now - this.#since));
    this.#timers.quiet = this.options.clock.after(ms(Math.min(QUIET, left)), () => this.#look());
  }

  /** One look after the other: the last one counts. */
  #look(): void {
    this.#since = undefined;
    this.#looking = this.#looking.then(async () => {
      if (this.#closed) return;
      const state = await this.#read();
      if (state === undefined || this.#closed || state.fingerprint === this.#state.fingerprint) return;
      this.#state = state;
      for (const listener of this.#listeners) listener(state);
    });
  }

  /** Undefined where it could not be found out: then what was known stays. */
  async #read(): Promise<NetworkState | undefined> {
    const run = (...args: readonly string[]) => this.runner.run('ip', args);
    try {
      const [ipv4, ipv6, addresses] = await Promise.all([
        run('-4', '-j', 'route', 'show', 'default'),
        // A kernel may have no IPv6 at all.
        run('-6', '-j', 'route', 'show', 'default').catch(() => ''),
        run('-j', '-d', 'addr', 'show'),
      ]);
      return networkStateOf({ routes: { 4: ipv4, 6: ipv6 }, addresses }, this.options.ownDevices);
    } catch (thrown) {
      this.options.log.debug('the networks cannot be looked at', { err: toVpndError(thrown) });
      return undefined;
    }
  }
}

/**
 * Whether a line of `ip monitor label` may be about the networks underneath: links and addresses, and of the routes
 * those to everywhere, in main. A router with a hundred thousand routes has news of the others every second.
 */
export function isNews(line: string, isOwn: (device: string) => boolean = () => false): boolean {
  const [, kind, rest = ''] = /^\[(\w+)\](?:Deleted )?(.*)$/.exec(line) ?? [];
  if (kind === 'ROUTE') return /^default\b/.test(rest) && !/\btable \S/.test(rest);
  if (kind !== 'LINK' && kind !== 'ADDR') return false;
  const device = /^\d+: ([^\s:@]+)/.exec(rest)?.[1];
  return device === undefined || !isOwn(device);
}
