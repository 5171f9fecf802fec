import type { Audit } from '../../core/ports/audit.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import { RateLimiter } from '../../core/rate-limit.js';
import { sessionsBy } from '../../core/sessions-by.js';
import { VpndError } from '../../model/errors.js';
import type { PeerId } from '../../model/ids.js';
import type { News } from '../../model/messages.js';
import type { ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';
import type { Revocations, RevocationsChanged } from '../common/revocations.js';
import type { BackSessions } from './back.js';
import type { FrontSessions } from './front.js';
import type { Moves } from './moves.js';

/** A supernode that was away for long learns of everybody at once; base has the names. */
const MOST_NAMED = 100;

export interface ShuttingOutDeps {
  readonly self: PeerId;
  readonly clock: Clock;
  readonly log: Log;
  readonly audit: Audit;
  readonly revocations: () => Revocations;
  readonly streams: () => Pick<StreamManager, 'byRole' | 'send' | 'disconnect' | 'broadcast'>;
  readonly front: Pick<FrontSessions, 'endAll'>;
  readonly back: Pick<BackSessions, 'all' | 'endAll'>;
  readonly moves: Pick<Moves, 'askSupernode'>;
}

const REASON = 'a node on its path was shut out of the overlay';
/** Peers rarely have a list that their supernode lacks: it was away, and base is. */
const LISTS = { perMinute: 30, burst: 20, maxKeys: 20_000 };

/** What a supernode takes from nodes that were shut out, and how its peers hear of them. */
export class ShuttingOut {
  readonly #limit: RateLimiter;

  constructor(private readonly deps: ShuttingOutDeps) {
    this.#limit = new RateLimiter(LISTS, deps.clock);
  }

  /** A newer list is in force. */
  changed({ added, removed, news }: RevocationsChanged): void {
    this.enforce();
    for (const one of news) {
      this.deps.streams().broadcast('exit', one);
      this.deps.streams().broadcast('client', one);
    }
    this.#record(added, removed);
  }

  /** Takes everything from everybody who is out. Idempotent; also for what a restarted daemon finds on record. */
  enforce(): void {
    const { front, back, streams } = this.deps;
    const revocations = this.deps.revocations();
    const isOut = (id: PeerId) => revocations.has(id);
    for (const role of ['exit', 'client'] as const) {
      for (const { id } of streams().byRole(role)) {
        const refusal = revocations.refusal(id);
        if (refusal !== undefined) streams().disconnect(id, refusal);
      }
    }
    this.#warnOthers(isOut);
    front.endAll((one) => isOut(one.client) || isOut(one.exit) || isOut(one.supernode), REASON);
    back.endAll((one) => isOut(one.exit) || isOut(one.origin), REASON);
  }

  /** What was taken is taken, whether or not it can be written down. */
  #record(added: RevocationsChanged['added'], removed: RevocationsChanged['removed']): void {
    const { audit } = this.deps;
    const detail = { epoch: this.deps.revocations().epoch };
    for (const { kind, peer } of added.slice(0, MOST_NAMED)) {
      const code = kind === 'supernode' ? 'supernode-banned' : 'peer-revoked';
      audit.note({ code, by: 'base', on: `${kind}:${peer}`, detail });
    }
    for (const peer of removed.slice(0, MOST_NAMED))
      audit.note({ code: 'peer-restored', by: 'base', on: `peer:${peer}`, detail });
    const unnamed = Math.max(0, added.length - MOST_NAMED) + Math.max(0, removed.length - MOST_NAMED);
    if (unnamed > 0) audit.note({ code: 'peer-revoked', by: 'base', on: '', detail: { ...detail, more: unnamed } });
  }

  /** A peer is connected: what it has missed. */
  greet(peer: ConnectedPeer): void {
    const revocations = this.deps.revocations();
    revocations.mentioned(peer.membership.epoch);
    for (const news of revocations.newerThan(peer.revocations)) this.#tell(peer.id, news);
  }

  /** What a peer says of lists. Another supernode, or base itself, may have told it what this one has not heard. */
  heard(from: PeerId, news: Extract<News, { kind: 'revocations' | 'revocations-wanted' }>): void {
    const revocations = this.deps.revocations();
    if (news.kind === 'revocations-wanted') {
      for (const part of revocations.wanted(from)) this.#tell(from, part);
    } else if (this.#limit.allow(from)) {
      for (const answer of revocations.take(from, news.change)) this.#tell(from, answer);
    }
  }

  /** A certificate outlives the ban of its supernode by hours. Throws `revoked`, and `forbidden` without a certificate. */
  caller(certified: PeerId | undefined): PeerId {
    if (certified === undefined) throw new VpndError('forbidden', 'only supernodes call this, with their certificate');
    const refusal = this.deps.revocations().refusal(certified);
    if (refusal !== undefined) throw refusal;
    return certified;
  }

  /** Supernodes that have not heard of it yet: their clients are not to wait for it. */
  #warnOthers(isOut: (id: PeerId) => boolean): void {
    const { self, back, moves } = this.deps;
    const theirs = back.all().filter(({ exit, origin }) => isOut(exit) && !isOut(origin) && origin !== self);
    for (const [origin, sessions] of sessionsBy(theirs, (one) => one.origin)) {
      moves.askSupernode(origin, sessions, { reason: REASON, leaveExit: true, urgent: true });
    }
  }

  #tell(peer: PeerId, news: News): void {
    this.deps.streams().send(peer, { kind: 'event', news });
  }
}
