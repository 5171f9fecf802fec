import type { Projection } from '../../core/executor.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Crypto } from '../../core/ports/crypto.js';
import type { Log } from '../../core/ports/log.js';
import type { SessionRecord } from '../../core/ports/store.js';
import { type Endpoint, formatHostPort, sameEndpoint } from '../../model/address.js';
import type { Command, RelayUpdate } from '../../model/command.js';
import type { PeerObservation, PeerUnit, Unit } from '../../model/dataplane.js';
import type { SessionId } from '../../model/ids.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import { knockingPeer, knockKey } from '../common/knock.js';

/** The client has come over by then, or said that it cannot: it looks for 3.5 s, and its supernode has to tell it first. */
const OPEN_FOR: Millis = seconds(5);
/**
 * When it knocks again. A knock that comes before the client's own NAT is open is dropped there, and that takes until the
 * client was told, over three streams: soon after each other at first, and then less often.
 */
const KNOCK_AGAIN: readonly Millis[] = [100, 250, 500, 1_000, 1_500, 2_000, 3_000].map(ms);

export interface WayOpenerDeps {
  readonly clock: Clock;
  readonly crypto: Pick<Crypto, 'sha256'>;
  readonly log: Log;
  readonly observe: () => Promise<readonly PeerObservation[]>;
  readonly reproject: (session: SessionId, change: () => void) => Promise<void>;
}

/**
 * - `opening`: packets still go `from`; a second peer, which nobody answers for, knocks at the new endpoint out of the
 *   same port. Each knock is a peer of its own, since WireGuard repeats a handshake after five seconds and no sooner.
 * - `left`: WireGuard knows better than the order. The client came from an address that nobody had foreseen (its NAT has a
 *   port for each destination), or it was to come directly and has not: what was foreseen would lose it.
 */
type Way = Opening | { readonly kind: 'left' };
interface Opening {
  readonly kind: 'opening';
  readonly from: Endpoint | undefined;
  knocks: number;
  /** Another order came after this one. */
  over: boolean;
}

/**
 * What RELAY_UPDATE does to an exit's kernel. An exit that simply sent to the new endpoint would lose what it sends until
 * the client is there, too: the client's NAT does not know it yet, or the new relay does not know the client. So the
 * way is only opened, by handshakes with keys that nobody has, which the exit's NAT and the new relay take for what
 * they are, a packet out of WireGuard's port. The client's first packet on the new way takes WireGuard along.
 */
export class WayOpener {
  /** By session and the endpoint that RELAY_UPDATE gave it: what was in force and what comes are told apart by it. */
  readonly #ways = new Map<SessionId, Map<string, Way>>();

  constructor(private readonly deps: WayOpenerDeps) {}

  /** The same projection, with endpoints that change in two steps. */
  around(projection: Projection): Projection {
    const units = (record: SessionRecord): readonly Unit[] => this.#units(projection.units(record), record);
    return {
      ...projection,
      units,
      accept: (command, record, others) => {
        projection.accept?.(command, record, others);
        if (record !== undefined) this.#accept(command, units(record));
      },
      ended: (session, why) => {
        this.#ways.delete(session);
        projection.ended?.(session, why);
      },
    };
  }

  #accept({ session, desired }: Command, before: readonly Unit[]): void {
    if (desired.kind !== 'relay-update') return;
    const { clock } = this.deps;
    const { endpoint: to } = desired;
    const now = before.find((unit) => unit.kind === 'peer');
    const ways = this.#ways.get(session) ?? new Map<string, Way>();
    this.#ways.set(session, ways);
    for (const other of ways.values()) if (other.kind === 'opening') other.over = true;
    const same = ways.get(formatHostPort(to));
    ways.delete(formatHostPort(to));
    if (now === undefined || sameEndpoint(now.endpoint, to)) return;
    // The peer that knocks already, if one does, goes when the next one comes.
    const knocks = same?.kind === 'opening' ? same.knocks : 1;
    const way: Opening = { kind: 'opening', from: now.endpoint, knocks, over: false };
    ways.set(formatHostPort(to), way);
    for (const delay of KNOCK_AGAIN) clock.after(delay, () => void this.#knock(session, to, way));
    clock.after(OPEN_FOR, () => void this.#opened(session, now, desired, way));
  }

  async #knock(session: SessionId, to: Endpoint, way: Opening): Promise<void> {
    const isCurrent = () => this.#ways.get(session)?.get(formatHostPort(to)) === way;
    if (!isCurrent() || way.over) return;
    try {
      await this.deps.reproject(session, () => {
        if (isCurrent() && !way.over) way.knocks++;
      });
    } catch (err) {
      this.deps.log.info('a way could not be opened further', { session_id: session, err });
    }
  }

  async #opened(
    session: SessionId,
    { device, publicKey }: PeerUnit,
    { endpoint: to, path }: RelayUpdate,
    way: Opening,
  ): Promise<void> {
    const key = formatHostPort(to);
    const isCurrent = () => this.#ways.get(session)?.get(key) === way;
    if (!isCurrent()) return;
    try {
      const peers = await this.deps.observe();
      const at = peers.find((one) => one.device === device && one.publicKey === publicKey)?.endpoint;
      const elsewhere = at !== undefined && !sameEndpoint(at, to);
      // Relays let in whoever is vouched for, so that an exit is found there; a client's NAT may not.
      const left = elsewhere && (path === 'direct' || !sameEndpoint(at, way.from));
      await this.deps.reproject(session, () => {
        if (!isCurrent()) return;
        this.#ways.get(session)?.delete(key);
        if (left) this.#ways.get(session)?.set(key, { kind: 'left' });
      });
    } catch (err) {
      // The next comparison with the kernel ends it.
      this.deps.log.warn('a session’s endpoint could not be settled yet', { session_id: session, err });
      if (isCurrent()) this.#ways.get(session)?.delete(key);
    }
  }

  #units(units: readonly Unit[], record: SessionRecord): readonly Unit[] {
    const update = record.desired.find((one) => one.kind === 'relay-update');
    const way = update && this.#ways.get(record.session)?.get(formatHostPort(update.endpoint));
    if (update === undefined || way === undefined) return units;
    return units.flatMap((unit): readonly Unit[] => {
      if (unit.kind !== 'peer') return [unit];
      if (way.kind === 'left') return [{ ...unit, endpoint: undefined }];
      const key = knockKey(this.deps.crypto, record.session, way.knocks);
      return [{ ...unit, endpoint: way.from }, knockingPeer(unit.device, key, update.endpoint)];
    });
  }
}
