import type { Clock } from '../../core/ports/clock.js';
import { sleep } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Random } from '../../core/ports/random.js';
import { VpndError } from '../../model/errors.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import type { ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';
import type { History } from '../common/history.js';
import type { BackSession } from './back.js';
import type { FrontSession } from './front.js';
import type { Moves } from './moves.js';

export interface DrainProgress {
  readonly sessions: number;
  readonly streams: number;
  readonly done: boolean;
}

export interface DrainDeps {
  readonly self: PeerId;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly history: Pick<History, 'record'>;
  readonly streams: () => Pick<StreamManager, 'peer' | 'byRole' | 'count' | 'disconnect'>;
  readonly front: { all(): readonly FrontSession[] };
  readonly back: { all(): readonly BackSession[]; countAt(exit: PeerId): number };
  readonly moves: Pick<Moves, 'askClients' | 'askSupernode'>;
  /** Whether any other supernode answers and does not drain. */
  readonly elsewhere: () => Promise<boolean>;
  /** Details of a refusal: where to go instead. */
  readonly next: () => Record<string, string>;
  /** Tells base and everybody connected that this supernode drains. */
  readonly announce: () => void;
  readonly changed: () => void;
}

/** Sessions asked to move per second: what comes down on the neighbours is as many handshakes and relay ports. */
const RATE = 50;
const TICK: Millis = ms(200);
/** Who is still here is asked again: the first word may have found it without another exit. */
const AGAIN_AFTER: Millis = seconds(10);
/** Exits open a line elsewhere on the news; until then nobody finds them there. */
const EXITS_MOVE: Millis = seconds(2);
/** An exit that is nowhere else by the third asking will not be. */
const ASKS_FOR_THE_EXIT = 2;
/** How often, while waiting, it is looked whether there is still somewhere to go. */
const LOOK_ELSEWHERE: Millis = seconds(3);
const LOOK: Millis = ms(250);
const REASON = 'its supernode is being taken out of service';

interface Asked {
  readonly at: Millis;
  readonly times: number;
}

/**
 * serving -> draining. Announces itself, takes nobody new, and asks everybody here to go elsewhere, a few at a time,
 * until nobody is left; only a restart makes it serve again.
 */
export class Drain {
  readonly #deps: DrainDeps;
  readonly #asked = new Map<SessionId, Asked>();
  #since: Millis | undefined;
  #lastTick: Millis = ms(0);
  #credit = 0;
  #ended = false;
  #cancel: () => void = () => {};

  constructor(deps: DrainDeps) {
    this.#deps = deps;
  }

  get draining(): boolean {
    return this.#since !== undefined;
  }

  /** Idempotent. Rejects with `unreachable` when everybody would have nowhere to go, unless that does not matter. */
  async begin(options: { readonly force: boolean }): Promise<void> {
    if (this.draining) return;
    if (!options.force && !(await this.#deps.elsewhere()))
      throw new VpndError('unreachable', 'there is no other supernode to move to', { retryable: true });
    this.#start();
  }

  /**
   * For a supernode that is to end: resolves when nobody needs it, when nobody can go anywhere, or after `limit`. At
   * once when it is not used, or when there is nobody to take over.
   */
  async leave(limit: Millis): Promise<void> {
    const { clock, log } = this.#deps;
    if (limit <= 0 || !this.#inUse()) return;
    if (!this.draining) {
      if (!(await this.#deps.elsewhere())) return;
      this.#start();
    }
    const { sessions } = this.progress();
    log.info('moving sessions to other supernodes before the end; another signal ends at once', { count: sessions });
    const until = clock.monotonic() + limit;
    let look = clock.monotonic() + LOOK_ELSEWHERE;
    while (!this.progress().done && clock.monotonic() < until) {
      await sleep(clock, LOOK);
      if (clock.monotonic() < look) continue;
      look = ms(clock.monotonic() + LOOK_ELSEWHERE);
      if (!(await this.#deps.elsewhere())) break;
    }
  }

  /** Progress whenever it changes, until everybody has gone, the time is over, or nobody listens any more. */
  async *watch(
    limit: Millis,
    signal: AbortSignal,
  ): AsyncGenerator<DrainProgress & { readonly timedOut: boolean }, void, undefined> {
    const { clock } = this.#deps;
    const until = clock.monotonic() + limit;
    let told: string | undefined;
    while (!signal.aborted) {
      const progress = this.progress();
      const timedOut = !progress.done && clock.monotonic() >= until;
      const line = JSON.stringify([progress, timedOut]);
      if (line !== told) yield { ...progress, timedOut };
      told = line;
      if (progress.done || timedOut) return;
      await sleep(clock, LOOK, signal).catch(() => {});
    }
  }

  progress(): DrainProgress {
    const streams = this.#deps.streams();
    const sessions = this.#sessions();
    // Exits without sessions get the time to be found elsewhere before this supernode may go.
    const exitsGone = streams.count('exit') === 0 || this.#elapsed() >= EXITS_MOVE;
    return { sessions, streams: streams.count(), done: this.draining && sessions === 0 && exitsGone };
  }

  /** The refusal of somebody new. */
  refusal(): VpndError {
    return new VpndError('draining', 'this supernode is being taken out of service; another one serves you', {
      retryable: true,
      details: this.#deps.next(),
    });
  }

  /** Whether a peer may have a stream: while draining only who has sessions here. */
  takes(peer: ConnectedPeer): boolean {
    return !this.draining || this.#hasSessions(peer);
  }

  stop(): void {
    this.#cancel();
  }

  #start(): void {
    const { clock, history, announce } = this.#deps;
    this.#since = clock.monotonic();
    this.#lastTick = this.#since;
    const { sessions, streams } = this.progress();
    history.record('drain-started', `${sessions} sessions and ${streams} streams are to go elsewhere`);
    announce();
    this.#deps.changed();
    this.#tick();
  }

  #tick(): void {
    const { clock, random, log, history } = this.#deps;
    const now = clock.monotonic();
    this.#credit = Math.min(RATE, this.#credit + ((now - this.#lastTick) * RATE) / 1_000);
    this.#lastTick = now;
    try {
      this.#askSome();
      this.#dismissSome();
    } catch (err) {
      log.error('asking peers to go elsewhere failed', { err });
    }
    if (this.progress().done && !this.#ended) {
      this.#ended = true;
      history.record('drain-ended', 'nobody is left here');
      log.info('drained: no session is left here');
      this.#deps.changed();
    }
    this.#cancel = clock.after(ms(TICK * (0.5 + random.fraction())), () => this.#tick());
  }

  /** Those never asked come first, then whoever was asked longest ago. */
  #askSome(): void {
    const { self, front, back, streams } = this.#deps;
    const now = this.#deps.clock.monotonic();
    const exitsMoved = this.#elapsed() >= EXITS_MOVE;
    const mine = front.all();
    const others = back.all().filter((one) => one.origin !== self);
    this.#forgetOthers(new Set([...mine, ...others].map((one) => one.session)));
    const due = [
      ...mine
        .filter((one) => streams().peer(one.client) !== undefined)
        .filter((one) => exitsMoved || one.supernode !== self || one.exit === self),
      ...others.filter((one) => exitsMoved || one.exit === self),
    ]
      .map((one) => ({ one, asked: this.#asked.get(one.session) }))
      .filter(({ asked }) => asked === undefined || now - asked.at >= AGAIN_AFTER)
      .sort((a, b) => (a.asked?.at ?? 0) - (b.asked?.at ?? 0))
      .slice(0, Math.floor(this.#credit));
    this.#credit -= due.length;
    const here: FrontSession[] = [];
    const there: BackSession[] = [];
    for (const { one, asked } of due) {
      this.#asked.set(one.session, { at: now, times: (asked?.times ?? 0) + 1 });
      if ('client' in one) here.push(one);
      else there.push(one);
    }
    this.#askHere(here);
    this.#askThere(there);
  }

  #askHere(sessions: readonly FrontSession[]): void {
    const wish = { reason: REASON, leaveSupernode: true, urgent: false };
    const leaving = (one: FrontSession) => one.supernode === this.#deps.self && this.#mustLeaveExit(one);
    for (const [exit, some] of grouped(sessions, (one) => (leaving(one) ? one.exit : undefined))) {
      const ids = new Set(some.map((one) => one.session));
      this.#deps.moves.askClients(ids, { ...wish, avoidExits: exit === undefined ? [] : [exit] });
    }
  }

  #askThere(sessions: readonly BackSession[]): void {
    for (const [origin, some] of grouped(sessions, (one) => one.origin)) {
      for (const [leaveExit, list] of grouped(some, (one) => this.#mustLeaveExit(one))) {
        const ids = list.map((one) => one.session);
        this.#deps.moves.askSupernode(origin, ids, { reason: REASON, leaveExit, urgent: false });
      }
    }
  }

  /** This supernode's own egress goes with it; an exit that is asked for again and again has found no other way in. */
  #mustLeaveExit({ session, exit }: { readonly session: SessionId; readonly exit: PeerId }): boolean {
    return exit === this.#deps.self || (this.#asked.get(session)?.times ?? 0) > ASKS_FOR_THE_EXIT;
  }

  /** Whoever has no session here goes on the news of it; who has not after a while is sent away, as slowly. */
  #dismissSome(): void {
    if (this.#elapsed() < AGAIN_AFTER) return;
    const { front, back } = this.#deps;
    const streams = this.#deps.streams();
    const clients = new Set(front.all().map((one) => one.client));
    const idle = [
      ...streams.byRole('exit').filter((peer) => back.countAt(peer.id) === 0),
      ...streams.byRole('client').filter((peer) => !clients.has(peer.id)),
    ];
    for (const peer of idle.slice(0, Math.floor(this.#credit))) {
      this.#credit -= 1;
      streams.disconnect(peer.id, this.refusal());
    }
  }

  #hasSessions(peer: ConnectedPeer): boolean {
    const { front, back } = this.#deps;
    return peer.role === 'exit' ? back.countAt(peer.id) > 0 : front.all().some((one) => one.client === peer.id);
  }

  #forgetOthers(present: ReadonlySet<SessionId>): void {
    for (const session of this.#asked.keys()) if (!present.has(session)) this.#asked.delete(session);
  }

  /** A session of a client here at an exit here is one. */
  #sessions(): number {
    const { self, front, back } = this.#deps;
    return front.all().length + back.all().filter((one) => one.origin !== self).length;
  }

  #inUse(): boolean {
    return this.#sessions() > 0 || this.#deps.streams().count('exit') > 0;
  }

  #elapsed(): Millis {
    return ms(this.#since === undefined ? 0 : this.#deps.clock.monotonic() - this.#since);
  }
}

function grouped<T, K>(list: readonly T[], keyOf: (one: T) => K): ReadonlyMap<K, readonly T[]> {
  const groups = new Map<K, T[]>();
  for (const one of list) {
    const key = keyOf(one);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [one]);
    else group.push(one);
  }
  return groups;
}
