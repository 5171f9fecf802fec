import { fileURLToPath } from 'node:url';
import { ECHO_PORT, type Host, type Spawned, type WebServer } from '../lab/index.js';

/** What the process wrote down. Times are CLOCK_MONOTONIC in milliseconds. */
export interface TrainRecord {
  readonly everyMs: number;
  readonly sentAt: readonly number[];
  readonly answeredAt: readonly (number | null)[];
  /** When the web server's answers first named another address that they saw, and which. */
  readonly seen: readonly (readonly [number, string])[];
  /** Datagrams that the client's own kernel did not take. */
  readonly refused: number;
}

const SCRIPT = fileURLToPath(new URL('./packet-train.js', import.meta.url));
/** Longer without an answer means that the traffic stood still: a busy machine takes its time now and then as well. */
const STANDSTILL_MS = 250;
const START_LIMIT_MS = 60_000;

/** Milliseconds of the clock that all processes of a machine share. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Numbered datagrams from a machine to the web server's echo port and back, at even intervals. */
export class PacketTrain {
  readonly #process: Spawned;

  private constructor(process: Spawned) {
    this.#process = process;
  }

  /** Resolves when the first answer is there. `text` stands in every datagram. */
  static async start(from: Host, web: WebServer, packetsPerSecond = 100, text = ''): Promise<PacketTrain> {
    const target = [web.host.ipv4 ?? '', String(ECHO_PORT), String(1000 / packetsPerSecond), text];
    const process_ = from.spawn([process.execPath, SCRIPT, ...target]);
    await process_.waitForLine(/^rolling$/, START_LIMIT_MS);
    return new PacketTrain(process_);
  }

  /** Ends it, after the answers that are under way. */
  async stop(): Promise<PacketRecord> {
    this.#process.kill('SIGTERM');
    const [line] = await this.#process.waitForLine(/^\{.*\}$/, START_LIMIT_MS);
    await this.#process.exited;
    return new PacketRecord(JSON.parse(line) as TrainRecord);
  }
}

/** What became of a packet train. */
export class PacketRecord {
  readonly #answers: readonly number[];

  constructor(readonly raw: TrainRecord) {
    this.#answers = raw.answeredAt.filter((at) => at !== null).sort((a, b) => a - b);
  }

  get sent(): number {
    return this.raw.sentAt.length;
  }

  get lost(): number {
    return this.sent - this.#answers.length;
  }

  /** Addresses that the web server saw the packets come from, one after the other. */
  get seen(): readonly string[] {
    return this.raw.seen.map(([, from]) => from);
  }

  /** Of the packets sent between two moments. */
  lostBetween(from: number, to: number): number {
    return this.raw.sentAt.filter((at, n) => at >= from && at <= to && this.raw.answeredAt[n] === null).length;
  }

  /** When the lost ones were sent, from a moment on counted in milliseconds from it. */
  lostAt(from: number): readonly number[] {
    return this.raw.sentAt.filter((_, n) => this.raw.answeredAt[n] === null).map((at) => Math.round(at - from));
  }

  /** The longest time without an answer that touches this span; the train's own beginning and end do not count. */
  longestGap(from = Number.NEGATIVE_INFINITY, to = Number.POSITIVE_INFINITY): number {
    return this.#gaps(this.#answers)
      .filter((gap) => gap.to >= from && gap.from <= to)
      .reduce((longest, gap) => Math.max(longest, gap.to - gap.from), 0);
  }

  /** Times without an answer that are longer than this many milliseconds. */
  gapsOver(ms: number): readonly { readonly from: number; readonly to: number }[] {
    return this.#gaps(this.#answers).filter(({ from, to }) => to - from > ms);
  }

  /** The longest time that the instrument itself sent nothing: no gap below can be smaller by anybody's merit. */
  longestPause(from = Number.NEGATIVE_INFINITY, to = Number.POSITIVE_INFINITY): number {
    return this.#gaps(this.raw.sentAt)
      .filter((gap) => gap.to >= from && gap.from <= to)
      .reduce((longest, gap) => Math.max(longest, gap.to - gap.from), 0);
  }

  /**
   * From a fault to the answer that ends the standstill after it; the last one where there are several of which none is
   * twice as long as another. 0 when traffic never stood still, undefined when it did at the end.
   */
  recoveredAfter(fault: number): number | undefined {
    const [last] = this.#answers.slice(-1);
    const end = this.raw.sentAt.at(-1);
    if (last === undefined || end === undefined || end - last > STANDSTILL_MS) return undefined;
    // On a busy machine everything stands still now and then: what is much shorter is not what the fault did.
    const least = Math.max(STANDSTILL_MS, this.longestGap(fault) / 2);
    const still = this.#gaps(this.#answers).filter((gap) => gap.to > fault && gap.to - gap.from > least);
    const until = still.at(-1)?.to;
    return until === undefined ? 0 : until - fault;
  }

  #gaps(times: readonly number[]): readonly { readonly from: number; readonly to: number }[] {
    return times.slice(1).map((to, i) => ({ from: times[i] ?? to, to }));
  }
}
