import type { SupernodeConfig } from '../../config/types.js';
import { InnerAddressPool } from '../../core/addresses.js';
import { newCommand, newSessionId } from '../../core/commands.js';
import { atMost } from '../../core/patience.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Metrics } from '../../core/ports/metrics.js';
import type { Random } from '../../core/ports/random.js';
import type { FactStore } from '../../core/ports/store.js';
import { explainRejections, type RankedExit, type Ranking } from '../../core/ranking.js';
import { KeyedQueue } from '../../core/serial.js';
import { type Endpoint, familyOf, type IpAddress, type Port, sameEndpoint } from '../../model/address.js';
import type { CommandDone, Desired } from '../../model/command.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { WireGuardPublicKey } from '../../model/keys.js';
import type {
  AddressPlan,
  CloseSessionRequest,
  OpenSessionRequest,
  OpenSessionResponse,
} from '../../model/messages.js';
import type { InnerAddresses } from '../../model/offer.js';
import type { Path, Region } from '../../model/role.js';
import type { ExitRequest, SessionGrant } from '../../model/session.js';
import { type Instant, type Millis, minutes, plus, seconds, since } from '../../model/time.js';
import type { ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';
import { toldAbroad } from '../../transport/streams/refusal.js';
import type { RelayPorts } from './back.js';

/** A session of one of this supernode's clients. */
export interface FrontSession {
  readonly session: SessionId;
  readonly client: PeerId;
  readonly clientKey: WireGuardPublicKey;
  readonly exit: PeerId;
  /** The exit's supernode. */
  readonly supernode: PeerId;
  readonly path: Path;
  readonly inner: InnerAddresses;
  readonly port: Port | undefined;
  /** Our relay address in use; with `port` it is the client's endpoint. */
  readonly localIp: IpAddress | undefined;
  readonly next: Extract<Desired, { kind: 'relay-setup' }>['next'] | undefined;
  readonly generation: number;
  readonly leaseUntil: Instant;
  readonly openedAt: Instant;
  /** The client reported a handshake. */
  readonly established: boolean;
}

export interface FrontDeps {
  readonly self: PeerId;
  readonly config: SupernodeConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly facts: FactStore;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly ports: RelayPorts;
  /** An order to this supernode's own data plane. */
  readonly order: (session: SessionId, lease: Millis, desired: Desired) => Promise<CommandDone>;
  readonly streams: () => StreamManager;
  readonly vouched: (peer: ConnectedPeer) => readonly IpAddress[];
  /** Exits that fit, ours and other supernodes', ranked for this client. */
  readonly rank: (peer: ConnectedPeer, request: ExitRequest) => Promise<Ranking>;
  readonly regions: () => readonly Region[];
  readonly openAt: (supernode: PeerId, request: OpenSessionRequest) => Promise<OpenSessionResponse>;
  readonly closeAt: (supernode: PeerId, request: CloseSessionRequest) => Promise<void>;
}

const FACT = 'front/';
/** How many exits are tried before the client hears "no". */
const ATTEMPTS = 4;
/** A client has its session, a standby and one being rotated to. */
const SESSIONS_PER_CLIENT = 4;
/** A tunnel that never came up is not kept. */
const HANDSHAKE_LIMIT: Millis = seconds(30);
/** A client whose stream broke may have a running tunnel and could not say so: time enough to come back and show it. */
const AWAY_LIMIT: Millis = minutes(5);
const SWEEP: Millis = seconds(15);
/** How long a rollback may hold up the next candidate; a supernode that stays silent is told in the background. */
const ROLLBACK_PATIENCE: Millis = seconds(1);
/** Inner addresses rest this long, so that nobody gets the late packets of somebody else's connections. */
const ADDRESS_REST: Millis = minutes(5);
const KEEPALIVE_S = 25;

/** Sessions of this supernode's clients: asked for, renewed, moved along with the client's address, closed. */
export class FrontSessions {
  readonly #sessions = new Map<SessionId, FrontSession>();
  readonly #ofClient = new Map<PeerId, Set<SessionId>>();
  readonly #addresses = new InnerAddressPool(ADDRESS_REST);
  readonly #queue = new KeyedQueue<SessionId>();
  #cancelSweep: () => void = () => {};

  readonly #startedAt: Instant;

  constructor(private readonly deps: FrontDeps) {
    this.#startedAt = deps.clock.now();
  }

  /** Take up what the store has, before anything is served. */
  load(plan: AddressPlan | undefined): void {
    if (plan !== undefined) this.#addresses.usePlan(plan);
    for (const name of this.deps.facts.names(FACT)) {
      const one = this.deps.facts.get<FrontSession>(name);
      if (one === undefined) continue;
      if (one.port !== undefined) this.deps.ports.claim(one.port);
      this.#addresses.claim(one.inner.ipv4);
      this.#put(one);
    }
  }

  start(): void {
    this.#cancelSweep = this.deps.clock.after(SWEEP, () => {
      this.#sweep();
      this.start();
    });
  }

  async stop(): Promise<void> {
    this.#cancelSweep();
    await this.#queue.idle();
  }

  usePlan(plan: AddressPlan): void {
    this.#addresses.usePlan(plan);
  }

  all(): readonly FrontSession[] {
    return [...this.#sessions.values()];
  }

  get(session: SessionId): FrontSession | undefined {
    return this.#sessions.get(session);
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
    if ((this.#ofClient.get(peer.id)?.size ?? 0) >= SESSIONS_PER_CLIENT) {
      throw new VpndError('full', `a client has at most ${SESSIONS_PER_CLIENT} sessions at a time`);
    }
    if (this.#sessions.size >= this.deps.config.sessionCapacity) {
      throw new VpndError('full', 'this supernode carries as many sessions as it may', { retryable: true });
    }
    const ranking = await this.deps.rank(peer, request);
    let last: VpndError | undefined;
    for (const candidate of ranking.ranked.slice(0, ATTEMPTS)) {
      try {
        const session = newSessionId(this.deps.random);
        const opening = () => this.#open(session, peer, request, candidate);
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
    throw last ?? this.#nothingFits(request, ranking);
  }

  /** Idempotent; a session of another client is refused with `forbidden`. */
  async closeFor(client: PeerId, session: SessionId, reason: string): Promise<void> {
    const one = this.#sessions.get(session);
    if (one !== undefined && one.client !== client)
      throw new VpndError('forbidden', 'this session is another client’s');
    await this.#close(session, client, reason);
  }

  established(client: PeerId, session: SessionId, took: Millis): void {
    const one = this.#sessions.get(session);
    if (one === undefined || one.client !== client || one.established) return;
    // In memory at least: a disk that is full must not make a running session look like one that never came up.
    this.#put({ ...one, established: true });
    this.deps.metrics.firstPacketMs.observe(took);
    this.deps.log.info('a session is up', { session_id: session, path: one.path, took_ms: took });
    this.#save({ ...one, established: true });
  }

  /** A client is back: end what it no longer holds, tell it what we no longer hold, follow its address. */
  clientConnected(peer: ConnectedPeer): void {
    const held = new Set(peer.sessions.map((one) => one.session));
    for (const { session } of peer.sessions) {
      if (this.#sessions.get(session)?.client !== peer.id) this.#tellGone(peer.id, session, 'not known here');
    }
    for (const session of this.#ofClient.get(peer.id) ?? []) {
      const one = this.#sessions.get(session);
      if (one === undefined || !held.has(session)) {
        void this.#close(session, peer.id, 'the client no longer holds it');
      } else {
        // The news of its handshake may have got lost; one that never comes the client itself reports.
        this.#put({ ...one, established: true });
        void this.#renew(session);
      }
    }
  }

  /** Follow a client whose packets now come from elsewhere. */
  clientMoved(peer: ConnectedPeer): void {
    for (const session of this.#ofClient.get(peer.id) ?? []) void this.#renew(session);
  }

  /** The relay's lease ran out in the ledger. */
  expired(session: SessionId): void {
    const one = this.#sessions.get(session);
    if (one !== undefined) void this.#close(session, one.client, 'its lease ran out');
  }

  /** What a failure leaves behind, `#close` takes away. */
  async #open(
    session: SessionId,
    peer: ConnectedPeer,
    request: ExitRequest,
    candidate: RankedExit,
  ): Promise<SessionGrant> {
    const { deps } = this;
    const now = deps.clock.now();
    const { exit, path } = candidate;
    const inner = this.#addresses.take(now);
    if (inner === undefined)
      throw new VpndError('no-addresses', 'this supernode has no inner address left', { retryable: true });
    const port = path === 'direct' ? undefined : deps.ports.take(now);
    const give = () => {
      this.#addresses.give(inner.ipv4, deps.clock.now());
      if (port !== undefined) deps.ports.give(port, deps.clock.now());
    };
    if (path !== 'direct' && port === undefined) {
      give();
      throw new VpndError('no-ports', 'every relay port of this supernode is taken', { retryable: true });
    }
    const family = exit.egress && exit.publicEndpoint !== undefined ? familyOf(exit.publicEndpoint.ip) : exit.family;
    const localIp = port === undefined ? undefined : deps.config.relayIps.find((ip) => familyOf(ip) === family);
    const hop: Endpoint | undefined = port === undefined || localIp === undefined ? undefined : { ip: localIp, port };
    const lease = deps.config.lease;
    const one: Omit<FrontSession, 'next'> = {
      session,
      client: peer.id,
      clientKey: request.sessionKey,
      exit: exit.id,
      supernode: exit.supernode,
      path,
      inner,
      port,
      localIp,
      generation: 1,
      leaseUntil: plus(now, lease),
      openedAt: now,
      established: false,
    };
    // On record before anything is built: a crash half-way leaves something to close, not something forgotten.
    try {
      this.#save({ ...one, next: undefined });
    } catch (thrown) {
      give();
      throw thrown;
    }
    const opened = await deps.openAt(exit.supernode, this.#openRequest(one, request.kemKey, lease));
    const next = hop === undefined ? undefined : this.#nextOf(candidate, opened.endpoint);
    if (next !== undefined) await this.#relay({ ...one, next }, peer, lease);
    this.#save({ ...one, next });
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

  #nextOf({ exit }: RankedExit, endpoint: Endpoint): FrontSession['next'] {
    const paired = exit.supernode === this.deps.self && !exit.egress;
    return paired ? { kind: 'pair', port: endpoint.port } : { kind: 'hop', endpoint };
  }

  #openRequest(one: Omit<FrontSession, 'next'>, kemKey: Uint8Array, lease: Millis): OpenSessionRequest {
    return {
      session: one.session,
      generation: one.generation,
      exit: one.exit,
      clientKey: one.clientKey,
      kemKey,
      innerIpv4: one.inner.ipv4,
      innerIpv6: one.inner.ipv6,
      lease,
      path: one.path,
      previousHop:
        one.port === undefined || one.localIp === undefined ? undefined : { ip: one.localIp, port: one.port },
    };
  }

  async #relay(one: FrontSession, peer: ConnectedPeer, lease: Millis): Promise<void> {
    const { port, localIp, next } = one;
    if (port === undefined || localIp === undefined || next === undefined) return;
    const vouched = this.deps.vouched(peer).filter((ip) => familyOf(ip) === familyOf(localIp));
    if (vouched.length === 0) throw new VpndError('no-path', `the client is not reached over IPv${familyOf(localIp)}`);
    const desired: Desired = { kind: 'relay-setup', port, localIp, vouched, next };
    await this.deps.order(one.session, lease, desired);
  }

  /** Extend the lease along the whole path, and vouch for the address the client has now. */
  #renew(session: SessionId): Promise<void> {
    return this.#queue.run(session, async () => {
      const { deps } = this;
      const one = this.#sessions.get(session);
      const peer = one && deps.streams().peer(one.client);
      if (one === undefined || peer === undefined) return;
      const lease = deps.config.lease;
      const renewed = {
        ...one,
        generation: one.generation + 1,
        leaseUntil: plus(deps.clock.now(), lease),
      };
      try {
        await this.#relay(renewed, peer, lease);
        this.#save({ ...renewed, leaseUntil: one.leaseUntil });
        const opened = await deps.openAt(one.supernode, this.#openRequest(renewed, new Uint8Array(0), lease));
        // A supernode that had lost the session takes it in on another port.
        if (one.next?.kind === 'hop' && !sameEndpoint(one.next.endpoint, opened.endpoint)) {
          renewed.next = { kind: 'hop', endpoint: opened.endpoint };
          await this.#relay(renewed, peer, lease);
        }
        // The handshake may have been reported meanwhile.
        this.#save({ ...renewed, established: this.#sessions.get(session)?.established ?? renewed.established });
        const news = { kind: 'session-renewed', session, generation: renewed.generation, lease } as const;
        deps.streams().send(one.client, { kind: 'event', news });
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

  #close(session: SessionId, client: PeerId, reason: string, options: { silent?: boolean } = {}): Promise<void> {
    return this.#queue.run(session, async () => {
      const { deps } = this;
      const one = this.#sessions.get(session);
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
        if (here.status === 'fulfilled') this.#drop(one);
        else {
          // Its port and address are nobody else's while the kernel may still have it; the next sweep tries again.
          this.#put({ ...one, leaseUntil: deps.clock.now() });
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
    for (const one of this.#sessions.values()) {
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

  #nothingFits(request: ExitRequest, ranking: Ranking): VpndError {
    const wanted = request.exit === undefined ? '' : ` ${shortId(request.exit)}`;
    const regions = this.deps.regions();
    if (request.region !== undefined && !regions.includes(request.region)) {
      return new VpndError(
        'no-exit',
        `there is no region '${request.region}'; regions with supernodes: ${regions.join(', ') || 'none'}`,
      );
    }
    // Exits of other regions, which were asked about in case they are of this one, explain nothing.
    const rejected = ranking.rejected.filter(({ exit }) =>
      request.exit === undefined
        ? request.region === undefined || exit.region === request.region
        : exit.id === request.exit,
    );
    if (rejected.length > 0) return new VpndError('no-exit', explainRejections(rejected), { retryable: true });
    const where = request.region === undefined ? '' : ` in region '${request.region}'`;
    const hint = request.exit === undefined ? 'see vpnd exits' : 'it may be switched off; see vpnd exits';
    return new VpndError('no-exit', `no exit${wanted} is connected${where}; ${hint}`, { retryable: true });
  }

  #save(one: FrontSession): void {
    this.deps.facts.put(FACT + one.session, one);
    this.#put(one);
  }

  #put(one: FrontSession): void {
    this.#sessions.set(one.session, one);
    const mine = this.#ofClient.get(one.client) ?? new Set<SessionId>();
    this.#ofClient.set(one.client, mine.add(one.session));
  }

  #drop(one: FrontSession): void {
    if (!this.#sessions.delete(one.session)) return;
    const mine = this.#ofClient.get(one.client);
    mine?.delete(one.session);
    if (mine?.size === 0) this.#ofClient.delete(one.client);
    this.#addresses.give(one.inner.ipv4, this.deps.clock.now());
    if (one.port !== undefined) this.deps.ports.give(one.port, this.deps.clock.now());
    try {
      this.deps.facts.remove(FACT + one.session);
    } catch (thrown) {
      // After a restart it is ended again.
      this.deps.log.warn('an ended session stays on record', { session_id: one.session, err: thrown });
    }
  }
}
