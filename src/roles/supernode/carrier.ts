import type { Projection } from '../../core/executor.js';
import type { Log } from '../../core/ports/log.js';
import type { SessionRecord } from '../../core/ports/store.js';
import { RateLimiter } from '../../core/rate-limit.js';
import type { Endpoint, Port } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { Unit } from '../../model/dataplane.js';
import { toVpndError } from '../../model/errors.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import { type Millis, seconds } from '../../model/time.js';
import { Carried, type CarriedDeps, type Ways } from './carried.js';
import { type Budget, CARRIER_LIMITS, type CarrierLimits, newBudget } from './carrier-limits.js';

export interface CarrierDeps extends Omit<CarriedDeps, 'ways' | 'allowsDown'> {
  readonly log: Log;
  /** Whose session it is, and the relay port that faces its client. */
  readonly front: (session: SessionId) => { readonly client: PeerId; readonly port: Port | undefined } | undefined;
  /** What is in force. */
  readonly record: (session: SessionId) => SessionRecord | undefined;
  /** Runs `change`, and makes the kernel follow what the session's units are then. */
  readonly reproject: (session: SessionId, change: () => void) => Promise<void>;
  readonly limits?: Partial<CarrierLimits>;
}

const LOOK: Millis = seconds(1);
/** Keepalives come every 25 s: a client silent for this long uses the session no more, or another way. */
const SILENT: Millis = seconds(120);

/**
 * Sessions whose client gets no UDP through: their datagrams come and go inside the client's stream, and this process
 * plays the relay ports of theirs that the kernel plays otherwise. To everybody else the session looks as it did: same
 * addresses, same ports, same lease. It is left as soon as the client's datagrams come by UDP, with the stream, or
 * when nothing comes any more; the kernel then knows at once what was learned here, so no packet is lost either way.
 *
 *   kernel -> opening   the client's first datagram inside its stream
 *   opening -> carried  sockets bound, kernel's ports given up, in this order: one of them always answers
 *   carried -> leaving  UDP is back, the stream ended, or silence
 *   leaving -> kernel   kernel's ports set up again, sockets closed, in this order
 */
export class Carrier {
  readonly #limits: CarrierLimits;
  readonly #carried = new Map<SessionId, Carried>();
  readonly #budgets = new Map<PeerId, Budget>();
  readonly #total: Budget;
  /** Where relay ports' peers are, for the kernel to start with. */
  readonly #learned = new Map<Port, { readonly session: SessionId; readonly endpoint: Endpoint }>();
  readonly #switches: RateLimiter;
  readonly #refusals: RateLimiter;
  #cancelLook: (() => void) | undefined;

  constructor(private readonly deps: CarrierDeps) {
    this.#limits = { ...CARRIER_LIMITS, ...deps.limits };
    this.#total = newBudget(this.#limits, this.#limits.shares, deps.clock);
    // Each switch costs the kernel two transactions.
    this.#switches = new RateLimiter({ perMinute: 12, burst: 6, maxKeys: 4_096 }, deps.clock);
    this.#refusals = new RateLimiter({ perMinute: 1, burst: 1, maxKeys: 1 }, deps.clock);
  }

  /** Sessions carried at present. */
  get count(): number {
    return this.#carried.size;
  }

  /** Whether this process plays the session's relay ports: they are then none of the kernel's business. */
  carries(session: SessionId): boolean {
    return this.#carried.get(session)?.inHand ?? false;
  }

  /** Where a relay port's peer was last, for a kernel that has not learned it. */
  learned(port: Port): Endpoint | undefined {
    return this.#learned.get(port)?.endpoint;
  }

  /** Datagrams of a client, from its stream. Those of sessions that are not its own lead nowhere. */
  datagrams(client: PeerId, session: SessionId, packets: readonly Bytes[]): void {
    if (this.deps.front(session)?.client !== client) return;
    const carried = this.#carried.get(session) ?? this.#begin(client, session);
    if (carried === undefined) return;
    carried.heardByStream();
    const own = this.#budgetOf(client).up;
    for (const packet of packets) if (own.allows(packet) && this.#total.up.allows(packet)) carried.fromClient(packet);
  }

  /** The client's stream is gone. */
  async clientGone(client: PeerId): Promise<void> {
    const its = [...this.#carried.values()].filter((one) => one.client === client);
    await Promise.all(its.map((one) => this.#leave(one, 'its client is gone')));
  }

  /** The session is over: nothing of it is left to the kernel either. */
  ended(session: SessionId): void {
    for (const [port, one] of this.#learned) if (one.session === session) this.#learned.delete(port);
    const carried = this.#carried.get(session);
    if (carried !== undefined) this.#drop(carried);
  }

  /** Hands everything back to the kernel, which goes on without this process. */
  async stop(): Promise<void> {
    this.#cancelLook?.();
    this.#cancelLook = undefined;
    await Promise.all([...this.#carried.values()].map((one) => this.#leave(one, 'this supernode is stopping')));
  }

  #begin(client: PeerId, session: SessionId): Carried | undefined {
    const { log } = this.deps;
    const ways = this.#waysOf(session);
    // A direct path has no relay port to play: the client asks for its relays first.
    if (ways === undefined) return undefined;
    if (this.#carried.size >= this.#limits.sessions) {
      if (this.#refusals.allow('full'))
        log.warn('no more sessions are carried inside streams: all places are taken', { count: this.#carried.size });
      return undefined;
    }
    if (!this.#switches.allow(client)) return undefined;
    const carried = new Carried(session, client, {
      ...this.deps,
      ways: () => this.#waysOf(session),
      allowsDown: (packet) => this.#budgetOf(client).down.allows(packet) && this.#total.down.allows(packet),
    });
    this.#carried.set(session, carried);
    this.#cancelLook ??= this.deps.clock.after(LOOK, () => this.#look());
    void this.#open(carried, ways);
    return carried;
  }

  async #open(carried: Carried, ways: Ways): Promise<void> {
    const { log, reproject } = this.deps;
    const { session } = carried;
    try {
      await carried.bind(ways);
      await reproject(session, () => {
        carried.inHand = this.#carried.get(session) === carried;
      });
      if (!carried.inHand) return carried.close();
      carried.opened();
      log.info('a session is carried inside its client’s stream: no UDP comes from it', { session_id: session });
    } catch (thrown) {
      const error = toVpndError(thrown);
      log.warn('a session cannot be carried inside a stream', {
        session_id: session,
        code: error.code,
        reason: error.message,
      });
      this.#drop(carried);
    }
  }

  async #leave(carried: Carried, why: string): Promise<void> {
    const { log, reproject } = this.deps;
    const { session } = carried;
    if (this.#carried.get(session) !== carried || carried.leaving) return;
    carried.leaving = true;
    try {
      await reproject(session, () => {
        carried.inHand = false;
        for (const [port, endpoint] of carried.learned()) this.#learned.set(port, { session, endpoint });
      });
      log.info(`a session is not carried inside a stream any more: ${why}`, { session_id: session });
    } catch (thrown) {
      // The next full comparison with the kernel sets it up again.
      log.warn('a relay could not be given back to the kernel yet', { session_id: session, err: thrown });
    }
    this.#drop(carried);
  }

  #drop(carried: Carried): void {
    carried.inHand = false;
    carried.close();
    if (this.#carried.get(carried.session) === carried) this.#carried.delete(carried.session);
    if (![...this.#carried.values()].some((one) => one.client === carried.client)) this.#budgets.delete(carried.client);
  }

  #look(): void {
    this.#cancelLook = undefined;
    for (const one of this.#carried.values()) {
      if (!one.inHand) continue;
      if (one.usesUdp) void this.#leave(one, 'UDP comes through again');
      else if (one.silentFor > SILENT) void this.#leave(one, 'nothing came for two minutes');
    }
    if (this.#carried.size > 0) this.#cancelLook = this.deps.clock.after(LOOK, () => this.#look());
  }

  #budgetOf(client: PeerId): Budget {
    const known = this.#budgets.get(client);
    if (known !== undefined) return known;
    const budget = newBudget(this.#limits, 1, this.deps.clock);
    this.#budgets.set(client, budget);
    return budget;
  }

  /** The session's relay ports as they are in force; undefined where it has none. */
  #waysOf(session: SessionId): Ways | undefined {
    const port = this.deps.front(session)?.port;
    const relays = (this.deps.record(session)?.desired ?? []).filter((one) => one.kind === 'relay-setup');
    const front = relays.find((one) => one.port === port);
    if (front === undefined || front.vouched.length === 0) return undefined;
    if (front.next.kind === 'hop') return { front, hop: front.next.endpoint, back: undefined };
    const paired = front.next.port;
    const back = relays.find((one) => one.port === paired);
    return back === undefined ? undefined : { front, hop: undefined, back };
  }
}

/** The same units without the relay ports that are in this process's hands, and with what it has learned of others. */
export function withoutCarried(projection: Projection, carrier: Pick<Carrier, 'carries' | 'learned'>): Projection {
  return {
    ...projection,
    units: (record) =>
      projection.units(record).flatMap((unit): readonly Unit[] => {
        if (unit.kind !== 'relay') return [unit];
        if (carrier.carries(record.session)) return [];
        const learned = carrier.learned(unit.port);
        return learned === undefined || !unit.vouched.includes(learned.ip) ? [unit] : [{ ...unit, learned }];
      }),
  };
}
