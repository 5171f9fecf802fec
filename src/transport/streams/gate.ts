import type { Clock } from '../../core/ports/clock.js';
import { limitKey, type RateLimit, RateLimiter } from '../../core/rate-limit.js';
import type { IpAddress } from '../../model/address.js';
import type { PeerId } from '../../model/ids.js';

/** A whole household or a carrier's NAT reconnecting at once must come through; a flood must not. */
const PER_ADDRESS = { perMinute: 120, burst: 60 };
/** Reconnecting at the longest backoff is 12 a minute on average. */
const PER_PEER = { perMinute: 30, burst: 10 };
const MAX_KEYS = 20_000;

/**
 * How often strangers may try, decided before any signature is looked at.
 *
 * A claimed peer id is no proof, so anybody could use up somebody else's attempts. From the address where a peer last
 * authenticated its attempts are therefore counted apart from those made in its name elsewhere.
 */
export class Gate {
  readonly #perAddress: RateLimiter;
  readonly #perPeer: RateLimiter;
  /** Where peers last authenticated, longest ago first. */
  readonly #homes = new Map<PeerId, string>();

  constructor(
    limits: { readonly address?: Omit<RateLimit, 'maxKeys'>; readonly peer?: Omit<RateLimit, 'maxKeys'> },
    clock: Clock,
  ) {
    this.#perAddress = new RateLimiter({ ...(limits.address ?? PER_ADDRESS), maxKeys: MAX_KEYS }, clock);
    this.#perPeer = new RateLimiter({ ...(limits.peer ?? PER_PEER), maxKeys: MAX_KEYS }, clock);
  }

  allowAddress(ip: IpAddress): boolean {
    return this.#perAddress.allow(limitKey(ip));
  }

  allowPeer(claimed: PeerId, ip: IpAddress): boolean {
    const home = this.#homes.get(claimed) === limitKey(ip);
    return this.#perPeer.allow(home ? `${claimed} at home` : claimed);
  }

  authenticated(peer: PeerId, ip: IpAddress): void {
    this.#homes.delete(peer);
    this.#homes.set(peer, limitKey(ip));
    if (this.#homes.size <= MAX_KEYS) return;
    for (const oldest of this.#homes.keys()) {
      this.#homes.delete(oldest);
      break;
    }
  }
}
