import type { Projection } from '../../core/executor.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Crypto } from '../../core/ports/crypto.js';
import type { Log } from '../../core/ports/log.js';
import type { SessionRecord } from '../../core/ports/store.js';
import { type Endpoint, formatHostPort, sameEndpoint } from '../../model/address.js';
import { toBase64, utf8 } from '../../model/bytes.js';
import type { Command } from '../../model/command.js';
import type { PeerObservation, PeerUnit, Unit } from '../../model/dataplane.js';
import type { SessionId } from '../../model/ids.js';
import type { WireGuardPublicKey } from '../../model/keys.js';
import { type Millis, seconds } from '../../model/time.js';

/** The client has come over by then, or said that it cannot. */
const OPEN_FOR: Millis = seconds(2);

export interface WayOpenerDeps {
  readonly clock: Clock;
  readonly crypto: Pick<Crypto, 'sha256'>;
  readonly log: Log;
  readonly observe: () => Promise<readonly PeerObservation[]>;
  readonly reproject: (session: SessionId, change: () => void) => Promise<void>;
}

/**
 * - `opening`: packets still go `from`; a second peer, which nobody answers for, knocks at the new endpoint out of the
 *   same port.
 * - `roamed`: the client came from an address that nobody had foreseen (its NAT has a port for each destination), and
 *   WireGuard has followed it: what was foreseen must not take it back.
 */
type Way = { readonly kind: 'opening'; readonly from: Endpoint | undefined } | { readonly kind: 'roamed' };
type Opening = Extract<Way, { kind: 'opening' }>;

/**
 * What RELAY_UPDATE does to an exit's kernel. An exit that simply sent to the new endpoint would lose what it sends until
 * the client is there, too: the client's NAT does not know it yet, or the new relay does not know the client. So the
 * way is only opened, by handshakes with a key that nobody has, which the exit's NAT and the new relay take for what
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
    const { endpoint: to } = desired;
    const now = before.find((unit) => unit.kind === 'peer');
    const ways = this.#ways.get(session) ?? new Map<string, Way>();
    this.#ways.set(session, ways);
    ways.delete(formatHostPort(to));
    if (now === undefined || sameEndpoint(now.endpoint, to)) return;
    const way: Opening = { kind: 'opening', from: now.endpoint };
    ways.set(formatHostPort(to), way);
    this.deps.clock.after(OPEN_FOR, () => void this.#opened(session, now, to, way));
  }

  async #opened(session: SessionId, { device, publicKey }: PeerUnit, to: Endpoint, way: Opening): Promise<void> {
    const key = formatHostPort(to);
    const isCurrent = () => this.#ways.get(session)?.get(key) === way;
    if (!isCurrent()) return;
    try {
      const peers = await this.deps.observe();
      const at = peers.find((one) => one.device === device && one.publicKey === publicKey)?.endpoint;
      const roamed = at !== undefined && !sameEndpoint(at, way.from) && !sameEndpoint(at, to);
      await this.deps.reproject(session, () => {
        if (!isCurrent()) return;
        this.#ways.get(session)?.delete(key);
        if (roamed) this.#ways.get(session)?.set(key, { kind: 'roamed' });
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
      if (way.kind === 'roamed') return [{ ...unit, endpoint: undefined }];
      return [{ ...unit, endpoint: way.from }, this.#knocking(unit, record.session, update.endpoint)];
    });
  }

  #knocking({ device, keepalive }: PeerUnit, session: SessionId, endpoint: Endpoint): PeerUnit {
    const publicKey = toBase64(this.deps.crypto.sha256(utf8(`vpnd/knock/${session}`))) as WireGuardPublicKey;
    return { kind: 'peer', device, publicKey, presharedKey: undefined, allowedIps: [], endpoint, keepalive };
  }
}
