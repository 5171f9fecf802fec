import { AUTHENTICATION_LIMIT, PING_INTERVAL, SILENCE_LIMIT } from '../core/link.js';
import type { Statements } from '../core/ports/authority.js';
import type { Clock } from '../core/ports/clock.js';
import type { Crypto } from '../core/ports/crypto.js';
import type { Log } from '../core/ports/log.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { AcceptedStream, SendResult, StreamEnd } from '../core/ports/network.js';
import type { Random } from '../core/ports/random.js';
import { limitKey } from '../core/rate-limit.js';
import type { Command, CommandDone } from '../model/command.js';
import { VpndError } from '../model/errors.js';
import { type PeerId, shortId } from '../model/ids.js';
import type { AuthRequest, ControlMessage, News } from '../model/messages.js';
import type { MemberRole } from '../model/role.js';
import { type Instant, type Millis, ms } from '../model/time.js';
import { errorOfRefusal } from './codec/refusal.js';
import { FairPlaces } from './fair-places.js';
import { authenticate } from './streams/admission.js';
import { CommandDesk } from './streams/command-desk.js';
import { Gate } from './streams/gate.js';
import { type LiveContext, LiveStream } from './streams/live-stream.js';
import { PeerIndex } from './streams/peer-index.js';
import { isUnexpected, refusalOfThrown } from './streams/refusal.js';
import { TimerWheel } from './streams/timer-wheel.js';
import type { ConnectedPeer, StreamHandlers, StreamManagerOptions } from './streams/types.js';

export type { ConnectedPeer, StreamHandlers, StreamManagerOptions } from './streams/types.js';

/** All deadlines of all streams share one timer of this granularity. */
const GRANULE: Millis = ms(250);
const MAX_UNAUTHENTICATED = 1_024;

export interface StreamManagerDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly statements: Statements;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** One stream. waiting -> admitting -> up; any of them -> ended. */
interface Connection {
  readonly accepted: AcceptedStream;
  /** Order of arrival: of two streams of one peer the later one stays. */
  readonly serial: number;
  readonly acceptedAt: Instant;
  readonly cancelDeadline: () => void;
  state:
    | { readonly kind: 'waiting' }
    | { readonly kind: 'admitting' }
    | { readonly kind: 'up'; readonly live: LiveStream }
    | { readonly kind: 'ended' };
}

/**
 * The streams of one supervisor: base's from supernodes, a supernode's from exits and clients. Authenticates them, watches
 * over them, carries commands down and requests up. Knows no gRPC.
 */
export class StreamManager {
  readonly #options: StreamManagerOptions;
  readonly #deps: StreamManagerDeps;
  readonly #handlers: StreamHandlers;
  readonly #gate: Gate;
  readonly #wheel: TimerWheel;
  readonly #desk: CommandDesk;
  readonly #live: LiveContext;
  readonly #connections = new Set<Connection>();
  readonly #index = new PeerIndex<Connection>();
  /** Streams whose signatures have not been checked yet. */
  readonly #strangers: FairPlaces<Connection>;
  #serial = 0;
  #closing: VpndError | undefined;

  constructor(options: StreamManagerOptions, deps: StreamManagerDeps, handlers: StreamHandlers) {
    const { clock, log } = deps;
    this.#options = options;
    this.#deps = deps;
    this.#handlers = handlers;
    this.#gate = new Gate(options.limits ?? {}, clock);
    const places = options.maxUnauthenticated ?? MAX_UNAUTHENTICATED;
    this.#strangers = new FairPlaces({ all: places, perSender: places });
    this.#wheel = new TimerWheel(clock, GRANULE, (err) => log.error('a stream deadline failed', { err }));
    this.#desk = new CommandDesk({ ...deps, wheel: this.#wheel, send: (peer, message) => this.send(peer, message) });
    this.#live = {
      ...deps,
      wheel: this.#wheel,
      desk: this.#desk,
      handlers,
      pingInterval: options.pingInterval ?? PING_INTERVAL,
      silenceLimit: options.silenceLimit ?? SILENCE_LIMIT,
    };
  }

  /** Takes a stream over. Its challenge counts as issued now. */
  accept(accepted: AcceptedStream): void {
    const refusal = this.#closing ?? this.#refuseStranger(accepted);
    if (refusal !== undefined) {
      this.#refused(accepted, refusal);
      return;
    }
    const connection: Connection = {
      accepted,
      serial: ++this.#serial,
      acceptedAt: this.#deps.clock.now(),
      cancelDeadline: this.#wheel.after(AUTHENTICATION_LIMIT, () => this.#deny(connection, tooSlow())),
      state: { kind: 'waiting' },
    };
    this.#connections.add(connection);
    const crowdedOut = this.#strangers.enter(senderOf(connection), connection);
    if (crowdedOut !== undefined) this.#deny(crowdedOut, tooMany());
    accepted.stream.listen({
      message: (message, bytes) => this.#message(connection, message, bytes),
      ended: (end) => this.#ended(connection, end),
    });
  }

  peer(id: PeerId): ConnectedPeer | undefined {
    return this.#liveOf(id)?.peer;
  }

  /** In the order in which they came. A copy, so that it may be kept while streams come and go. */
  byRole(role: MemberRole): readonly ConnectedPeer[] {
    return this.#index.ofRole(role).flatMap(({ state }) => (state.kind === 'up' ? [state.live.peer] : []));
  }

  count(role?: MemberRole): number {
    return this.#index.count(role);
  }

  send(id: PeerId, message: ControlMessage): SendResult {
    return this.#liveOf(id)?.send(message) ?? 'closed';
  }

  /** As `ControlStream.offer`: false where it was dropped. */
  offer(id: PeerId, message: ControlMessage): boolean {
    return this.#liveOf(id)?.offer(message) ?? false;
  }

  /**
   * Sends an order and waits for the answer: 5 s, then three more times with the same id. Rejects with the error that the
   * peer answered, `command-failed` when it answered nothing, or `exit-gone` when it is not connected or goes away.
   */
  command(id: PeerId, command: Command): Promise<CommandDone> {
    return this.#liveOf(id) === undefined ? Promise.reject(gone(id)) : this.#desk.issue(id, command);
  }

  broadcast(role: MemberRole, news: News): void {
    // One message for all: it is encoded once.
    const message = { kind: 'event', news } as const;
    for (const { id } of this.byRole(role)) this.send(id, message);
  }

  /** Ends a peer's stream; `error` is what the peer is told. */
  disconnect(id: PeerId, error: VpndError): void {
    const connection = this.#index.get(id);
    if (connection !== undefined) this.#end(connection, error);
  }

  /** Ends all streams and refuses new ones. */
  async close(reason?: VpndError): Promise<void> {
    const error = reason ?? new VpndError('closed', 'the supervisor is stopping', { retryable: true });
    this.#closing = error;
    for (const connection of [...this.#connections]) this.#end(connection, error);
  }

  #liveOf(id: PeerId): LiveStream | undefined {
    const state = this.#index.get(id)?.state;
    return state?.kind === 'up' ? state.live : undefined;
  }

  /** What can be decided about a stream before its first byte. */
  #refuseStranger(accepted: AcceptedStream): VpndError | undefined {
    if (!this.#gate.allowAddress(accepted.stream.remote.ip)) {
      return new VpndError('rate-limited', 'too many streams from this address; try again in a minute', {
        retryable: true,
      });
    }
    return undefined;
  }

  #message(connection: Connection, message: ControlMessage, bytes: number): void {
    const { state } = connection;
    switch (state.kind) {
      case 'waiting':
        if (message.kind === 'auth-request') this.#authRequest(connection, message);
        else this.#deny(connection, new VpndError('bad-message', 'the first message of a stream is AuthRequest'));
        break;
      case 'admitting':
        this.#deny(connection, new VpndError('bad-message', 'AuthResponse comes before anything else'));
        break;
      case 'up':
        state.live.receive(message, bytes);
        break;
      case 'ended':
        break;
    }
  }

  #authRequest(connection: Connection, request: AuthRequest): void {
    connection.state = { kind: 'admitting' };
    this.#admit(connection, request).catch((thrown: unknown) => {
      if (isUnexpected(thrown)) this.#deps.log.error('admitting a peer failed', { err: thrown });
      this.#deny(connection, errorOfRefusal(refusalOfThrown(thrown)));
    });
  }

  /** Throws the refusal. */
  async #admit(connection: Connection, request: AuthRequest): Promise<void> {
    const { accepted, acceptedAt } = connection;
    const barred = (id: PeerId) => this.#handlers.barred?.(id);
    const deps = { ...this.#deps, barred };
    const authenticated = authenticate(request, accepted, acceptedAt, this.#options, this.#gate, deps);
    if (!authenticated.ok) throw authenticated.error;
    this.#strangers.leave(senderOf(connection), connection);
    const peer = authenticated.value;
    const authorized = this.#handlers.authorize?.(peer);
    if (authorized?.ok === false) throw authorized.error;
    this.#mustHaveRoom(peer.id);
    const welcome = await this.#handlers.welcome(peer);

    // Anything may have happened meanwhile: the stream broke, a newer one came, the last place was taken.
    if (connection.state.kind !== 'admitting') return;
    const refusal = barred(peer.id);
    if (refusal !== undefined) throw refusal;
    const older = this.#index.get(peer.id);
    if (older !== undefined && older.serial > connection.serial) throw replaced();
    this.#mustHaveRoom(peer.id);
    const { pingInterval, silenceLimit } = this.#live;
    const sent = accepted.stream.send({
      kind: 'auth-response',
      serverTime: this.#deps.clock.now(),
      pingInterval,
      silenceLimit,
      observed: accepted.stream.remote,
      supernodes: welcome.supernodes,
      addressPlan: welcome.addressPlan,
      probeToken: peer.probeToken,
      revocations: this.#handlers.revocations?.(),
    });
    if (sent === 'sent') this.#up(connection, peer, older);
    else this.#end(connection, new VpndError('closed', 'the stream broke', { retryable: true }));
  }

  #mustHaveRoom(id: PeerId): void {
    if (this.#index.get(id) === undefined && this.#index.count() >= this.#options.capacity) {
      throw new VpndError('full', `all ${this.#options.capacity} places are taken`, { retryable: true });
    }
  }

  #up(connection: Connection, peer: ConnectedPeer, older: Connection | undefined): void {
    connection.cancelDeadline();
    connection.accepted.admitted?.();
    const { stream } = connection.accepted;
    const live = new LiveStream(peer, stream, this.#live, (error) => this.#end(connection, error));
    connection.state = { kind: 'up', live };
    this.#index.put(peer.id, peer.role, connection);
    if (older !== undefined) this.#retire(older);
    this.#gauge();
    this.#deps.log.info(older === undefined ? 'peer connected' : 'peer connected again', {
      peer_id: peer.id,
      role: peer.role,
      region: peer.region,
    });
    this.#deps.log.debug('peer address', { peer_id: peer.id, remote: stream.remote.ip });
    this.#desk.resend(peer.id);
    this.#guard('connected', () => this.#handlers.connected(peer));
  }

  /** Takes the place of a peer's older stream, which its owner need not hear about. */
  #retire(older: Connection): void {
    if (older.state.kind === 'up') older.state.live.close();
    older.state = { kind: 'ended' };
    this.#connections.delete(older);
    older.accepted.stream.end(replaced());
  }

  /** Refuses a stream that has not authenticated. */
  #deny(connection: Connection, error: VpndError): void {
    const { kind } = connection.state;
    if (kind !== 'waiting' && kind !== 'admitting') return;
    this.#forget(connection);
    this.#refused(connection.accepted, error);
  }

  #refused({ stream }: AcceptedStream, error: VpndError): void {
    const { code } = error;
    this.#deps.metrics.streamAuthFailures.inc({ code });
    // A flood must not fill the log as well, nor who tries for as long as it is shut out.
    if (code !== 'rate-limited' && code !== 'revoked')
      this.#deps.log.info(`stream refused: ${error.message}`, { code });
    this.#deps.log.debug('refused address', { code, remote: stream.remote.ip });
    stream.end(error);
  }

  /** Ends a stream from this side. */
  #end(connection: Connection, error: VpndError): void {
    this.#ended(connection, { by: 'local', error });
    connection.accepted.stream.end(error);
  }

  #ended(connection: Connection, end: StreamEnd): void {
    const { state } = connection;
    if (state.kind === 'ended') return;
    this.#forget(connection);
    if (state.kind !== 'up') return;
    const { peer } = state.live;
    state.live.close();
    this.#index.remove(peer.id);
    this.#gauge();
    this.#deps.log.info(`peer disconnected: ${end.error?.message ?? 'the connection ended'}`, {
      peer_id: peer.id,
      role: peer.role,
      reason: end.by,
    });
    this.#desk.abandon(peer.id, gone(peer.id));
    this.#guard('disconnected', () => this.#handlers.disconnected(peer, end));
  }

  #forget(connection: Connection): void {
    this.#strangers.leave(senderOf(connection), connection);
    connection.cancelDeadline();
    connection.state = { kind: 'ended' };
    this.#connections.delete(connection);
  }

  #gauge(): void {
    for (const role of this.#options.roles) {
      this.#deps.metrics.activeStreams.set(this.#index.count(role), { role });
    }
  }

  #guard(what: string, handler: () => void): void {
    try {
      handler();
    } catch (err) {
      this.#deps.log.error(`handling ${what} failed`, { err });
    }
  }
}

const gone = (id: PeerId): VpndError =>
  new VpndError('exit-gone', `${shortId(id)} is not connected`, { retryable: true });

const replaced = (): VpndError =>
  new VpndError('closed', 'replaced by a newer stream of the same node; does another machine use its identity?', {
    retryable: true,
    details: { replaced: 'true' },
  });

const senderOf = ({ accepted }: Connection): string => limitKey(accepted.stream.remote.ip);

const tooMany = (): VpndError =>
  new VpndError('rate-limited', 'too many streams are authenticating at present', { retryable: true });

const tooSlow = (): VpndError =>
  new VpndError('unauthenticated', `no authentication within ${AUTHENTICATION_LIMIT / 1_000} s`, { retryable: true });
