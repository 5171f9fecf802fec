import type { Pulse } from '../../core/liveness.js';
import { decideWay } from '../../core/udp-fallback.js';
import type { Bytes } from '../../model/bytes.js';
import type { EventCode } from '../../model/event.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { News } from '../../model/messages.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import type { Line } from '../common/line.js';
import type { ForwardingPorts } from '../ports.js';
import type { Carrier, openCarrier } from './carrier.js';
import { type HeldTunnel, hasSession } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

export type OpenCarrier = (options: Parameters<typeof openCarrier>[0]) => Promise<Carrier>;

/** What left the stream for UDP has this long to hear something. */
const TRIAL: Millis = seconds(3);
/** What is under way inside the stream still arrives. */
const LATE: Millis = seconds(2);

interface Carried {
  readonly session: SessionId;
  readonly supervisor: PeerId;
  readonly carrier: Carrier;
  readonly since: Millis;
}

export interface CarriageDeps {
  readonly ports: ForwardingPorts;
  readonly tunnels: Tunnels;
  readonly open: OpenCarrier;
  readonly lineTo: (supernode: PeerId) => Line | undefined;
  readonly pulse: (slot: number) => Pulse | undefined;
  readonly tell: (supervisor: PeerId | undefined, news: News) => boolean;
  readonly happened: (code: EventCode, text: string, session: SessionId) => void;
}

/**
 * Tunnels whose datagrams travel inside the stream to their supernode, since the network lets no UDP through: the last
 * resort, left as soon as UDP works (RFC 4787 calls such networks out of scope; they exist).
 */
export class Carriage {
  readonly #carried = new Map<number, Carried>();
  /** Returns to UDP that came to nothing, in this network. */
  #failures = 0;

  constructor(private readonly deps: CarriageDeps) {}

  /** False where it cannot be: the path is direct from the start, or the supernode's stream is away. */
  async carry(tunnel: HeldTunnel): Promise<boolean> {
    const { slot, held } = tunnel;
    const { supervisor, session } = held;
    if (this.#carried.has(slot)) return true;
    if (supervisor === undefined || held.relay === undefined || this.deps.lineTo(supervisor) === undefined)
      return false;
    const carrier = await this.deps.open({ session, line: () => this.deps.lineTo(supervisor) });
    const now = this.deps.tunnels.get(slot);
    if (now?.held?.session !== session || this.#carried.has(slot)) {
      carrier.close();
      return this.#carried.has(slot);
    }
    this.#carried.set(slot, { session, supervisor, carrier, since: this.deps.ports.clock.monotonic() });
    this.deps.tunnels.put({ ...now, carriedAt: carrier.endpoint, pin: undefined });
    await this.deps.tunnels.commit();
    this.deps.ports.metrics.tunnelChanges.inc({ what: 'path-stream' });
    this.deps.happened('path-stream', 'no UDP gets through: carried inside the stream to the supernode', session);
    return true;
  }

  /** A tunnel is silent, and its supernode is not reached by UDP either. */
  async udpIsBlocked(session: SessionId): Promise<void> {
    const tunnel = this.deps.tunnels.withSession(session);
    if (tunnel === undefined || tunnel.holds || this.deps.pulse(tunnel.slot) === 'alive') return;
    const line = tunnel.held.supervisor && this.deps.lineTo(tunnel.held.supervisor);
    const facts = {
      way: 'udp',
      sinceChange: ms(0),
      passes: false,
      udp: line?.udp(),
      streamUp: line !== undefined,
    } as const;
    if (decideWay({ ...facts, failures: this.#failures }) === 'udp') return;
    await this.carry(tunnel).catch((err: unknown) =>
      this.deps.ports.log.warn('a tunnel could not be carried', { err }),
    );
  }

  deliver(session: SessionId, packets: readonly Bytes[], supervisor: PeerId): void {
    for (const one of this.#carried.values()) {
      if (one.session === session && one.supervisor === supervisor) one.carrier.arrived(packets);
    }
  }

  /** Is UDP through again? */
  async look(): Promise<void> {
    const { clock } = this.deps.ports;
    for (const [slot, one] of [...this.#carried]) {
      const line = this.deps.lineTo(one.supervisor);
      const way = decideWay({
        way: 'stream',
        sinceChange: ms(clock.monotonic() - one.since),
        passes: this.deps.pulse(slot) === 'alive',
        udp: line?.udp(),
        streamUp: line !== undefined,
        failures: this.#failures,
      });
      if (way === 'udp') await this.#leave(slot, one);
    }
  }

  close(slot: number): void {
    this.#carried.get(slot)?.carrier.close();
    this.#carried.delete(slot);
  }

  closeAll(): void {
    for (const slot of [...this.#carried.keys()]) this.close(slot);
  }

  async #leave(slot: number, one: Carried): Promise<void> {
    const { clock } = this.deps.ports;
    const tunnel = this.deps.tunnels.get(slot);
    if (tunnel === undefined || !hasSession(tunnel) || tunnel.held.session !== one.session) return this.close(slot);
    const { session, supervisor } = tunnel.held;
    this.deps.tell(supervisor, { kind: 'session-path', session, path: 'relay', reason: 'UDP gets through again' });
    this.#carried.delete(slot);
    this.deps.tunnels.put({ ...tunnel, carriedAt: undefined });
    await this.deps.tunnels.commit();
    clock.after(LATE, () => one.carrier.close());
    this.deps.happened('path-relay', 'UDP gets through again', session);
    clock.after(TRIAL, () => {
      this.#failures = this.deps.pulse(slot) === 'alive' ? 0 : this.#failures + 1;
    });
  }

  /** What was learned of another network says nothing about this one. */
  networkChanged(): void {
    this.#failures = 0;
  }
}
