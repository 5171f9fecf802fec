import type { Clock } from '../../core/ports/clock.js';
import { TokenBucket } from '../../core/token-bucket.js';
import type { Bytes } from '../../model/bytes.js';

/** What sessions inside streams may take of this process, which has everybody's streams to look after. */
export interface CarrierLimits {
  /** Sessions carried at once. */
  readonly sessions: number;
  /** Of one client, each way. */
  readonly packetsPerSecond: number;
  readonly bytesPerSecond: number;
  /** All of them together are allowed so many clients' worth. */
  readonly shares: number;
}

/** 80 Mbit/s for one, which takes a third of a core. */
export const CARRIER_LIMITS: CarrierLimits = {
  sessions: 64,
  packetsPerSecond: 10_000,
  bytesPerSecond: 10_000_000,
  shares: 2,
};

export interface Budget {
  readonly up: Allowance;
  readonly down: Allowance;
}

/**
 * A fraction of a second's worth may come at once. With more, TCP inside the tunnel would find no limit for as long as it
 * lasts, lose hundreds of datagrams in a row then, and stand still for seconds.
 */
const BURST_S = 1 / 8;

class Allowance {
  readonly #packets: TokenBucket;
  readonly #bytes: TokenBucket;

  constructor({ packetsPerSecond, bytesPerSecond }: CarrierLimits, shares: number, clock: Clock) {
    const bucket = (perSecond: number) => new TokenBucket({ perSecond, burst: perSecond * BURST_S }, clock);
    this.#packets = bucket(packetsPerSecond * shares);
    this.#bytes = bucket(bytesPerSecond * shares);
  }

  allows(packet: Bytes): boolean {
    return this.#packets.take(1) && this.#bytes.take(packet.length);
  }
}

/** So many clients' worth, each way. */
export const newBudget = (limits: CarrierLimits, shares: number, clock: Clock): Budget => ({
  up: new Allowance(limits, shares, clock),
  down: new Allowance(limits, shares, clock),
});
