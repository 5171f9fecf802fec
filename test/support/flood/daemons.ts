import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { vpnd } from '../../../chaos/overlay/index.js';
import { freePorts } from '../free-ports.js';

const READY_MS = 60_000;

/** Daemons of the real binary on this machine's loopback, as they are started in production but for a data plane in memory. */
export class Daemons {
  readonly directory = mkdtempSync(join(tmpdir(), 'vpnd-flood-'));
  readonly #running: ChildProcess[] = [];
  readonly #ended: Promise<unknown>[] = [];
  readonly #said: { readonly name: string; readonly lines: readonly string[] }[] = [];

  constructor() {
    // They become a user of their own, and must get through to their state directories.
    chmodSync(this.directory, 0o755);
  }

  async start(name: string, env: Readonly<Record<string, string>>, ...argv: readonly string[]): Promise<Daemon> {
    const stateDir = join(this.directory, name);
    const [command = '', ...args] = vpnd(name, '--state-dir', stateDir, ...argv);
    const child = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    const said: string[] = [];
    this.#running.push(child);
    this.#ended.push(once(child, 'exit').then(([code, signal]) => said.push(`ended: ${code ?? signal}`)));
    this.#said.push({ name, lines: said });
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${name} is not ready:\n${said.join('\n')}`)), READY_MS);
      for (const stream of [child.stdout, child.stderr]) {
        createInterface({ input: stream }).on('line', (line) => {
          said.push(line);
          if (said.length > 1_000) said.shift();
          if (/ ready: /.test(line)) resolve();
        });
      }
      child.once('exit', (code) => reject(new Error(`${name} ended with ${code}:\n${said.join('\n')}`)));
      void Promise.resolve().finally(() => timer.unref());
    });
    return new Daemon(stateDir);
  }

  /** What each said last. */
  lastWords(): string {
    return this.#said.map(({ name, lines }) => `${name}:\n${lines.slice(-12).join('\n')}`).join('\n');
  }

  async stop(): Promise<void> {
    for (const child of this.#running.reverse()) child.kill('SIGTERM');
    const late = setTimeout(() => {
      for (const child of this.#running) child.kill('SIGKILL');
    }, 5_000);
    await Promise.all(this.#ended);
    clearTimeout(late);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export class Daemon {
  constructor(readonly stateDir: string) {}

  get pid(): number {
    return Number(readFileSync(join(this.stateDir, 'vpnd.pid'), 'utf8'));
  }

  get socket(): string {
    return join(this.stateDir, 'vpnd.sock');
  }

  /** Resident memory, in MB. */
  memory(): number {
    const kb = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1];
    return Math.round(Number(kb) / 1024);
  }

  /** Files, sockets and all, that it has open. */
  openFiles(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }
}

/** So many ports of this machine, TCP and UDP, that nobody has at this moment. */
export async function somePorts(): Promise<number[]> {
  return [...(await freePorts()), ...(await freePorts()), ...(await freePorts())];
}

/** What /metrics says: `name{label="value"}` -> number. */
export async function metricsAt(port: number): Promise<ReadonlyMap<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return new Map(
    text
      .split('\n')
      .filter((line) => line !== '' && !line.startsWith('#'))
      .map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ') + 1))]),
  );
}
