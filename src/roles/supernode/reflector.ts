import type { Clock } from '../../core/ports/clock.js';
import type { Crypto } from '../../core/ports/crypto.js';
import { parseProbeQuestion, probeAnswer, vouchInput } from '../../core/probe.js';
import { limitKey, RateLimiter } from '../../core/rate-limit.js';
import { type Endpoint, familyOf, type IpAddress } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import { keyOf, type PeerId } from '../../model/ids.js';
import type { ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';

export interface ReflectorDeps {
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly streams: () => StreamManager;
  /** A peer's UDP comes from an address that its stream had not shown. */
  moved(peer: ConnectedPeer): void;
}

/**
 * Tells askers their address as seen from here, and takes a peer's signed word for where its UDP comes from. An
 * address counts as long as the stream that it was vouched on.
 */
export class Reflector {
  readonly #limiter: RateLimiter;
  /** Per stream (a ConnectedPeer lives as long as its stream): highest counter seen, addresses by family. */
  readonly #vouched = new WeakMap<ConnectedPeer, Map<4 | 6, { counter: number; ip: IpAddress }>>();

  constructor(private readonly deps: ReflectorDeps) {
    this.#limiter = new RateLimiter({ perMinute: 120, burst: 30, maxKeys: 65_536 }, deps.clock);
  }

  answer(question: Bytes, from: Endpoint): Bytes | undefined {
    const parsed = parseProbeQuestion(question);
    if (parsed === undefined || !this.#limiter.allow(limitKey(from.ip))) return undefined;
    if (parsed.kind === 'vouch' && !this.#vouch(parsed, from)) return undefined;
    return probeAnswer(parsed.nonce, from);
  }

  /** Every address packets of this peer may come from: its stream's, and those it vouched for. */
  addressesOf(peer: ConnectedPeer): readonly IpAddress[] {
    const more = [...(this.#vouched.get(peer)?.values() ?? [])].map((one) => one.ip);
    return [...new Set([peer.remote.ip, ...more])];
  }

  #vouch(vouch: { nonce: Bytes; counter: number; peer: PeerId; signature: Bytes }, from: Endpoint): boolean {
    const peer = this.deps.streams().peer(vouch.peer);
    if (peer === undefined) return false;
    const known = this.#vouched.get(peer) ?? new Map<4 | 6, { counter: number; ip: IpAddress }>();
    const family = familyOf(from.ip);
    const before = known.get(family);
    // The question is sent again when its answer was lost: the same counter from the same address is no replay.
    if (
      before !== undefined &&
      (vouch.counter < before.counter || (vouch.counter === before.counter && from.ip !== before.ip))
    ) {
      return false;
    }
    if (
      !this.deps.crypto.verify(
        keyOf(vouch.peer),
        vouchInput(peer.probeToken, vouch.nonce, vouch.counter),
        vouch.signature,
      )
    ) {
      return false;
    }
    const isNew = !this.addressesOf(peer).includes(from.ip);
    known.set(family, { counter: vouch.counter, ip: from.ip });
    this.#vouched.set(peer, known);
    if (isNew) this.deps.moved(peer);
    return true;
  }
}
