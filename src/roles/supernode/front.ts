import type { SupernodeConfig } from '../../config/types.js';
import { newCommand, newSessionId } from '../../core/commands.js';
import { atMost } from '../../core/patience.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Metrics } from '../../core/ports/metrics.js';
import type { Random } from '../../core/ports/random.js';
import type { FactStore } from '../../core/ports/store.js';
import type { Ranking } from '../../core/ranking.js';
import { KeyedQueue } from '../../core/serial.js';
import type { IpAddress, Port } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { CommandDone, Desired } from '../../model/command.js';
import type { RelayObservation } from '../../model/dataplane.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { Signed } from '../../model/membership.js';
import type {
  AddressPlan,
  CloseSessionRequest,
  OpenSessionRequest,
  OpenSessionResponse,
  UpdateSessionRequest,
  UpdateSessionResponse,
} from '../../model/messages.js';
import type { Path, Region } from '../../model/role.js';
import type { ExitRequest, SessionGrant } from '../../model/session.js';
import { type Instant, type Millis, minutes, plus, seconds, since } from '../../model/time.js';
import type { ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';
import { toldAbroad } from '../../transport/streams/refusal.js';
import { FrontBook, type FrontSession } from './front-book.js';
import { FrontMoves } from './front-moves.js';
import { FrontOpening } from './front-opening.js';
import { PathKeeper } from './front-path.js';
import { FrontRelay } from './front-relay.js';
import { nothingFits } from './no-exit.js';
import type { Quarantine } from './quarantine.js';
import type { RelayPorts } from './relay-ports.js';

export { type FrontSession, pathOf } from './front-book.js';

export interface FrontDeps {
  readonly self: PeerId;
  readonly config: SupernodeConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly facts: FactStore;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly ports: RelayPorts;
  readonly restingPorts: Quarantine<Port>;
  /** An order to this supernode's own data plane. */
  readonly order: (session: SessionId, lease: Millis, desired: Desired) => Promise<CommandDone>;
  readonly streams: () => StreamManager;
  readonly vouched: (peer: ConnectedPeer) => readonly IpAddress[];
  /** What relay ports have learned. */
  readonly relays: () => Promise<readonly RelayObservation[]>;
  /** Whether a session's packets come inside its client's stream, for want of UDP. */
  readonly carried?: (session: SessionId) => boolean;
  /** Exits that fit, ours and other supernodes', ranked for this client. */
  readonly rank: (peer: ConnectedPeer, request: ExitRequest) => Promise<Ranking>;
  readonly regions: () => readonly Region[];
  readonly openAt: (supernode: PeerId, request: OpenSessionRequest) => Promise<OpenSessionResponse>;
  readonly updateAt: (supernode: PeerId, request: UpdateSessionRequest) => Promise<UpdateSessionResponse>;
  readonly closeAt: (supernode: PeerId, request: CloseSessionRequest) => Promise<void>;
  /** A session takes another path. */
  readonly moved?: (session: SessionId, path: Path, why: string) => void;
}

/** How many exits are tried before the client hears "no". */
const ATTEMPTS = 4;
/** A client has its session, a standby, one that retires and one being rotated to. */
const SESSIONS_PER_CLIENT = 4;
/** A tunnel that never came up is not kept. */
const HANDSHAKE_LIMIT: Millis = seconds(30);
/** A client whose stream broke may have a running tunnel and could not say so: time enough to come back and show it. */
const AWAY_LIMIT: Millis = minutes(5);
const SWEEP: Millis = seconds(15);
/** How long a rollback may hold up the next candidate; a supernode that stays silent is told in the background. */
const ROLLBACK_PATIENCE: Millis = seconds(1);

/** Sessions of this supernode's clients: asked for, renewed, moved along with the client's address, closed. */
export class FrontSessions {
  readonly #book: FrontBook;
  readonly #relay: FrontRelay;
  readonly #opening: FrontOpening;
  readonly #paths: PathKeeper;
  readonly #queue = new KeyedQueue<SessionId>();
  readonly #startedAt: Instant;
  #cancelSweep: () => void = () => {};

  constructor(private readonly deps: FrontDeps) {
    this.#startedAt = deps.clock.now();
    this.#book = new FrontBook(deps);
    this.#relay = new FrontRelay(deps, this.#book);
    this.#opening = new FrontOpening(deps, this.#book, this.#relay);
    this.#paths = new PathKeeper(
      { ...deps, inTurn: (session, task) => this.#queue.run(session, task) },
      this.#book,
      new FrontMoves(deps, this.#book, this.#relay, ({ session, client }) => {
        void this.#close(session, client, 'the client no longer holds it');
      }),
    );
  }

  /** Take up what the store has, before anything is served. */
  load(plan: AddressPlan | undefined): void {
    this.#book.load(plan);
  }

  start(): void {
    this.#cancelSweep = this.deps.clock.after(SWEEP, () => {
      this.#sweep();
      this.start();
    });
  }

  async stop(): Promise<void> {
    this.#cancelSweep();
    this.#paths.stop();
    await this.#queue.idle();
  }

  usePlan(plan: AddressPlan): void {
    this.#book.usePlan(plan);
  }

  all(): readonly FrontSession[] {
    return this.#book.all();
  }

  get(session: SessionId): FrontSession | undefined {
    return this.#book.get(session);
  }

  /**
   * The best exit that can be set up. Every failure undoes its steps before the next one is tried.
   * Rejects with no-exit, exit-refused, no-addresses, no-ports, full.
   */
  async request(peer: ConnectedPeer, request: ExitRequest): Promise<SessionGrant> {
    try {
      return await this.#request(peer, request);
    } catch (thrown) {
      // A path on this machine says nothing to the client but that it is not its own.
      const told = toldAbroad(toVpndError(thrown));
      if (told === thrown || told.code === 'internal') throw thrown;
      throw new VpndError(told.code, `supernode ${shortId(this.deps.self)}: ${told.message}`, told);
    }
  }

  async #request(peer: ConnectedPeer, request: ExitRequest): Promise<SessionGrant> {
    if (this.#book.of(peer.id).length >= SESSIONS_PER_CLIENT) {
      throw new VpndError('full', `a client has at most ${SESSIONS_PER_CLIENT} sessions at a time`);
    }
    if (this.#book.size >= this.deps.config.sessionCapacity) {
      throw new VpndError('full', 'this supernode carries as many sessions as it may', { retryable: true });
    }
    const ranking = await this.deps.rank(peer, request);
    let last: VpndError | undefined;
    for (const candidate of ranking.ranked.slice(0, ATTEMPTS)) {
      try {
        const session = newSessionId(this.deps.random);
        const opening = () => this.#opening.open(session, peer, request, candidate);
        const grant = await this.#queue.run(session, opening).catch(async (thrown: unknown) => {
          const undone = this.#close(session, peer.id, 'could not be set up', { silent: true });
          await atMost(this.deps.clock, ROLLBACK_PATIENCE, undone);
          throw thrown;
        });
        this.deps.metrics.sessionOpens.inc({ result: 'ok' });
        return grant;
      } catch (thrown) {
        last = toVpndError(thrown);
        this.deps.metrics.sessionOpens.inc({ result: last.code });
        this.deps.log.info('an exit could not be used; trying the next', { code: last.code, reason: last.message });
      }
    }
    throw last ?? nothingFits(request, ranking, this.deps.regions());
  }

  /** Idempotent; a session of another client is refused with `forbidden`. */
  async closeFor(client: PeerId, session: SessionId, reason: string): Promise<void> {
    const one = this.#book.get(session);
    if (one !== undefined && one.client !== client)
      throw new VpndError('forbidden', 'this session is another client’s');
    await this.#close(session, client, reason);
  }

  /**
   * Another pre-shared key for a client's session: a renewal with its fresh ML-KEM key. Idempotent for the same key.
   * Rejects with no-session, and with what the exit and its supernode reject with.
   */
  rekey(client: PeerId, session: SessionId, kemKey: Bytes): Promise<Signed> {
    return this.#queue.run(session, async () => {
      const one = this.#book.get(session);
      const peer = one && this.deps.streams().peer(one.client);
      if (one?.client !== client || peer === undefined) {
        throw new VpndError('no-session', `session ${session} is not known here`);
      }
      return this.#extend(one, peer, kemKey);
    });
  }

  /** Ends those sessions at once, each without waiting for the others; for good, so that a restart ends what is left. */
  endAll(which: (one: FrontSession) => boolean, reason: string): void {
    for (const one of this.#book.all()) {
      if (which(one)) void this.#close(one.session, one.client, reason, { silent: false });
    }
  }

  established(client: PeerId, session: SessionId, took: Millis): void {
    const one = this.#book.get(session);
    if (one === undefined || one.client !== client || one.established) return;
    // In memory at least: a disk that is full must not make a running session look like one that never came up.
    this.#book.note({ ...one, established: true });
    this.deps.metrics.firstPacketMs.observe(took);
    this.deps.log.info('a session is up', { session_id: session, path: one.path, took_ms: took });
    this.#paths.established(session);
  }

  /** The path a client wants its session to take: `direct`, or the relays. Another client's session stays as it is. */
  pathWanted(client: PeerId, session: SessionId, path: Path, reason: string): void {
    const one = this.#book.get(session);
    if (one?.client === client) this.#paths.wanted(one, path, reason);
  }

  /** A client is back: end what it no longer holds, tell it what we no longer hold, follow its address. */
  clientConnected(peer: ConnectedPeer): void {
    const held = new Set(peer.sessions.map((one) => one.session));
    for (const { session } of peer.sessions) {
      if (this.#book.get(session)?.client !== peer.id) this.#tellGone(peer.id, session, 'not known here');
    }
    for (const one of this.#book.of(peer.id)) {
      if (!held.has(one.session)) {
        void this.#close(one.session, peer.id, 'the client no longer holds it');
      } else {
        // The news of its handshake may have got lost; one that never comes the client itself reports.
        this.#book.put({ ...one, established: true });
        void this.#renew(one.session);
        this.#paths.connected(one, peer);
      }
    }
  }

  /** Follow a client whose packets now come from elsewhere. */
  clientMoved(peer: ConnectedPeer): void {
    for (const one of this.#book.of(peer.id)) {
      void this.#renew(one.session);
      this.#paths.clientMoved(one, peer);
    }
  }

  /** An exit of this supernode is back, or its packets come from elsewhere. */
  exitMoved(exit: PeerId): void {
    this.#paths.exitMoved(exit);
  }

  /** The relay's lease ran out in the ledger. */
  expired(session: SessionId): void {
    const one = this.#book.get(session);
    if (one !== undefined) void this.#close(session, one.client, 'its lease ran out');
  }

  /** Extend the lease along the whole path, and vouch for the address the client has now. */
  #renew(session: SessionId): Promise<void> {
    return this.#queue.run(session, async () => {
      const { deps } = this;
      const one = this.#book.get(session);
      const peer = one && deps.streams().peer(one.client);
      if (one === undefined || peer === undefined) return;
      try {
        await this.#extend(one, peer, new Uint8Array(0));
      } catch (thrown) {
        const error = toVpndError(thrown);
        deps.log.warn('a session could not be renewed', {
          session_id: session,
          code: error.code,
          reason: error.message,
        });
      }
    });
  }

  /** The exit's offer, which has a ciphertext where it was given a key for it. In the session's turn. */
  async #extend(one: FrontSession, peer: ConnectedPeer, kemKey: Bytes): Promise<Signed> {
    const { deps } = this;
    const { session } = one;
    const lease = deps.config.lease;
    const leaseUntil = plus(deps.clock.now(), lease);
    const next = { ...one, generation: one.generation + 1 };
    await this.#relay.order(next, peer, lease);
    this.#book.save(next);
    const { extended, offer } = await this.#relay.rekey(next, peer, kemKey, lease);
    // The handshake may have been reported meanwhile.
    const established = this.#book.get(session)?.established ?? extended.established;
    this.#book.save({ ...extended, leaseUntil, established });
    const news = { kind: 'session-renewed', session, generation: next.generation, lease } as const;
    deps.streams().send(one.client, { kind: 'event', news });
    if (extended !== next && one.way.kind === 'direct') {
      this.#paths.leave(session, 'the exit’s supernode had lost the session');
    }
    return offer;
  }

  #close(session: SessionId, client: PeerId, reason: string, options: { silent?: boolean } = {}): Promise<void> {
    return this.#queue.run(session, async () => {
      const { deps } = this;
      const one = this.#book.get(session);
      let everywhere = true;
      if (one !== undefined) {
        const generation = one.generation + 1;
        const disconnect: Desired = { kind: 'disconnect', reason };
        const own = one.port === undefined ? Promise.resolve() : deps.order(session, seconds(0), disconnect);
        const there = deps.closeAt(one.supernode, { session, generation, reason });
        const [here, far] = await Promise.allSettled([own, there]);
        if (far.status === 'rejected') {
          deps.log.warn('the exit’s supernode could not be told; its lease ends the session there', {
            session_id: session,
            code: toVpndError(far.reason).code,
          });
        }
        everywhere = here.status === 'fulfilled' && far.status === 'fulfilled';
        if (here.status === 'fulfilled') {
          this.#book.drop(one);
          this.#paths.closed(session);
        } else {
          // Its port and address are nobody else's while the kernel may still have it; the next sweep tries again.
          this.#book.put({ ...one, leaseUntil: deps.clock.now() });
          deps.log.error('a relay could not be removed', { session_id: session, code: toVpndError(here.reason).code });
        }
      }
      const told = one === undefined ? 'not known here' : everywhere ? 'released' : 'released-here';
      if (options.silent !== true) this.#tellGone(client, session, told);
    });
  }

  /** DISCONNECT is the client's news that nothing is left, and the end of a session it still holds. */
  #tellGone(client: PeerId, session: SessionId, reason: string): void {
    const command = newCommand(this.deps.random, session, Number.MAX_SAFE_INTEGER, seconds(0), {
      kind: 'disconnect',
      reason,
    });
    this.deps
      .streams()
      .command(client, command)
      .catch(() => {});
  }

  #sweep(): void {
    const now = this.deps.clock.now();
    for (const one of this.#book.all()) {
      // A supernode that does not answer must not make a queue: what waits behind it may be the client's own wish.
      if (this.#queue.busy(one.session)) continue;
      if (one.leaseUntil <= now) void this.#close(one.session, one.client, 'its lease ran out');
      else if (!one.established && this.#isUnclaimed(one, now)) {
        void this.#close(one.session, one.client, 'no handshake came');
      } else if (one.leaseUntil - now < (this.deps.config.lease * 2) / 3) void this.#renew(one.session);
    }
  }

  /** Whether its client had the time to say that a handshake came through. */
  #isUnclaimed(one: FrontSession, now: Instant): boolean {
    const peer = this.deps.streams().peer(one.client);
    const from = Math.max(one.openedAt, peer?.since ?? this.#startedAt) as Instant;
    return since(now, from) > (peer === undefined ? AWAY_LIMIT : HANDSHAKE_LIMIT);
  }
}
