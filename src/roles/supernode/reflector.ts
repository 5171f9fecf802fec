import type { Clock } from '../../core/ports/clock.js';
import type { Crypto } from '../../core/ports/crypto.js';
import { parseProbeQuestion, probeAnswer, vouchInput } from '../../core/probe.js';
import { limitKey, type RateLimit, RateLimiter } from '../../core/rate-limit.js';
import { TokenBucket } from '../../core/token-bucket.js';
import type { Endpoint, IpAddress } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import { keyOf, type PeerId } from '../../model/ids.js';
import type { ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';

/**
 * Counters of a stream that are remembered, from the highest down, each with its address: one per relay address, for
 * the last few networks that changed under the stream. Lower ones were seen, or might have been: they are refused.
 */
const WINDOW = 16;

const STRANGERS: RateLimit = { perMinute: 120, burst: 30, maxKeys: 65_536 };
/**
 * A carrier's NAT has many peers behind one address, and to a peer an unanswered vouch means that UDP is blocked. So
 * each has a limit of its own there, and what all of them may cost in signatures is a fiftieth of a core.
 */
const VOUCHES_PER_ADDRESS: RateLimit = { perMinute: 12_000, burst: 1_000, maxKeys: 65_536 };
/**
 * Sources of datagrams can be forged, and each forged one would have a limit of its own. What comes for a peer from where it
 * has never been costs a signature check, and all of those together get a hundredth of a core. From a peer's known addresses it is not counted here.
 */
const FROM_ELSEWHERE = { perSecond: 100, burst: 500 };

export interface ReflectorDeps {
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly streams: () => StreamManager;
  /** A peer's UDP comes from an address that its stream had not shown. */
  moved(peer: ConnectedPeer): void;
}

/**
 * Tells askers their address as seen from here, and takes a peer's signed word for where its UDP comes from. An
 * address counts until it has been vouched for otherwise so often that it falls out of the window, or the stream ends.
 */
export class Reflector {
  readonly #limiter: RateLimiter;
  readonly #vouchLimiter: RateLimiter;
  readonly #peerLimiter: RateLimiter;
  readonly #elsewhere: TokenBucket;
  /** Per stream (a ConnectedPeer lives as long as its stream): counters within the window, each for one address. */
  readonly #vouched = new WeakMap<ConnectedPeer, Map<number, IpAddress>>();

  constructor(private readonly deps: ReflectorDeps) {
    this.#limiter = new RateLimiter(STRANGERS, deps.clock);
    this.#vouchLimiter = new RateLimiter(VOUCHES_PER_ADDRESS, deps.clock);
    this.#peerLimiter = new RateLimiter(STRANGERS, deps.clock);
    this.#elsewhere = new TokenBucket(FROM_ELSEWHERE, deps.clock);
  }

  answer(question: Bytes, from: Endpoint): Bytes | undefined {
    const parsed = parseProbeQuestion(question);
    if (parsed === undefined) return undefined;
    const address = limitKey(from.ip);
    if (parsed.kind === 'plain') return this.#limiter.allow(address) ? probeAnswer(parsed.nonce, from) : undefined;
    if (!this.#vouchLimiter.allow(address) || !this.#peerLimiter.allow(`${address} ${parsed.peer}`)) return undefined;
    if (!this.#vouch(parsed, from)) return undefined;
    return probeAnswer(parsed.nonce, from);
  }

  /** Every address packets of this peer may come from: its stream's, and those it vouched for. */
  addressesOf(peer: ConnectedPeer): readonly IpAddress[] {
    return [...new Set([peer.remote.ip, ...(this.#vouched.get(peer)?.values() ?? [])])];
  }

  #vouch(vouch: { nonce: Bytes; counter: number; peer: PeerId; signature: Bytes }, from: Endpoint): boolean {
    const peer = this.deps.streams().peer(vouch.peer);
    if (peer === undefined) return false;
    const used = this.#vouched.get(peer) ?? new Map<number, IpAddress>();
    const before = used.get(vouch.counter);
    const highest = Math.max(0, ...used.keys());
    // The question is sent again when its answer was lost; from another address it is a copy.
    if (before === undefined ? vouch.counter <= highest - WINDOW : before !== from.ip) return false;
    const isNew = !this.addressesOf(peer).includes(from.ip);
    if (isNew && !this.#elsewhere.take(1)) return false;
    if (
      !this.deps.crypto.verify(
        keyOf(vouch.peer),
        vouchInput(peer.probeToken, vouch.nonce, vouch.counter),
        vouch.signature,
      )
    ) {
      return false;
    }
    used.set(vouch.counter, from.ip);
    for (const counter of used.keys()) if (counter <= Math.max(highest, vouch.counter) - WINDOW) used.delete(counter);
    this.#vouched.set(peer, used);
    if (isNew) this.deps.moved(peer);
    return true;
  }
}
