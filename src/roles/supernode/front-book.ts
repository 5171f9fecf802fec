import { InnerAddressPool } from '../../core/addresses.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { FactStore } from '../../core/ports/store.js';
import type { Endpoint, IpAddress, Port } from '../../model/address.js';
import type { RelayNext } from '../../model/command.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { WireGuardPublicKey } from '../../model/keys.js';
import type { AddressPlan } from '../../model/messages.js';
import type { InnerAddresses } from '../../model/offer.js';
import type { Path, Privacy } from '../../model/role.js';
import { type Instant, type Millis, minutes } from '../../model/time.js';
import * as kept from '../common/kept.js';
import { Quarantine } from './quarantine.js';
import type { RelayPorts } from './relay-ports.js';

/**
 * The way a session's packets take now, against the one of its grant.
 *
 * granted -> moving -> direct -> direct, settled; from any of them -> returning -> granted. docs/decisions/0017 says why.
 */
export type FrontWay =
  /** As the grant said: over the relays, or direct where the exit has a public address. */
  | { readonly kind: 'granted' }
  /** The exit, and then the client, is told of the other's address. On record before, so that a restart undoes it. */
  | { readonly kind: 'moving'; readonly client: Endpoint }
  | {
      readonly kind: 'direct';
      /** Both as their relay ports had learned them. */
      readonly client: Endpoint;
      readonly exit: Endpoint;
      /** Where the client's stream came from then. */
      readonly streamFrom: IpAddress;
      readonly since: Instant;
      /** The relays are out of the kernels; their ports stay the session's. */
      readonly settled: boolean;
    }
  /** Back to the relays, and not everybody has been told yet. */
  | { readonly kind: 'returning' };

/** A session of one of this supernode's clients. */
export interface FrontSession {
  readonly session: SessionId;
  readonly client: PeerId;
  readonly clientKey: WireGuardPublicKey;
  readonly exit: PeerId;
  /** The exit's supernode. */
  readonly supernode: PeerId;
  /** Over the relays where it has any; see `pathOf` for the one in use. */
  readonly path: Path;
  readonly privacy: Privacy;
  readonly way: FrontWay;
  readonly inner: InnerAddresses;
  readonly port: Port | undefined;
  /** Our relay address in use; with `port` it is the client's endpoint. */
  readonly localIp: IpAddress | undefined;
  readonly next: RelayNext | undefined;
  readonly generation: number;
  readonly leaseUntil: Instant;
  readonly openedAt: Instant;
  /** The client reported a handshake. */
  readonly established: boolean;
}

export const GRANTED: FrontWay = { kind: 'granted' };

/** The path in use. */
export const pathOf = ({ path, way }: FrontSession): Path => (way.kind === 'direct' ? 'direct' : path);

/** Whether this supernode's relay is out of the kernel while the session goes on without it. */
export const isParked = ({ way }: FrontSession): boolean => way.kind === 'direct' && way.settled;

/** Where the client sends to when it uses the relays. */
export const hopOf = ({ port, localIp }: Pick<FrontSession, 'port' | 'localIp'>): Endpoint | undefined =>
  port === undefined || localIp === undefined ? undefined : { ip: localIp, port };

export interface FrontBookDeps {
  readonly clock: Clock;
  readonly facts: FactStore;
  readonly log: Log;
  readonly ports: RelayPorts;
  readonly restingPorts: Quarantine<Port>;
}

const FACT = 'front/';
const SESSION = kept.record({
  session: kept.session,
  client: kept.peer,
  clientKey: kept.wireGuardKey,
  exit: kept.peer,
  supernode: kept.peer,
  path: kept.path,
  // What an older version has not written: both.
  privacy: kept.optional(kept.oneOf('auto', 'private', 'direct')),
  way: kept.optional(
    kept.either(
      kept.record({ kind: kept.oneOf('granted', 'returning') }),
      kept.record({ kind: kept.oneOf('moving'), client: kept.endpoint }),
      kept.record({
        kind: kept.oneOf('direct'),
        client: kept.endpoint,
        exit: kept.endpoint,
        streamFrom: kept.address,
        since: kept.count,
        settled: kept.flag,
      }),
    ),
  ),
  inner: kept.innerAddresses,
  port: kept.optional(kept.port),
  localIp: kept.optional(kept.address),
  next: kept.optional(kept.relayNext),
  generation: kept.count,
  leaseUntil: kept.count,
  openedAt: kept.count,
  established: kept.flag,
});
/** Inner addresses rest this long, so that nobody gets the late packets of somebody else's connections. */
const ADDRESS_REST: Millis = minutes(5);

/** The sessions of this supernode's clients, in memory and on disk, with the relay ports and addresses they own. */
export class FrontBook {
  readonly #sessions = new Map<SessionId, FrontSession>();
  readonly #ofClient = new Map<PeerId, Set<SessionId>>();
  readonly #addresses = new InnerAddressPool(ADDRESS_REST);
  readonly #resting: Quarantine<IpAddress>;

  constructor(private readonly deps: FrontBookDeps) {
    this.#resting = new Quarantine('addresses', this.#addresses, deps);
  }

  /** Take up what the store has, before anything is served. */
  load(plan: AddressPlan | undefined): void {
    const { facts, ports } = this.deps;
    if (plan !== undefined) this.#addresses.usePlan(plan);
    for (const name of facts.names(FACT)) {
      const one = kept.keptFact<FrontSession>(facts, name, SESSION);
      if (one === undefined) continue;
      if (one.port !== undefined) ports.claim(one.port);
      this.#addresses.claim(one.inner.ipv4);
      // What an older version has not written.
      this.put({ ...one, way: one.way ?? GRANTED, privacy: one.privacy ?? 'auto' });
    }
    this.#resting.load();
  }

  usePlan(plan: AddressPlan): void {
    this.#addresses.usePlan(plan);
  }

  get size(): number {
    return this.#sessions.size;
  }

  get(session: SessionId): FrontSession | undefined {
    return this.#sessions.get(session);
  }

  all(): readonly FrontSession[] {
    return [...this.#sessions.values()];
  }

  /** A copy: sessions may come and go while it is walked. */
  of(client: PeerId): readonly FrontSession[] {
    return [...(this.#ofClient.get(client) ?? [])].flatMap((session) => this.get(session) ?? []);
  }

  takeAddresses(): InnerAddresses | undefined {
    return this.#addresses.take(this.deps.clock.now());
  }

  takePort(): Port | undefined {
    return this.deps.ports.take(this.deps.clock.now());
  }

  give(inner: InnerAddresses, port: Port | undefined): void {
    const now = this.deps.clock.now();
    this.#addresses.give(inner.ipv4, now);
    this.#resting.save();
    if (port === undefined) return;
    this.deps.ports.give(port, now);
    this.deps.restingPorts.save();
  }

  /** On disk, then in memory. Throws what the store throws, and nothing has changed then. */
  save<S extends FrontSession>(one: S): S {
    this.deps.facts.put(FACT + one.session, one);
    this.put(one);
    return one;
  }

  /** What has happened is so even where the disk is full; the next write that works puts it on record. */
  note(one: FrontSession): void {
    this.put(one);
    try {
      this.deps.facts.put(FACT + one.session, one);
    } catch (thrown) {
      this.deps.log.warn('a change of a session is not on record', { session_id: one.session, err: thrown });
    }
  }

  /** In memory alone. */
  put(one: FrontSession): void {
    this.#sessions.set(one.session, one);
    const mine = this.#ofClient.get(one.client) ?? new Set<SessionId>();
    this.#ofClient.set(one.client, mine.add(one.session));
  }

  drop(one: FrontSession): void {
    if (!this.#sessions.delete(one.session)) return;
    const mine = this.#ofClient.get(one.client);
    mine?.delete(one.session);
    if (mine?.size === 0) this.#ofClient.delete(one.client);
    this.give(one.inner, one.port);
    try {
      this.deps.facts.remove(FACT + one.session);
    } catch (thrown) {
      // After a restart it is ended again.
      this.deps.log.warn('an ended session stays on record', { session_id: one.session, err: thrown });
    }
  }
}
