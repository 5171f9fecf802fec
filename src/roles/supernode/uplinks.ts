import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import { RateLimiter } from '../../core/rate-limit.js';
import { sessionsBy } from '../../core/sessions-by.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { ConnectedPeer } from '../../transport/stream-manager.js';
import type { BackSession } from './back.js';
import type { Away, ExitBook } from './exits.js';
import type { Moves } from './moves.js';

export interface UplinkDeps {
  readonly self: PeerId;
  readonly clock: Clock;
  readonly log: Log;
  readonly exits: Pick<ExitBook, 'away'>;
  readonly back: { all(): readonly BackSession[] };
  readonly moves: Pick<Moves, 'askClients' | 'askSupernode'>;
}

/** How clients are asked to leave: one that reaches nothing must be left at once, one that closes make before break. */
const WISHES: Readonly<Record<Away, { readonly reason: string; readonly urgent: boolean }>> = {
  internet: { reason: 'its exit has lost the internet', urgent: true },
  owner: { reason: 'its exit is closed by its owner', urgent: false },
};
const SAYS: Readonly<Record<Away, readonly [string, string]>> = {
  internet: ['its internet is gone', 'its internet is back'],
  owner: ['its owner has closed it', 'its owner lends it again'],
};
/** Each asks all its clients to move: an exit whose line comes and goes must not keep them busy. */
const PER_EXIT = { perMinute: 4, burst: 4, maxKeys: 65_536 };
/** Each for a thousand sessions. */
const MOVES_PER_EXIT = { perMinute: 20, burst: 100, maxKeys: 65_536 };

/** What exits say of their own internet and hours: no new session goes to one that has none, and those that are there leave. */
export class Uplinks {
  readonly #deps: UplinkDeps;
  readonly #limiter: RateLimiter;
  readonly #moveLimiter: RateLimiter;

  constructor(deps: UplinkDeps) {
    this.#deps = deps;
    this.#limiter = new RateLimiter(PER_EXIT, deps.clock);
    this.#moveLimiter = new RateLimiter(MOVES_PER_EXIT, deps.clock);
  }

  /** `uplink-down` and `uplink-up`, `exit-closed` and `exit-open`, on the exit's own stream. */
  told(peer: ConnectedPeer, why: Away, is: boolean): void {
    const { exits, log } = this.#deps;
    if (!exits.away(peer, why, is)) return;
    log.info(`an exit says that ${SAYS[why][is ? 0 : 1]}`, { peer_id: peer.id });
    if (is && this.#limiter.allow(peer.id)) this.#moveAll(peer.id, why);
  }

  /** It wants some of its sessions replaced, and stays an exit for them: it goes over to another key. */
  move(peer: ConnectedPeer, sessions: readonly SessionId[], reason: string): void {
    if (!this.#moveLimiter.allow(peer.id)) return;
    const { self, back, moves } = this.#deps;
    const wanted = new Set(sessions);
    const asked = back.all().filter((one) => one.exit === peer.id && wanted.has(one.session));
    for (const [origin, theirs] of sessionsBy(asked, (one) => one.origin)) {
      const wish = { reason, urgent: false };
      if (origin === self) moves.askClients(new Set(theirs), { ...wish, leaveSupernode: false, avoidExits: [] });
      else moves.askSupernode(origin, theirs, { ...wish, leaveExit: false });
    }
  }

  #moveAll(exit: PeerId, why: Away): void {
    const { self, back, moves } = this.#deps;
    const all = back.all().filter((one) => one.exit === exit);
    for (const [origin, sessions] of sessionsBy(all, (one) => one.origin)) {
      const wish = WISHES[why];
      if (origin === self) moves.askClients(new Set(sessions), { ...wish, leaveSupernode: false, avoidExits: [exit] });
      else moves.askSupernode(origin, sessions, { ...wish, leaveExit: true });
    }
  }
}
