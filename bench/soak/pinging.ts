import type { Host, Spawned } from '../../chaos/lab/index.js';

/** Echo requests of some seconds. */
export interface PingTally {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly answered: number;
  readonly lost: number;
  /** Of each answer, milliseconds. */
  readonly roundTripMs: readonly number[];
}

const EVERY_S = 0.2;

/** ICMP echo from a machine for as long as it is wanted, read line by line: nothing of it is kept but what was asked for. */
export class LongPing {
  readonly #ping: Spawned;
  #roundTrips: number[] = [];
  #lastNumber = 0;
  #countedFrom = 0;

  constructor(from: Host, to: string) {
    this.#ping = from.spawn(['ping', '-n', '-i', String(EVERY_S), to], {
      onLine: (line) => {
        const found = /icmp_seq=(\d+) .*time=([\d.]+) ms/.exec(line);
        if (found === null) return;
        this.#lastNumber = this.#unwrapped(Number(found[1]));
        this.#roundTrips.push(Number(found[2]));
      },
    });
  }

  /** Since the last time. What is under way counts when it arrives; a request counts as lost once a later one was answered. */
  take(): PingTally {
    const roundTripMs = this.#roundTrips;
    const lost = Math.max(0, this.#lastNumber - this.#countedFrom - roundTripMs.length);
    this.#roundTrips = [];
    this.#countedFrom = this.#lastNumber;
    return { at: Date.now(), answered: roundTripMs.length, lost, roundTripMs };
  }

  async stop(): Promise<void> {
    this.#ping.kill('SIGINT');
    await this.#ping.exited;
  }

  /** Numbers have sixteen bits and begin anew. */
  #unwrapped(number: number): number {
    const round = 65_536;
    const near = Math.round((this.#lastNumber - number) / round);
    return Math.max(this.#lastNumber, number + near * round);
  }
}
