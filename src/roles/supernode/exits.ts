import type { SupernodeConfig } from '../../config/types.js';
import type { RankingContext } from '../../core/ranking.js';
import { rankExits } from '../../core/ranking.js';
import { familyOf } from '../../model/address.js';
import { type ExitCandidate, type Load, NO_LOAD } from '../../model/directory.js';
import type { PeerId } from '../../model/ids.js';
import type { RequestExitPeerRequest } from '../../model/messages.js';
import type { Region } from '../../model/role.js';
import type { ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';

export interface ExitBookDeps {
  readonly self: PeerId;
  readonly region: Region;
  readonly config: SupernodeConfig;
  readonly streams: () => StreamManager;
  /** Sessions this supernode has at an exit, its own egress included. */
  readonly sessionsAt: (exit: PeerId) => number;
  readonly ipv6: boolean;
  readonly egressReady: () => boolean;
}

/** A supernode that has nothing to say answers with at most so many. */
const DEFAULT_LIMIT = 5;

/** Why an exit serves nobody at present, by its own word. */
export type Away = 'internet' | 'owner';
const AWAY: Readonly<Record<Away, string>> = {
  internet: 'it says that it has lost the internet',
  owner: 'its owner lends it at other hours',
};

/** The exits this supernode speaks for: those connected to it, and its own egress. */
export class ExitBook {
  /** By stream, with which the mark ends. */
  readonly #away = new WeakMap<ConnectedPeer, ReadonlySet<Away>>();

  constructor(private readonly deps: ExitBookDeps) {}

  /** An exit says whether it serves anybody. Answers whether that is new. */
  away(peer: ConnectedPeer, why: Away, is: boolean): boolean {
    const before = this.#away.get(peer) ?? new Set<Away>();
    if (before.has(why) === is) return false;
    this.#away.set(peer, new Set(is ? [...before, why] : [...before].filter((other) => other !== why)));
    return true;
  }

  /** Why a connected exit will not do at present. */
  unusable(exit: PeerId): string | undefined {
    const peer = this.deps.streams().peer(exit);
    const [why] = (peer && this.#away.get(peer)) ?? [];
    return why && AWAY[why];
  }

  all(): readonly ExitCandidate[] {
    const exits = this.deps
      .streams()
      .byRole('exit')
      .map((peer) => this.#candidate(peer));
    return this.deps.config.egress && this.deps.egressReady() ? [...exits, this.#egress()] : exits;
  }

  /** The best that fit, for another supernode's RequestExitPeer; where none does, some that it can tell its client about. */
  fitting(request: RequestExitPeerRequest): readonly ExitCandidate[] {
    const wish = { ...request, maxLatency: undefined, privacy: 'auto' as const };
    const { ranked, rejected } = rankExits(this.all(), wish, this.#anyClient());
    // Whoever asked knows nothing of uplinks: one that is down must not look as if it merely did not fit.
    const named = rejected.filter(({ exit }) =>
      request.exit === undefined ? this.unusable(exit.id) === undefined : exit.id === request.exit,
    );
    return (ranked.length > 0 ? ranked : named)
      .slice(0, Math.min(request.limit || DEFAULT_LIMIT, 50))
      .map((one) => one.exit);
  }

  #candidate(peer: ConnectedPeer): ExitCandidate {
    const load: Load = peer.load ?? NO_LOAD;
    return {
      id: peer.id,
      supernode: this.deps.self,
      region: peer.region,
      country: peer.capabilities.country,
      pool: peer.membership.pool,
      ipv6: peer.capabilities.ipv6,
      load: { ...load, sessions: this.deps.sessionsAt(peer.id), sessionCapacity: peer.capabilities.sessionCapacity },
      maxMbps: peer.capabilities.maxMbps,
      latency: peer.latency,
      publicEndpoint: peer.capabilities.publicEndpoint,
      egress: false,
      family: familyOf(peer.remote.ip),
    };
  }

  #egress(): ExitCandidate {
    const { config, self, region } = this.deps;
    const ip = config.relayIps[0];
    return {
      id: self,
      supernode: self,
      region,
      country: config.country,
      pool: '',
      ipv6: this.deps.ipv6,
      load: { ...NO_LOAD, sessions: this.deps.sessionsAt(self), sessionCapacity: config.sessionCapacity },
      maxMbps: 0,
      latency: undefined,
      publicEndpoint: ip === undefined ? undefined : { ip, port: config.wireguardPort },
      egress: true,
      family: ip === undefined ? 4 : familyOf(ip),
    };
  }

  /** Which path a client would take is for its own supernode to find out; here every family counts as reachable. */
  #anyClient(): RankingContext {
    const { relayIps } = this.deps.config;
    return {
      self: this.deps.self,
      relayIps,
      clientIps: relayIps,
      clientLatency: undefined,
      latencyTo: () => undefined,
      relayIpsOf: () => relayIps,
      unusable: (exit) => this.unusable(exit),
    };
  }
}
