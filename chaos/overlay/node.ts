import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type LocalApi, localClient } from '../../src/transport/local-api-client.js';
import type { Host, RunResult, Spawned } from '../lab/index.js';

export type OverlayRole = 'base' | 'supernode' | 'exit' | 'client';

const BINARY = fileURLToPath(new URL('../../bin/vpnd.js', import.meta.url));
/** Slow machines exist; this only decides when to stop waiting for one that hangs. */
const READY_LIMIT_MS = 90_000;

export interface StartOptions {
  readonly token?: string;
  /** Arguments besides the node's own. */
  readonly more?: readonly string[];
  /** Environment besides the lab's. */
  readonly env?: Readonly<Record<string, string>>;
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
    return localClient(this.socket);
  }

  /** The running daemon; throws when it was never started. */
  get process(): Spawned {
    if (this.#process === undefined) throw new Error(`${this.name} was not started`);
    return this.#process;
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
    this.#process = this.host.spawn(vpnd(...this.commandLine, ...(options.more ?? [])), { env });
    return this.#process;
  }

  /** `kill -9`: nothing is said, nothing is cleaned. */
  async crash(): Promise<void> {
    this.process.kill('SIGKILL');
    await this.process.exited;
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

/** The argument vector of the real binary. */
export const vpnd = (...argv: readonly string[]): string[] => [process.execPath, BINARY, ...argv];
