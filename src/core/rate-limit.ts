import { familyOf, type IpAddress, parseCidr, subnet } from '../model/address.js';
import type { Clock } from './ports/clock.js';

export interface RateLimit {
  /** Sustained rate per key. */
  readonly perMinute: number;
  /** How many may come at once after a pause. */
  readonly burst: number;
  /** Keys remembered at most: memory must not grow with the number of strangers. */
  readonly maxKeys: number;
}

/**
 * How often each key may do something: a generic cell rate algorithm (ITU-T I.371), which is a token bucket kept as a
 * single number per key. When more keys than `maxKeys` are in use the longest unused one is forgotten; it then starts
 * with a full bucket again, so a flood from many keys never locks others out.
 */
export class RateLimiter {
  readonly #interval: number;
  readonly #slack: number;
  readonly #maxKeys: number;
  readonly #clock: Pick<Clock, 'monotonic'>;
  /** key -> when its bucket is full again; in order of last use. */
  readonly #fullAt = new Map<string, number>();

  constructor(limit: RateLimit, clock: Pick<Clock, 'monotonic'>) {
    this.#interval = 60_000 / limit.perMinute;
    this.#slack = (limit.burst - 1) * this.#interval;
    this.#maxKeys = limit.maxKeys;
    this.#clock = clock;
  }

  /** Whether `key` may act now; a yes is counted, a no is not. */
  allow(key: string): boolean {
    const now = this.#clock.monotonic();
    const fullAt = Math.max(this.#fullAt.get(key) ?? now, now);
    const allowed = fullAt - now <= this.#slack;
    this.#fullAt.delete(key);
    this.#fullAt.set(key, allowed ? fullAt + this.#interval : fullAt);
    if (this.#fullAt.size > this.#maxKeys) {
      for (const oldest of this.#fullAt.keys()) {
        this.#fullAt.delete(oldest);
        break;
      }
    }
    return allowed;
  }

  /** Keys remembered at present. */
  get size(): number {
    return this.#fullAt.size;
  }
}

/** What counts as one sender: an IPv4 address, or the /64 that one IPv6 customer has at least. */
export function limitKey(ip: IpAddress): string {
  const prefix = familyOf(ip) === 4 ? undefined : parseCidr(`${ip}/64`);
  return prefix?.ok ? subnet(prefix.value, 64, 0) : ip;
}
