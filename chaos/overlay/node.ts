import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type LocalApi, localClient } from '../../src/transport/local-api-client.js';
import type { Host, RunResult, Spawned } from '../lab/index.js';

export type OverlayRole = 'base' | 'supernode' | 'exit' | 'client';

const BINARY = fileURLToPath(new URL('../../bin/vpnd.js', import.meta.url));
/** This only decides when to stop waiting for one that hangs: an emulated machine takes minutes for what others do in a second. */
const READY_LIMIT_MS = 300_000;

export interface StartOptions {
  readonly token?: string;
  /** Arguments besides the node's own. */
  readonly more?: readonly string[];
  /** Environment besides the lab's. */
  readonly env?: Readonly<Record<string, string>>;
  /** Working directory; that of the test unless given. */
  readonly cwd?: string;
  /** Another `vpnd.js` than the one this was built with: of the version that it is upgraded to. */
  readonly binary?: string;
}

/** One daemon of the real binary on a host of the lab, with its state directory. */
export class OverlayNode {
  readonly name: string;
  readonly host: Host;
  readonly role: OverlayRole;
  readonly stateDir: string;
  readonly #args: readonly string[];
  #process: Spawned | undefined;

  constructor(name: string, host: Host, role: OverlayRole, args: readonly string[]) {
    this.name = name;
    this.host = host;
    this.role = role;
    this.stateDir = join(host.directory, role);
    this.#args = args;
  }

  get socket(): string {
    return join(this.stateDir, 'vpnd.sock');
  }

  /** The same that `vpnd status` and the others ask, without starting a program for it. */
  get api(): LocalApi {
    // As the daemon sees it: a scenario may have mounted another disk there.
    return localClient(this.host.path(this.socket));
  }

  /** The running daemon; throws when it was never started. */
  get process(): Spawned {
    if (this.#process === undefined) throw new Error(`${this.name} was not started`);
    return this.#process;
  }

  /**
   * The daemon's own process id: `process` is what root started, which stays in front of the daemon where that is another
   * user. Throws before the daemon has opened its state directory.
   */
  get pid(): number {
    const front = this.process.pid;
    // As that process sees it: a test may have mounted something there.
    const pid = Number(readFileSync(`/proc/${front}/root${this.stateDir}/vpnd.pid`, 'utf8'));
    if (pid !== front && parentOf(pid) !== front) throw new Error(`${this.name} has not come so far`);
    return pid;
  }

  /** How this daemon is started, for people to read; a join token goes in by a file. */
  get commandLine(): string[] {
    return [this.role, '--state-dir', this.stateDir, ...this.#args];
  }

  /** Start the daemon; resolves when it says that it is ready. `token` is needed the first time. */
  async start(options: StartOptions = {}): Promise<void> {
    this.spawn(options);
    await this.process.waitForLine(/ ready: /, READY_LIMIT_MS);
  }

  /** Start it without waiting. */
  spawn(options: StartOptions = {}): Spawned {
    const env = { ...options.env, ...(options.token === undefined ? {} : { VPND_JOIN: options.token }) };
    const at = options.cwd === undefined ? {} : { cwd: options.cwd };
    const [node = '', own = '', ...args] = vpnd(...this.commandLine, ...(options.more ?? []));
    this.#process = this.host.spawn([node, options.binary ?? own, ...args], { env, ...at });
    return this.#process;
  }

  /** `kill -9`: nothing is said, nothing is cleaned. */
  async crash(): Promise<void> {
    const { pid } = this;
    process.kill(pid, 'SIGKILL');
    await this.process.exited;
    while (existsSync(`/proc/${pid}`)) await pause(1);
  }

  /** SIGTERM; answers with what the daemon said on its way out. */
  async stop(): Promise<string[]> {
    const before = this.process.lines('stdout').length;
    // Longer than a supernode gives its sessions to go elsewhere.
    await this.process.stop(30_000);
    return this.process.lines('stdout').slice(before);
  }

  /** Run a vpnd command against this daemon. */
  cli(...argv: readonly string[]): Promise<RunResult> {
    return this.host.run(vpnd(...argv, '--socket', this.socket), { timeout: 90_000 });
  }

  /** Run a vpnd command that prints JSON. Throws with what it said when it fails. */
  async json<T>(...argv: readonly string[]): Promise<T> {
    const result = await this.cli(...argv, '--json');
    if (result.code !== 0) throw new Error(`vpnd ${argv.join(' ')}: exit code ${result.code}: ${result.stderr.trim()}`);
    return JSON.parse(result.stdout) as T;
  }
}

/**
 * The argument vector of the real binary. Daemons become a user without a name, so that no lab leaves one on the machine;
 * where the checkout is not for everybody to read, they stay root.
 */
export function vpnd(...argv: readonly string[]): string[] {
  const [role = '', next = '--'] = argv;
  const isDaemon = DAEMONS.includes(role) && next.startsWith('--');
  const all = isDaemon ? [role, '--user', labUser(), ...argv.slice(1)] : argv;
  return [process.execPath, BINARY, ...all];
}

const DAEMONS: readonly string[] = ['base', 'supernode', 'exit', 'client'] satisfies OverlayRole[];
/** Nobody's, on any machine that follows the usual ranges. */
export const LAB_UID = 64123;
let user: string | undefined;

/** Whom daemons of labs become, for `--user`. */
export function labUser(): string {
  const as = ['--reuid', `${LAB_UID}`, '--regid', `${LAB_UID}`, '--clear-groups', 'test', '-r', BINARY];
  try {
    if (user === undefined) execFileSync('setpriv', as, { stdio: 'ignore' });
    user ??= String(LAB_UID);
  } catch {
    user = 'root';
  }
  return user;
}

/** Undefined for a process that is gone. Field 4 of /proc/<pid>/stat (proc(5)). */
function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined;
  }
}
