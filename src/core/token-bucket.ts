import type { Clock } from './ports/clock.js';

/** A budget that refills with time: so much per second, and at most `burst` after a pause. For one key; see RateLimiter for many. */
export class TokenBucket {
  readonly #perMs: number;
  readonly #burst: number;
  readonly #clock: Pick<Clock, 'monotonic'>;
  #left: number;
  #at: number;

  constructor(limit: { readonly perSecond: number; readonly burst: number }, clock: Pick<Clock, 'monotonic'>) {
    this.#perMs = limit.perSecond / 1_000;
    this.#burst = limit.burst;
    this.#clock = clock;
    this.#left = limit.burst;
    this.#at = clock.monotonic();
  }

  /** Takes so much, or nothing and says false. */
  take(amount: number): boolean {
    const now = this.#clock.monotonic();
    this.#left = Math.min(this.#burst, this.#left + (now - this.#at) * this.#perMs);
    this.#at = now;
    if (amount > this.#left) return false;
    this.#left -= amount;
    return true;
  }
}
