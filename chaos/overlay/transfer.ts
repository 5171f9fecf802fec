import { fileURLToPath } from 'node:url';
import type { Host, Spawned, WebServer } from '../lab/index.js';

export interface TransferOutcome {
  /** All of it, every byte in its place. */
  readonly intact: boolean;
  readonly bytes: number;
  readonly seconds: number;
  /** The longest time between two pieces of it, milliseconds. */
  readonly longestStallMs: number;
  /** Why it is not intact; empty when it is. */
  readonly trouble: string;
}

const SCRIPT = fileURLToPath(new URL('./transfer-client.js', import.meta.url));
const START_LIMIT_MS = 60_000;

/** A TCP download in progress, paced by the server so that it lasts a known time and leaves the machine its breath. */
export class Transfer {
  readonly #process: Spawned;
  readonly #seconds: number;

  private constructor(process: Spawned, seconds: number) {
    this.#process = process;
    this.#seconds = seconds;
  }

  /** `seconds` of download at `mbps`; resolves when it has begun. */
  static async start(
    from: Host,
    web: WebServer,
    { seconds, mbps = 20 }: { readonly seconds: number; readonly mbps?: number },
  ): Promise<Transfer> {
    const bytes = Math.round((mbps * 1e6 * seconds) / 8);
    const download = from.spawn([process.execPath, SCRIPT, `${web.url}/drip/${bytes}/${seconds}`]);
    await download.waitForLine(/^started$/, START_LIMIT_MS);
    return new Transfer(download, seconds);
  }

  /** To its end, whatever that is. */
  async ended(): Promise<TransferOutcome> {
    const [line] = await this.#process.waitForLine(/^\{.*\}$/, this.#seconds * 1000 + START_LIMIT_MS);
    return JSON.parse(line) as TransferOutcome;
  }
}
