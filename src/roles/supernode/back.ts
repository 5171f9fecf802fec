import type { SupernodeConfig } from '../../config/types.js';
import { newCommand } from '../../core/commands.js';
import { atMost } from '../../core/patience.js';
import { SlotPool } from '../../core/pool.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Random } from '../../core/ports/random.js';
import type { FactStore } from '../../core/ports/store.js';
import { KeyedQueue } from '../../core/serial.js';
import { type Endpoint, type Family, familyOf, type IpAddress, type Port } from '../../model/address.js';
import type { Command, CommandDone, Desired, RelayNext, SetupExit } from '../../model/command.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { Signed } from '../../model/membership.js';
import type {
  AddressPlan,
  CloseSessionRequest,
  OpenSessionRequest,
  OpenSessionResponse,
} from '../../model/messages.js';
import { type Instant, type Millis, ms, plus, seconds } from '../../model/time.js';
import type { ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';
import { toldAbroad } from '../../transport/streams/refusal.js';

/** A session at one of this supernode's exits, opened by the client's supernode (which may be this one too). */
export interface BackSession {
  readonly session: SessionId;
  /** The supernode that opened it: the only one that may change or close it. */
  readonly origin: PeerId;
  readonly exit: PeerId;
  readonly port: Port | undefined;
  /** The origin's generation: older requests of it are stale. */
  readonly asked: number;
  /** This side's own, which grows with every order to the exit: repairs are orders too. */
  readonly generation: number;
  readonly leaseUntil: Instant;
  /** As it was asked for, to set an exit up again that has lost it. */
  readonly setup: SetupExit;
  readonly next: RelayNext | undefined;
}

export interface BackDeps {
  readonly self: PeerId;
  readonly config: SupernodeConfig;
  readonly clock: Clock;
  readonly random: Random;
  readonly facts: FactStore;
  readonly log: Log;
  readonly ports: RelayPorts;
  /** An order to this supernode's own data plane. */
  readonly order: (session: SessionId, lease: Millis, desired: Desired) => Promise<CommandDone>;
  readonly streams: () => StreamManager;
  readonly vouched: (peer: ConnectedPeer) => readonly IpAddress[];
  /** Relay addresses of a supernode, this one included, as base publishes them. */
  readonly relayIpsOf: (supernode: PeerId) => readonly IpAddress[];
  readonly addressPlan: () => AddressPlan | undefined;
  readonly ownMembership: () => Signed;
}

const FACT = 'back/';
/** Often enough for every home router: RFC 4787 REQ-5 allows UDP mappings to end after two minutes, many end sooner. */
const KEEPALIVE_S = 25;
const ROLLBACK_PATIENCE: Millis = seconds(1);

/** Sessions at this supernode's exits. */
export class BackSessions {
  readonly #sessions = new Map<SessionId, BackSession>();
  readonly #perExit = new Map<PeerId, number>();
  readonly #queue = new KeyedQueue<SessionId>();

  constructor(private readonly deps: BackDeps) {}

  /** Take up what the store has, before anything is served. */
  load(): void {
    const now = this.deps.clock.now();
    for (const name of this.deps.facts.names(FACT)) {
      const one = this.deps.facts.get<BackSession>(name);
      if (one === undefined) continue;
      if (one.leaseUntil <= now) {
        this.deps.facts.remove(name);
        continue;
      }
      if (one.port !== undefined) this.deps.ports.claim(one.port);
      this.#put(one);
    }
  }

  countAt(exit: PeerId): number {
    return this.#perExit.get(exit) ?? 0;
  }

  all(): readonly BackSession[] {
    return [...this.#sessions.values()];
  }

  /**
   * Relay port, then exit; on any failure both are undone. The same session with a higher
   * generation renews it on the same port. Rejects with exit-gone, exit-refused, forbidden, stale-generation, …
   */
  open(origin: PeerId, request: OpenSessionRequest): Promise<OpenSessionResponse> {
    return this.#queue.run(request.session, () => this.#open(origin, request));
  }

  /** Idempotent. Rejects with `forbidden` for a session of another supernode. */
  close(origin: PeerId, request: CloseSessionRequest): Promise<void> {
    return this.#queue.run(request.session, async () => {
      const one = this.#sessions.get(request.session);
      if (one === undefined) return;
      if (one.origin !== origin) throw new VpndError('forbidden', 'this session was opened by another supernode');
      await this.#end(one, request.reason);
    });
  }

  /** An exit is back: repair the difference between its sessions and ours, and vouch for the address it has now. */
  exitConnected(peer: ConnectedPeer): void {
    const held = new Map(peer.sessions.map((one) => [one.session, one.generation]));
    for (const [session, generation] of held) {
      if (this.#sessions.get(session)?.exit === peer.id) continue;
      this.#command(peer.id, session, generation + 1, seconds(0), { kind: 'disconnect', reason: 'not known here' });
    }
    for (const one of this.#sessions.values()) {
      if (one.exit === peer.id)
        void this.#queue.run(one.session, () => this.#repair(peer, one.session, held.has(one.session)));
    }
  }

  /** The relay's lease ran out with nobody renewing it; the exit's own ends by itself. */
  expired(session: SessionId): void {
    const one = this.#sessions.get(session);
    if (one !== undefined) this.#drop(one);
  }

  /** Ends what outlived its lease: sessions without a relay port of ours (direct paths), and what could not be removed. */
  sweep(now: Instant): void {
    for (const one of this.#sessions.values()) {
      if (one.leaseUntil > now || this.#queue.busy(one.session)) continue;
      this.#queue
        .run(one.session, async () => {
          const current = this.#sessions.get(one.session);
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
    const existing = this.#sessions.get(request.session);
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
    const way = this.#way(origin, request, peer, existing);
    const setup: SetupExit = {
      kind: 'setup-exit',
      clientKey: request.clientKey,
      inner: {
        ipv4: request.innerIpv4,
        ipv6: request.innerIpv6,
        gatewayIpv4: plan.gatewayIpv4,
        gatewayIpv6: plan.gatewayIpv6,
      },
      endpoint: way.relay === undefined ? undefined : { ip: way.relay.localIp, port: way.relay.port },
      keepalive: way.relay === undefined ? 0 : KEEPALIVE_S,
      kemKey: request.kemKey,
    };
    const one: BackSession = {
      session: request.session,
      origin,
      exit: request.exit,
      port: way.relay?.port,
      asked: request.generation,
      generation: (existing?.generation ?? 0) + 1,
      leaseUntil: plus(deps.clock.now(), request.lease),
      setup,
      next: way.relay?.next,
    };
    // On record first: after a crash half-way the session is known, and its lease or CLOSE ends it everywhere.
    try {
      this.#save(one);
    } catch (thrown) {
      if (existing === undefined && one.port !== undefined) deps.ports.give(one.port, deps.clock.now());
      throw thrown;
    }
    try {
      // The relay first: the exit's first packet opens its NAT and shows its endpoint, and WireGuard repeats a packet
      // that met no relay only five seconds later.
      if (way.relay !== undefined) await deps.order(one.session, request.lease, way.relay);
      const done = await (egress
        ? deps.order(one.session, request.lease, setup)
        : deps
            .streams()
            .command(request.exit, newCommand(deps.random, one.session, one.generation, request.lease, setup)));
      if (done.offer === undefined) throw new VpndError('exit-refused', `exit ${shortId(request.exit)} gave no offer`);
      const exitMembership = peer?.signedMembership ?? deps.ownMembership();
      return { endpoint: way.endpoint, offer: done.offer, exitMembership };
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
    if (existing === undefined) await this.#end(failed, 'could not be set up');
    else this.#save(existing);
  }

  /** Where the session comes in here, and the relay port for it where there is one. */
  #way(
    origin: PeerId,
    request: OpenSessionRequest,
    peer: ConnectedPeer | undefined,
    existing: BackSession | undefined,
  ): { readonly endpoint: Endpoint; readonly relay?: Extract<Desired, { kind: 'relay-setup' }> } {
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

  async #repair(peer: ConnectedPeer, session: SessionId, held: boolean): Promise<void> {
    const one = this.#sessions.get(session);
    if (one === undefined || this.deps.streams().peer(peer.id) !== peer) return;
    const now = this.deps.clock.now();
    const lease = ms(one.leaseUntil - now);
    if (lease <= 0) return;
    const generation = one.generation + 1;
    try {
      this.#save({ ...one, generation });
      if (!held)
        await this.deps.streams().command(peer.id, newCommand(this.deps.random, session, generation, lease, one.setup));
      if (one.port !== undefined && one.next !== undefined && one.setup.endpoint !== undefined) {
        const { port, next } = one;
        const localIp = one.setup.endpoint.ip;
        const vouched = this.deps.vouched(peer).filter((ip) => familyOf(ip) === familyOf(localIp));
        const relay: Desired = { kind: 'relay-setup', port, localIp, vouched, next };
        await this.deps.order(session, lease, relay);
      }
    } catch (thrown) {
      this.deps.log.warn('could not repair a session at an exit', {
        session_id: session,
        code: toVpndError(thrown).code,
      });
    }
  }

  async #end(one: BackSession, reason: string): Promise<void> {
    const { deps } = this;
    const disconnect: Desired = { kind: 'disconnect', reason };
    const own = one.port !== undefined || one.exit === deps.self;
    const [removed] = await Promise.allSettled([
      own ? deps.order(one.session, seconds(0), disconnect) : Promise.resolve(),
      one.exit === deps.self
        ? Promise.resolve()
        : this.#tellExit(one, newCommand(deps.random, one.session, one.generation, seconds(0), disconnect)),
    ]);
    if (removed.status === 'rejected') {
      // Its port is nobody else's while the kernel may still have it; the next sweep tries again.
      this.#put({ ...one, leaseUntil: deps.clock.now() });
      throw removed.reason;
    }
    this.#drop(one);
  }

  /** An exit that is away is told when it is back: the session is then in its digest and not in our book. */
  async #tellExit(one: BackSession, disconnect: Command): Promise<void> {
    await this.deps
      .streams()
      .command(one.exit, disconnect)
      .catch((thrown: unknown) =>
        this.deps.log.info('an exit could not be told that a session ended', {
          session_id: one.session,
          code: toVpndError(thrown).code,
        }),
      );
  }

  #command(exit: PeerId, session: SessionId, generation: number, lease: Millis, desired: Desired): void {
    const command: Command = newCommand(this.deps.random, session, generation, lease, desired);
    this.deps
      .streams()
      .command(exit, command)
      .catch((thrown: unknown) =>
        this.deps.log.info('a repair did not reach an exit', { session_id: session, code: toVpndError(thrown).code }),
      );
  }

  #save(one: BackSession): void {
    this.deps.facts.put(FACT + one.session, one);
    this.#put(one);
  }

  #put(one: BackSession): void {
    if (!this.#sessions.has(one.session)) this.#perExit.set(one.exit, this.countAt(one.exit) + 1);
    this.#sessions.set(one.session, one);
  }

  #drop(one: BackSession): void {
    if (!this.#sessions.delete(one.session)) return;
    const left = this.countAt(one.exit) - 1;
    if (left > 0) this.#perExit.set(one.exit, left);
    else this.#perExit.delete(one.exit);
    if (one.port !== undefined) this.deps.ports.give(one.port, this.deps.clock.now());
    try {
      this.deps.facts.remove(FACT + one.session);
    } catch (thrown) {
      // After a restart its lease ends it.
      this.deps.log.warn('an ended session stays on record', { session_id: one.session, err: thrown });
    }
  }
}

const isExitsOwn = (error: VpndError): boolean =>
  ['exit-gone', 'exit-refused', 'no-path', 'no-ports', 'forbidden', 'stale-generation'].includes(error.code);

/** Relay ports as ports rather than slots. A port rests for two minutes: longer than any router remembers a stranger. */
export class RelayPorts {
  readonly #pool: SlotPool;
  readonly #from: number;

  constructor(range: { readonly from: Port; readonly to: Port }) {
    this.#from = range.from;
    this.#pool = new SlotPool(range.to - range.from + 1, seconds(120));
  }

  get taken(): number {
    return this.#pool.taken;
  }

  take(now: Instant): Port | undefined {
    const slot = this.#pool.take(now);
    return slot === undefined ? undefined : ((this.#from + slot) as Port);
  }

  claim(port: Port): boolean {
    return this.#pool.claim(port - this.#from);
  }

  give(port: Port, now: Instant): void {
    this.#pool.give(port - this.#from, now);
  }
}
