import { type Backoff, ceilingOf } from '../../core/backoff.js';
import { familyOf, type IpAddress } from '../../model/address.js';
import { toVpndError } from '../../model/errors.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { Path } from '../../model/role.js';
import { type Instant, type Millis, minutes, ms, plus, seconds, since } from '../../model/time.js';
import type { ConnectedPeer } from '../../transport/stream-manager.js';
import type { FrontDeps } from './front.js';
import type { FrontBook, FrontSession } from './front-book.js';
import type { FrontMoves, Tried } from './front-moves.js';

/** A session carries traffic by then, and its relays have heard both ends. */
const FIRST_TRY: Millis = seconds(1);
/** So that the clients of a restarted supernode do not all move at once. */
const SPREAD: Millis = ms(500);
/** Each takes seconds where it has to wait for a quiet moment. */
const AT_ONCE = 6;
/** After going back for the client's or the exit's sake: their new addresses are vouched for by then. */
const NEXT_TRY: Millis = seconds(5);
/** The relays' state goes when it was not used for so long. */
export const SETTLE_AFTER: Millis = seconds(30);
/** An exit's datagram has vouched for where its UDP comes from by then. */
const VOUCH_TIME: Millis = seconds(3);
/** How soon a pair of addresses between which no packet came through is tried again. */
const FAILED_FOR: Readonly<Record<FrontSession['privacy'], Millis>> = {
  auto: minutes(30),
  direct: minutes(1),
  private: minutes(30),
};
const RETRY: Backoff = { first: seconds(5), factor: 3, max: minutes(10) };
/** A tunnel that was too busy to find out. */
const BUSY: Backoff = { first: seconds(10), factor: 3, max: minutes(30) };
const RETURN: Backoff = { first: seconds(1), factor: 2, max: seconds(15) };
/** Pairs remembered at most; the oldest are forgotten. */
const MEMORY = 10_000;

interface Failure {
  readonly exit: IpAddress;
  readonly at: Instant;
}

export interface PathDeps extends FrontDeps {
  /** Runs a task in its session's turn. */
  readonly inTurn: <T>(session: SessionId, task: () => Promise<T>) => Promise<T>;
}

/** Decides when a session goes direct and when it goes back, and drives it. */
export class PathKeeper {
  readonly #timers = new Map<SessionId, () => void>();
  readonly #attempts = new Map<SessionId, number>();
  readonly #never = new Set<SessionId>();
  /** Between which client's address and exit nothing came through. */
  readonly #failures = new Map<string, Failure>();
  #trying = 0;
  readonly #waiting: (() => void)[] = [];
  #stopped = false;

  constructor(
    private readonly deps: PathDeps,
    private readonly book: FrontBook,
    private readonly moves: FrontMoves,
  ) {}

  stop(): void {
    this.#stopped = true;
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
  }

  /** A session carries traffic. */
  established(session: SessionId): void {
    this.#later(session, this.#spread(FIRST_TRY));
  }

  /** The client of this session is back. */
  connected(one: FrontSession, peer: ConnectedPeer): void {
    if (one.way.kind === 'direct' && peer.remote.ip !== one.way.streamFrom) {
      this.#leave(one.session, 'the client is in another network');
    } else if (one.way.kind === 'granted') this.established(one.session);
    else this.#later(one.session, this.#untilNext(one));
  }

  /** The client's packets come from an address that was not known before. */
  clientMoved(one: FrontSession, peer: ConnectedPeer): void {
    if (one.way.kind === 'direct') {
      if (!this.#isAt(peer, one.way.client.ip)) this.#leave(one.session, 'the client’s address has changed');
    } else if (one.way.kind === 'granted') this.#later(one.session, this.#spread(NEXT_TRY));
  }

  /** An exit of this very supernode is back, or its packets come from elsewhere. */
  exitMoved(exit: PeerId): void {
    this.deps.clock.after(VOUCH_TIME, () => {
      const peer = this.deps.streams().peer(exit);
      if (peer === undefined || this.#stopped) return;
      for (const one of this.book.all()) {
        if (one.exit !== exit || one.supernode !== this.deps.self || one.way.kind !== 'direct') continue;
        if (!this.#isAt(peer, one.way.exit.ip)) this.#leave(one.session, 'the exit’s address has changed');
      }
    });
  }

  /** The client asks for a path. */
  wanted(one: FrontSession, path: Path, reason: string): void {
    this.deps.log.info(`a client asks for another path: ${reason}`, { session_id: one.session, path });
    if (path === 'direct') {
      this.#attempts.delete(one.session);
      void this.#act(one.session, true);
      return;
    }
    if (one.way.kind === 'direct') this.#remember(one.way.client.ip, one.exit, one.way.exit.ip);
    this.#leave(one.session, reason);
  }

  /** Back to the relays, whatever way the session takes. */
  leave(session: SessionId, reason: string): void {
    this.#leave(session, reason);
  }

  closed(session: SessionId): void {
    this.#timers.get(session)?.();
    this.#timers.delete(session);
    this.#attempts.delete(session);
    this.#never.delete(session);
  }

  #later(session: SessionId, delay: Millis): void {
    if (this.#stopped) return;
    this.#timers.get(session)?.();
    const cancel = this.deps.clock.after(delay, () => {
      this.#timers.delete(session);
      void this.#act(session);
    });
    this.#timers.set(session, cancel);
  }

  /** What is next for a session follows from the way it takes. Never rejects. */
  async #act(session: SessionId, asked = false): Promise<void> {
    const one = this.book.get(session);
    if (one === undefined || this.#stopped) return;
    try {
      switch (one.way.kind) {
        case 'granted':
          if (this.#mayGoDirect(one)) await this.#try(one, asked);
          break;
        case 'moving':
        case 'returning':
          await this.#goBack(session);
          break;
        case 'direct':
          if (!one.way.settled) await this.#settle(one);
          break;
      }
    } catch (thrown) {
      const { code, message } = toVpndError(thrown);
      this.deps.log.warn('a session’s path could not be changed', { session_id: session, code, reason: message });
      this.#retry(session, RETRY);
    }
  }

  #mayGoDirect(one: FrontSession): boolean {
    const { streams, carried } = this.deps;
    if (one.port === undefined || one.privacy === 'private' || one.exit === one.supernode) return false;
    if (!one.established || this.#never.has(one.session) || streams().peer(one.client) === undefined) return false;
    if (carried?.(one.session) !== true) return true;
    this.#later(one.session, RETRY.max);
    return false;
  }

  async #try(one: FrontSession, asked: boolean): Promise<void> {
    const { session, exit, privacy } = one;
    let failed: Failure | undefined;
    const worth = (client: IpAddress): boolean => {
      failed = asked ? undefined : this.#failedLately(client, one);
      return failed === undefined;
    };
    const tried = await this.#slot(() => this.deps.inTurn(session, () => this.moves.toDirect(session, worth)));
    if (failed !== undefined) {
      this.#later(session, this.#spread(ms(FAILED_FOR[privacy] - since(this.deps.clock.now(), failed.at))));
    } else this.#afterTrying(one, exit, tried);
  }

  #afterTrying(one: FrontSession, exit: PeerId, tried: Tried): void {
    const { session } = one;
    const { log } = this.deps;
    switch (tried.kind) {
      case 'direct':
        this.#attempts.delete(session);
        log.info('a session goes direct', { session_id: session, path: 'direct' });
        this.deps.moved?.(session, 'direct', 'client and exit reach each other');
        this.#later(session, SETTLE_AFTER);
        break;
      case 'no-direct':
        log.info('no packet came through directly; the session stays on its relays', { session_id: session });
        this.#remember(tried.client, exit, tried.exit);
        this.#later(session, this.#spread(FAILED_FOR[one.privacy]));
        break;
      case 'not-now':
        this.#retry(session, RETRY);
        break;
      case 'busy':
        this.#retry(session, BUSY);
        break;
      case 'never':
        this.#never.add(session);
        break;
      case 'unsure':
        this.#later(session, ms(0));
        break;
    }
  }

  #leave(session: SessionId, reason: string): void {
    this.#attempts.delete(session);
    this.#goBack(session, reason).catch((thrown: unknown) => {
      const { code, message } = toVpndError(thrown);
      this.deps.log.warn('a session stays on its path', { session_id: session, code, reason: message });
    });
  }

  async #goBack(session: SessionId, reason = 'its path was not settled'): Promise<void> {
    const done = await this.deps.inTurn(session, () => this.moves.toRelays(session));
    const one = this.book.get(session);
    if (one === undefined) return;
    if (done) {
      this.deps.log.info(`a session is back on its relays: ${reason}`, { session_id: session, path: one.path });
      this.deps.moved?.(session, one.path, reason);
      this.#attempts.delete(session);
      this.#later(session, this.#spread(NEXT_TRY));
    } else if (this.deps.streams().peer(one.client) !== undefined) this.#retry(session, RETURN);
  }

  async #settle(one: FrontSession): Promise<void> {
    const { session } = one;
    // A client that is away may need its relays as soon as it is back.
    if (this.deps.streams().peer(one.client) === undefined) return;
    const wait = this.#untilNext(one);
    if (wait > 0) {
      this.#later(session, wait);
      return;
    }
    await this.deps.inTurn(session, () => this.moves.settle(session));
  }

  #untilNext({ way }: FrontSession): Millis {
    if (way.kind !== 'direct') return ms(0);
    return ms(Math.max(0, since(plus(way.since, SETTLE_AFTER), this.deps.clock.now())));
  }

  #retry(session: SessionId, backoff: Backoff): void {
    const attempt = this.#attempts.get(session) ?? 0;
    this.#attempts.set(session, attempt + 1);
    this.#later(session, this.#spread(ceilingOf(backoff, attempt)));
  }

  #spread(delay: Millis): Millis {
    return ms(Math.max(0, delay) + this.deps.random.fraction() * SPREAD);
  }

  /** The latest address of its family that the peer was seen at or has vouched for. */
  #isAt(peer: ConnectedPeer, ip: IpAddress): boolean {
    const family = familyOf(ip);
    return (
      this.deps
        .vouched(peer)
        .filter((one) => familyOf(one) === family)
        .at(-1) === ip
    );
  }

  #failedLately(client: IpAddress, { exit, supernode, privacy }: FrontSession): Failure | undefined {
    const failure = this.#failures.get(`${client} ${exit}`);
    if (failure === undefined || since(this.deps.clock.now(), failure.at) >= FAILED_FOR[privacy]) return undefined;
    const peer = supernode === this.deps.self ? this.deps.streams().peer(exit) : undefined;
    // Where the exit is ours, we see whether it has moved since.
    return peer === undefined || this.deps.vouched(peer).includes(failure.exit) ? failure : undefined;
  }

  #remember(client: IpAddress, exit: PeerId, at: IpAddress): void {
    const key = `${client} ${exit}`;
    this.#failures.delete(key);
    this.#failures.set(key, { exit: at, at: this.deps.clock.now() });
    if (this.#failures.size <= MEMORY) return;
    for (const oldest of this.#failures.keys()) {
      this.#failures.delete(oldest);
      break;
    }
  }

  /** At most a few at once. */
  async #slot<T>(task: () => Promise<T>): Promise<T> {
    while (this.#trying >= AT_ONCE) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#trying++;
    try {
      return await task();
    } finally {
      this.#trying--;
      this.#waiting.shift()?.();
    }
  }
}
