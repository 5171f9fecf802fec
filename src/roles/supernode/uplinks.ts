import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import { RateLimiter } from '../../core/rate-limit.js';
import { toVpndError } from '../../model/errors.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { MoveSessionsRequest } from '../../model/messages.js';
import { MAX_MOVED_SESSIONS } from '../../transport/codec/limits.js';
import type { ConnectedPeer } from '../../transport/stream-manager.js';
import type { BackSession } from './back.js';
import type { MoveWish } from './drain.js';
import type { ExitBook } from './exits.js';

export interface UplinkDeps {
  readonly self: PeerId;
  readonly clock: Clock;
  readonly log: Log;
  readonly exits: Pick<ExitBook, 'uplink'>;
  readonly back: { all(): readonly BackSession[] };
  /** Sends ROTATE_PEER to the clients of these sessions. */
  readonly askToMove: (sessions: ReadonlySet<SessionId>, wish: MoveWish) => void;
  readonly moveAt: (supernode: PeerId, request: MoveSessionsRequest) => Promise<unknown>;
}

const REASON = 'its exit has lost the internet';
/** Each asks all its clients to move: an exit whose line comes and goes must not keep them busy. */
const PER_EXIT = { perMinute: 4, burst: 4, maxKeys: 65_536 };

/** What exits say of their own internet: no new session goes to one that has none, and those that are there leave. */
export class Uplinks {
  readonly #deps: UplinkDeps;
  readonly #limiter: RateLimiter;

  constructor(deps: UplinkDeps) {
    this.#deps = deps;
    this.#limiter = new RateLimiter(PER_EXIT, deps.clock);
  }

  /** `uplink-down` or `uplink-up`, on the exit's own stream. */
  told(peer: ConnectedPeer, state: 'down' | 'up'): void {
    const { exits, log } = this.#deps;
    if (!exits.uplink(peer, state)) return;
    log.info(`an exit says that its internet is ${state === 'down' ? 'gone' : 'back'}`, { peer_id: peer.id });
    if (state === 'down' && this.#limiter.allow(peer.id)) this.#moveAll(peer.id);
  }

  #moveAll(exit: PeerId): void {
    const { self, back, askToMove, moveAt, log } = this.#deps;
    const byOrigin = new Map<PeerId, SessionId[]>();
    for (const one of back.all()) {
      if (one.exit === exit) byOrigin.set(one.origin, [...(byOrigin.get(one.origin) ?? []), one.session]);
    }
    for (const [origin, sessions] of byOrigin) {
      if (origin === self) {
        askToMove(new Set(sessions), { reason: REASON, leaveSupernode: false, urgent: true, avoidExits: [exit] });
        continue;
      }
      for (let from = 0; from < sessions.length; from += MAX_MOVED_SESSIONS) {
        const some = sessions.slice(from, from + MAX_MOVED_SESSIONS);
        moveAt(origin, { sessions: some, reason: REASON, leaveExit: true, urgent: true }).catch((thrown: unknown) =>
          log.info('a supernode could not be told that an exit has lost the internet', {
            supernode_id: shortId(origin),
            code: toVpndError(thrown).code,
          }),
        );
      }
    }
  }
}
