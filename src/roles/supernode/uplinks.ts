import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import { RateLimiter } from '../../core/rate-limit.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { ConnectedPeer } from '../../transport/stream-manager.js';
import type { BackSession } from './back.js';
import type { ExitBook } from './exits.js';
import type { Moves } from './moves.js';

export interface UplinkDeps {
  readonly self: PeerId;
  readonly clock: Clock;
  readonly log: Log;
  readonly exits: Pick<ExitBook, 'uplink'>;
  readonly back: { all(): readonly BackSession[] };
  readonly moves: Pick<Moves, 'askClients' | 'askSupernode'>;
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
    const { self, back, moves } = this.#deps;
    const byOrigin = new Map<PeerId, SessionId[]>();
    for (const one of back.all()) {
      if (one.exit === exit) byOrigin.set(one.origin, [...(byOrigin.get(one.origin) ?? []), one.session]);
    }
    for (const [origin, sessions] of byOrigin) {
      const wish = { reason: REASON, urgent: true };
      if (origin === self) moves.askClients(new Set(sessions), { ...wish, leaveSupernode: false, avoidExits: [exit] });
      else moves.askSupernode(origin, sessions, { ...wish, leaveExit: true });
    }
  }
}
