import type { RankedExit } from '../../core/ranking.js';
import { familyOf } from '../../model/address.js';
import { KEEPALIVE_S } from '../../model/command.js';
import { VpndError } from '../../model/errors.js';
import type { SessionId } from '../../model/ids.js';
import type { ExitRequest, SessionGrant } from '../../model/session.js';
import { plus } from '../../model/time.js';
import type { ConnectedPeer } from '../../transport/stream-manager.js';
import type { FrontDeps } from './front.js';
import { type FrontBook, type FrontSession, GRANTED, hopOf } from './front-book.js';
import type { FrontRelay } from './front-relay.js';

/** How a session comes to be, with one candidate: addresses and port, the exit's side, our own relay, the grant. */
export class FrontOpening {
  constructor(
    private readonly deps: FrontDeps,
    private readonly book: FrontBook,
    private readonly relay: FrontRelay,
  ) {}

  /** What a failure leaves behind, closing the session takes away. */
  async open(
    session: SessionId,
    peer: ConnectedPeer,
    request: ExitRequest,
    candidate: RankedExit,
  ): Promise<SessionGrant> {
    const { deps } = this;
    const now = deps.clock.now();
    const { exit, path } = candidate;
    const inner = this.book.takeAddresses();
    if (inner === undefined)
      throw new VpndError('no-addresses', 'this supernode has no inner address left', { retryable: true });
    const port = path === 'direct' ? undefined : this.book.takePort();
    if (path !== 'direct' && port === undefined) {
      this.book.give(inner, port);
      throw new VpndError('no-ports', 'every relay port of this supernode is taken', { retryable: true });
    }
    const family = exit.egress && exit.publicEndpoint !== undefined ? familyOf(exit.publicEndpoint.ip) : exit.family;
    const lease = deps.config.lease;
    const one: FrontSession = {
      session,
      client: peer.id,
      clientKey: request.sessionKey,
      exit: exit.id,
      supernode: exit.supernode,
      path,
      privacy: request.privacy,
      way: GRANTED,
      inner,
      port,
      localIp: port === undefined ? undefined : deps.config.relayIps.find((ip) => familyOf(ip) === family),
      next: undefined,
      generation: 1,
      leaseUntil: plus(now, lease),
      openedAt: now,
      established: false,
    };
    // On record before anything is built: a crash half-way leaves something to close, not something forgotten.
    try {
      this.book.save(one);
    } catch (thrown) {
      this.book.give(inner, port);
      throw thrown;
    }
    const opened = await deps.openAt(exit.supernode, this.relay.openRequest(one, request.kemKey, lease));
    const hop = hopOf(one);
    if (hop !== undefined) {
      const relayed = { ...one, next: this.relay.nextOf(one, opened.endpoint) };
      await this.relay.order(relayed, peer, lease);
      this.book.save(relayed);
    }
    return {
      session,
      generation: one.generation,
      lease,
      endpoint: hop ?? opened.endpoint,
      keepalive: KEEPALIVE_S,
      path,
      via: path === 'direct' ? [] : path === 'relay' ? [deps.self] : [deps.self, exit.supernode],
      offer: opened.offer,
      exitMembership: opened.exitMembership,
      exitRegion: exit.region,
      exitCountry: exit.country,
      reasons: candidate.reasons,
    };
  }
}
