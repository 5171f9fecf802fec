import { statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Spawned } from '../../chaos/lab/processes.js';
import { STORE_FILES } from '../../src/store/sqlite/open.js';
import { type LocalApi, localClient } from '../../src/transport/local-api-client.js';
import { cpuTime, memoryUse } from '../lib/process-cost.js';

const BINARY = fileURLToPath(new URL('../../bin/vpnd.js', import.meta.url));
const READY_LIMIT_MS = 120_000;

/** The real `vpnd base` on the loopback interface. */
export class BaseDaemon {
  private constructor(
    readonly dir: string,
    readonly process: Spawned,
    /** From starting the program to its being ready. */
    readonly startMs: number,
  ) {}

  static async start(dir: string, port: number): Promise<BaseDaemon> {
    const at = `127.0.0.1:${port}`;
    const argv = [process.execPath, BINARY, 'base', '--user', 'root', '--state-dir', dir];
    const all = [...argv, '--listen', at, '--advertise', at, '--metrics', 'off', '--pool-ipv4', '10.0.0.0/8'];
    const began = performance.now();
    const spawned = new Spawned(all, all);
    await spawned.waitForLine(/ ready: /, READY_LIMIT_MS);
    return new BaseDaemon(dir, spawned, performance.now() - began);
  }

  get pid(): number {
    return this.process.pid;
  }

  get api(): LocalApi {
    return localClient(join(this.dir, 'vpnd.sock'));
  }

  /** Seconds since it started. */
  cpu(): number {
    const { own, children } = cpuTime(this.pid);
    return own + children;
  }

  /** Megabytes. */
  memory(): { readonly rss: number; readonly pss: number } {
    const { rss, pss } = memoryUse(this.pid);
    return { rss: rss / 2 ** 20, pss: pss / 2 ** 20 };
  }

  /** Megabytes of the database and what SQLite keeps beside it. */
  disk(): number {
    const sizes = STORE_FILES.map((file) => statSync(join(this.dir, file), { throwIfNoEntry: false })?.size ?? 0);
    return sizes.reduce((sum, one) => sum + one, 0) / 2 ** 20;
  }

  async stop(): Promise<void> {
    await this.process.stop(20_000);
  }
}
