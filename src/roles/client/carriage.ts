import type { Pulse } from '../../core/liveness.js';
import { sleep } from '../../core/ports/clock.js';
import { decideWay } from '../../core/udp-fallback.js';
import type { Bytes } from '../../model/bytes.js';
import type { EventCode } from '../../model/event.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { News } from '../../model/messages.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import type { Line } from '../common/line.js';
import type { ForwardingPorts } from '../ports.js';
import type { Carrier, openCarrier } from './carrier.js';
import { probeTunnel } from './monitor.js';
import { type HeldTunnel, hasSession, isInForce } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

export type OpenCarrier = (options: Parameters<typeof openCarrier>[0]) => Promise<Carrier>;

/** What left the stream for UDP shows by this many probes whether it hears anything. */
const TRIALS = 2;
/** How long a supernode may take to put relays under a path that was granted direct. */
const RELAYED_LIMIT: Millis = seconds(3);
const RELAYED_LOOK: Millis = ms(50);
/** What is under way inside the stream still arrives. */
const LATE: Millis = seconds(2);

interface Carried {
  readonly session: SessionId;
  readonly supervisor: PeerId;
  readonly carrier: Carrier;
  readonly since: Millis;
  /** Whether UDP was probed since then: what was known before was wrong, or is of yesterday. */
  probed: boolean;
}

export interface CarriageDeps {
  readonly ports: ForwardingPorts;
  readonly tunnels: Tunnels;
  readonly open: OpenCarrier;
  readonly lineTo: (supernode: PeerId) => Line | undefined;
  readonly pulse: (slot: number) => Pulse | undefined;
  /** Whether a supernode's machine is there at all. */
  readonly answersTcp: (supernode: PeerId) => Promise<boolean>;
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

  /** False where it cannot be: the supernode's stream is away, or it has no relay for a session that was granted direct. */
  async carry(tunnel: HeldTunnel): Promise<boolean> {
    const { slot, held } = tunnel;
    const { supervisor, session } = held;
    if (this.#carried.has(slot)) return true;
    const line = supervisor && this.deps.lineTo(supervisor);
    if (supervisor === undefined || line === undefined) return false;
    if (held.relay === undefined && !(await this.#relayed(tunnel))) return false;
    const carrier = await this.deps.open({ session, line: () => this.deps.lineTo(supervisor) });
    const now = this.deps.tunnels.get(slot);
    if (now?.held?.session !== session || this.#carried.has(slot)) {
      carrier.close();
      return this.#carried.has(slot);
    }
    const one: Carried = {
      session,
      supervisor,
      carrier,
      since: this.deps.ports.clock.monotonic(),
      probed: false,
    };
    this.#carried.set(slot, one);
    void line.vouch().then((through) => {
      // Probes pass and WireGuard did not: such networks are asked again, but not at once.
      if (through) this.#failures = Math.max(this.#failures, 1);
      one.probed = true;
    });
    this.deps.tunnels.put({ ...now, carriedAt: carrier.endpoint, pin: undefined });
    await this.deps.tunnels.commit();
    this.deps.ports.metrics.tunnelChanges.inc({ what: 'path-stream' });
    this.deps.happened('path-stream', 'no UDP gets through: carried inside the stream to the supernode', session);
    return true;
  }

  /** A tunnel is silent, and its supernode is not reached by UDP either. */
  async udpIsBlocked(session: SessionId): Promise<void> {
    const tunnel = this.deps.tunnels.withSession(session);
    if (tunnel === undefined || !isInForce(tunnel) || this.deps.pulse(tunnel.slot) === 'alive') return;
    const line = tunnel.held.supervisor && this.deps.lineTo(tunnel.held.supervisor);
    const facts = {
      way: 'udp',
      sinceChange: ms(0),
      passes: false,
      udp: line?.udp(),
      streamUp: line !== undefined,
    } as const;
    if (decideWay({ ...facts, failures: this.#failures }) === 'udp') return;
    // A supernode that answers nothing at all is gone; its stream has only not noticed yet.
    if (tunnel.held.supervisor === undefined || !(await this.deps.answersTcp(tunnel.held.supervisor))) return;
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
        udp: one.probed ? line?.udp() : undefined,
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
    void this.#tried(slot, tunnel);
  }

  /** Whether UDP is what its probes said. */
  async #tried(slot: number, { held }: HeldTunnel): Promise<void> {
    for (let n = 0; n < TRIALS; n++) {
      if ((await probeTunnel(this.deps.ports.reach, held.inner)) !== undefined) {
        this.#failures = 0;
        return;
      }
    }
    const now = this.deps.tunnels.get(slot);
    if (now === undefined || !hasSession(now) || now.held.session !== held.session) return;
    this.#failures++;
    await this.carry(now).catch((err: unknown) => this.deps.ports.log.warn('a tunnel could not be carried', { err }));
  }

  /** A session that was granted direct gets relays, which alone can be played inside a stream. */
  async #relayed({ slot, held }: HeldTunnel): Promise<boolean> {
    const { clock } = this.deps.ports;
    const { session, supervisor } = held;
    const reason = 'no UDP gets through to the exit';
    if (!this.deps.tell(supervisor, { kind: 'session-path', session, path: 'relay', reason })) return false;
    const until = clock.monotonic() + RELAYED_LIMIT;
    while (clock.monotonic() < until) {
      const now = this.deps.tunnels.get(slot)?.held;
      if (now?.session !== session) return false;
      if (now.relay !== undefined) return true;
      await sleep(clock, RELAYED_LOOK);
    }
    return false;
  }

  /** What was learned of another network says nothing about this one. */
  networkChanged(): void {
    this.#failures = 0;
  }
}
