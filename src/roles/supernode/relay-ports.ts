import { SlotPool } from '../../core/pool.js';
import type { Port } from '../../model/address.js';
import { type Instant, seconds } from '../../model/time.js';

/** Relay ports as ports rather than slots. A port rests for two minutes: longer than any router remembers a stranger. */
export class RelayPorts {
  readonly #pool: SlotPool;
  readonly #from: number;

  constructor(range: { readonly from: Port; readonly to: Port }) {
    this.#from = range.from;
    this.#pool = new SlotPool(range.to - range.from + 1, seconds(120));
  }

  get taken(): number {
    return this.#pool.taken;
  }

  take(now: Instant): Port | undefined {
    const slot = this.#pool.take(now);
    return slot === undefined ? undefined : ((this.#from + slot) as Port);
  }

  claim(port: Port): boolean {
    return this.#pool.claim(port - this.#from);
  }

  give(port: Port, now: Instant): void {
    this.#pool.give(port - this.#from, now);
  }

  /** Those that rest, and until when. */
  resting(now: Instant): readonly (readonly [Port, Instant])[] {
    return this.#pool.resting(now).map(([slot, until]) => [(this.#from + slot) as Port, until]);
  }

  /** After a restart: a port that was given back before it. */
  rest(port: Port, until: Instant): void {
    this.#pool.rest(port - this.#from, until);
  }
}
