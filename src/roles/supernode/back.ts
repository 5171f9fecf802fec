import type { SupernodeConfig } from '../../config/types.js';
import { newCommand } from '../../core/commands.js';
import { atMost } from '../../core/patience.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Random } from '../../core/ports/random.js';
import type { FactStore } from '../../core/ports/store.js';
import { KeyedQueue } from '../../core/serial.js';
import { type Endpoint, type Family, familyOf, type IpAddress, type Port } from '../../model/address.js';
import {
  type CommandDone,
  type Desired,
  KEEPALIVE_S,
  type RelayNext,
  type RelaySetup,
  type SetupExit,
} from '../../model/command.js';
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
import { type Instant, type Millis, plus, seconds } from '../../model/time.js';
import type { ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';
import { toldAbroad } from '../../transport/streams/refusal.js';
import { BackBook, type BackSession, RELAYED } from './back-book.js';
import { BackPath } from './back-path.js';
import type { Quarantine } from './quarantine.js';
import type { RelayPorts } from './relay-ports.js';

export type { BackSession } from './back-book.js';
export { RelayPorts } from './relay-ports.js';

export interface BackDeps {
  readonly self: PeerId;
  readonly config: SupernodeConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly facts: FactStore;
  readonly log: Log;
  readonly ports: RelayPorts;
  readonly restingPorts: Quarantine<Port>;
  /** An order to this supernode's own data plane. */
  readonly order: (session: SessionId, lease: Millis, desired: Desired) => Promise<CommandDone>;
  readonly streams: () => StreamManager;
  readonly vouched: (peer: ConnectedPeer) => readonly IpAddress[];
  /** What relay ports have learned. */
  readonly relays: () => Promise<readonly RelayObservation[]>;
  /** Relay addresses of a supernode, this one included, as base publishes them. */
  readonly relayIpsOf: (supernode: PeerId) => readonly IpAddress[];
  readonly addressPlan: () => AddressPlan | undefined;
  readonly ownMembership: () => Signed;
  /** An exit had lost a session and has it again, with another pre-shared key than its client. */
  readonly keyLost?: (session: SessionId, origin: PeerId) => void;
}

const ROLLBACK_PATIENCE: Millis = seconds(1);

/** Sessions at this supernode's exits. */
export class BackSessions {
  readonly #book: BackBook;
  readonly #path: BackPath;
  readonly #queue = new KeyedQueue<SessionId>();

  constructor(private readonly deps: BackDeps) {
    this.#book = new BackBook(deps);
    this.#path = new BackPath(deps, this.#book);
  }

  /** Take up what the store has, before anything is served. */
  load(): void {
    this.#book.load();
  }

  countAt(exit: PeerId): number {
    return this.#book.countAt(exit);
  }

  has(session: SessionId): boolean {
    return this.#book.get(session) !== undefined;
  }

  all(): readonly BackSession[] {
    return this.#book.all();
  }

  /**
   * Relay port, then exit; on any failure both are undone. The same session with a higher
   * generation renews it on the same port. Rejects with exit-gone, exit-refused, forbidden, stale-generation, …
   */
  open(origin: PeerId, request: OpenSessionRequest): Promise<OpenSessionResponse> {
    return this.#queue.run(request.session, () => this.#open(origin, request));
  }

  /**
   * Move the exit's side of a session to another path. Rejects with no-session, forbidden, stale-generation, with no-path
   * where there is none at present, exit-gone, and with what the exit answered.
   */
  update(origin: PeerId, request: UpdateSessionRequest): Promise<UpdateSessionResponse> {
    return this.#queue.run(request.session, () => this.#path.update(origin, request));
  }

  /** Idempotent. Rejects with `forbidden` for a session of another supernode. */
  close(origin: PeerId, request: CloseSessionRequest): Promise<void> {
    return this.#queue.run(request.session, async () => {
      const one = this.#book.get(request.session);
      if (one === undefined) return;
      if (one.origin !== origin) throw new VpndError('forbidden', 'this session was opened by another supernode');
      await this.#end(one, request.reason);
    });
  }

  /** Ends those sessions at once, each without waiting for the others. */
  endAll(which: (one: BackSession) => boolean, reason: string): void {
    for (const one of this.#book.all().filter(which)) {
      this.#queue
        .run(one.session, async () => {
          const current = this.#book.get(one.session);
          if (current !== undefined) await this.#end(current, reason);
        })
        .catch((thrown: unknown) =>
          this.deps.log.warn('a session could not be removed yet', { session_id: one.session, err: thrown }),
        );
    }
  }

  /** An exit is back: repair the difference between its sessions and ours, and vouch for the address it has now. */
  exitConnected(peer: ConnectedPeer): void {
    const held = new Map(peer.sessions.map((one) => [one.session, one.generation]));
    for (const [session, generation] of held) {
      if (this.#book.get(session)?.exit === peer.id) continue;
      this.#endUnknown(peer.id, session, generation + 1);
    }
    for (const one of this.#book.all()) {
      if (one.exit === peer.id)
        void this.#queue.run(one.session, () => this.#path.repair(peer, one.session, held.has(one.session)));
    }
  }

  /** The relay's lease ran out with nobody renewing it; the exit's own ends by itself. */
  expired(session: SessionId): void {
    const one = this.#book.get(session);
    if (one !== undefined) this.#book.drop(one);
  }

  /** Ends what outlived its lease: sessions without a relay port of ours (direct paths), and what could not be removed. */
  sweep(now: Instant): void {
    for (const one of this.#book.all()) {
      if (one.leaseUntil > now || this.#queue.busy(one.session)) continue;
      this.#queue
        .run(one.session, async () => {
          const current = this.#book.get(one.session);
          if (current === undefined || current.leaseUntil > now) return;
          await this.#end(current, 'its lease ran out');
        })
        .catch((thrown: unknown) =>
          this.deps.log.warn('a session that is over could not be removed', { session_id: one.session, err: thrown }),
        );
    }
  }

  async #open(origin: PeerId, request: OpenSessionRequest): Promise<OpenSessionResponse> {
    const { deps } = this;
    const existing = this.#book.get(request.session);
    if (existing !== undefined && (existing.origin !== origin || existing.exit !== request.exit)) {
      throw new VpndError('forbidden', 'this session was opened by another supernode');
    }
    if (existing !== undefined && request.generation < existing.asked) {
      throw new VpndError('stale-generation', `generation ${request.generation} is older than ${existing.asked}`);
    }
    const egress = request.exit === deps.self;
    const peer = egress ? undefined : deps.streams().peer(request.exit);
    if (!egress && peer?.role !== 'exit') {
      throw new VpndError('exit-gone', `exit ${shortId(request.exit)} is not connected`, { retryable: true });
    }
    const plan = deps.addressPlan();
    if (plan === undefined)
      throw new VpndError('no-addresses', 'base has not leased any addresses to this supernode yet', {
        retryable: true,
      });

    this.#checkPreviousHop(origin, request.previousHop);
    const entrance = this.#entrance(origin, request, peer, existing);
    const { relay } = entrance;
    const setup: SetupExit = {
      kind: 'setup-exit',
      clientKey: request.clientKey,
      inner: {
        ipv4: request.innerIpv4,
        ipv6: request.innerIpv6,
        gatewayIpv4: plan.gatewayIpv4,
        gatewayIpv6: plan.gatewayIpv6,
      },
      endpoint: relay === undefined ? undefined : { ip: relay.localIp, port: relay.port },
      keepalive: relay === undefined ? 0 : KEEPALIVE_S,
      kemKey: request.kemKey,
    };
    const one: BackSession = {
      session: request.session,
      origin,
      exit: request.exit,
      port: relay?.port ?? existing?.port,
      asked: request.generation,
      generation: existing === undefined ? firstGeneration(request.session, peer) : existing.generation + 1,
      leaseUntil: plus(deps.clock.now(), request.lease),
      // A renewal without a key leaves the exit's as it is; should the exit lose it, this one makes another.
      setup: { ...setup, kemKey: setup.kemKey.length > 0 ? setup.kemKey : (existing?.setup.kemKey ?? setup.kemKey) },
      next: relay?.next ?? existing?.next,
      way: existing?.way ?? RELAYED,
    };
    // On record first: after a crash half-way the session is known, and its lease or CLOSE ends it everywhere.
    try {
      this.#book.save(one);
    } catch (thrown) {
      if (existing === undefined && one.port !== undefined) deps.ports.give(one.port, deps.clock.now());
      throw thrown;
    }
    try {
      // The relay first: the exit's first packet opens its NAT and shows its endpoint, and WireGuard repeats a packet
      // that met no relay only five seconds later.
      if (relay !== undefined) await deps.order(one.session, request.lease, this.#path.parkedOr(one, relay));
      const done = await (egress
        ? deps.order(one.session, request.lease, setup)
        : deps
            .streams()
            .command(request.exit, newCommand(deps.random, one.session, one.generation, request.lease, setup)));
      if (done.offer === undefined) throw new VpndError('exit-refused', `exit ${shortId(request.exit)} gave no offer`);
      // An exit that had lost the session has only now got it back, without the path it had.
      await this.#path.tellAgain(one);
      const exitMembership = peer?.signedMembership ?? deps.ownMembership();
      return { endpoint: entrance.endpoint, offer: done.offer, exitMembership };
    } catch (thrown) {
      const error = toVpndError(thrown);
      const undone = this.#undo(one, existing).catch((second: unknown) =>
        deps.log.warn('a session that failed stays until its lease ends', { session_id: one.session, err: second }),
      );
      // An exit that stays silent holds nobody up: whoever asked has another candidate.
      await atMost(deps.clock, ROLLBACK_PATIENCE, undone);
      if (isExitsOwn(error)) throw error;
      const why = `exit ${shortId(request.exit)} could not take the session: ${toldAbroad(error).message}`;
      throw new VpndError('exit-refused', why, { cause: error, retryable: true });
    }
  }

  async #undo(failed: BackSession, existing: BackSession | undefined): Promise<void> {
    if (existing === undefined) {
      await this.#end(failed, 'could not be set up');
      return;
    }
    // Generations only grow: the exit may have applied what it did not answer. A port that was taken stays taken.
    const { asked, generation } = this.#book.get(failed.session) ?? failed;
    this.#book.save({ ...existing, asked, generation, port: failed.port, next: failed.next, setup: failed.setup });
  }

  /** Where the session comes in here, and the relay port for it where there is one. */
  #entrance(
    origin: PeerId,
    request: OpenSessionRequest,
    peer: ConnectedPeer | undefined,
    existing: BackSession | undefined,
  ): { readonly endpoint: Endpoint; readonly relay?: RelaySetup } {
    const { deps } = this;
    if (peer === undefined) {
      const family = request.previousHop === undefined ? undefined : familyOf(request.previousHop.ip);
      return { endpoint: { ip: this.#relayIp(family), port: deps.config.wireguardPort } };
    }
    if (request.previousHop === undefined) {
      if (peer.capabilities.publicEndpoint === undefined)
        throw new VpndError('no-path', 'this exit is reached through a relay only');
      return { endpoint: peer.capabilities.publicEndpoint };
    }
    const family = familyOf(request.previousHop.ip);
    const vouched = deps.vouched(peer).filter((ip) => familyOf(ip) === family);
    if (vouched.length === 0) throw new VpndError('no-path', `the exit is not reached over IPv${family}`);
    const localIp = this.#relayIp(family);
    const port = existing?.port ?? deps.ports.take(deps.clock.now());
    if (port === undefined)
      throw new VpndError('no-ports', 'every relay port of this supernode is taken', { retryable: true });
    const next: RelayNext =
      origin === deps.self
        ? { kind: 'pair', port: request.previousHop.port }
        : { kind: 'hop', endpoint: request.previousHop };
    return { endpoint: { ip: localIp, port }, relay: { kind: 'relay-setup', port, localIp, vouched, next } };
  }

  /** A relay sends only where its asker stands: anything else would make it a reflector for strangers' targets. */
  #checkPreviousHop(origin: PeerId, hop: Endpoint | undefined): void {
    if (hop !== undefined && !this.deps.relayIpsOf(origin).includes(hop.ip)) {
      throw new VpndError('forbidden', `${hop.ip} is no relay address of supernode ${shortId(origin)}`);
    }
  }

  #relayIp(family: Family | undefined): IpAddress {
    const ip = this.deps.config.relayIps.find((one) => family === undefined || familyOf(one) === family);
    if (ip === undefined) throw new VpndError('no-path', `this supernode has no IPv${family} relay address`);
    return ip;
  }

  async #end(one: BackSession, reason: string): Promise<void> {
    const { deps } = this;
    const disconnect: Desired = { kind: 'disconnect', reason };
    const own = one.port !== undefined || one.exit === deps.self;
    const [removed] = await Promise.allSettled([
      own ? deps.order(one.session, seconds(0), disconnect) : Promise.resolve(),
      one.exit === deps.self ? Promise.resolve() : this.#tellEnd(one.exit, one.session, one.generation, disconnect),
    ]);
    if (removed.status === 'rejected') {
      // Its port is nobody else's while the kernel may still have it; the next sweep tries again.
      this.#book.put({ ...one, leaseUntil: deps.clock.now() });
      throw removed.reason;
    }
    this.#book.drop(one);
  }

  #endUnknown(exit: PeerId, session: SessionId, generation: number): void {
    void this.#tellEnd(exit, session, generation, { kind: 'disconnect', reason: 'not known here' });
  }

  /** An exit that is away is told when it is back: the session is then in its digest and not in our book. */
  async #tellEnd(exit: PeerId, session: SessionId, generation: number, desired: Desired): Promise<void> {
    await this.deps
      .streams()
      .command(exit, newCommand(this.deps.random, session, generation, seconds(0), desired))
      .catch((thrown: unknown) =>
        this.deps.log.info('an exit could not be told that a session ended', {
          session_id: session,
          code: toVpndError(thrown).code,
        }),
      );
  }
}

/** Newer than what the exit said it holds, and than the end of that: this supernode may have lost its book. */
const firstGeneration = (session: SessionId, peer: ConnectedPeer | undefined): number =>
  1 + Math.max(0, ...(peer?.sessions ?? []).filter((one) => one.session === session).map((one) => one.generation + 1));

const isExitsOwn = (error: VpndError): boolean =>
  ['exit-gone', 'exit-refused', 'no-path', 'no-ports', 'forbidden', 'stale-generation'].includes(error.code);
