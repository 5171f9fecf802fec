import type { ClientConfig } from '../../config/types.js';
import type { Pulse } from '../../core/liveness.js';
import type { BaseKey } from '../../core/ports/authority.js';
import type { Clock } from '../../core/ports/clock.js';
import { steadyClock } from '../../core/steady-clock.js';
import type { Exemption, PeerObservation } from '../../model/dataplane.js';
import type { SupernodeInfo } from '../../model/directory.js';
import { VpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { News } from '../../model/messages.js';
import type { Privacy } from '../../model/role.js';
import { type Millis, ms } from '../../model/time.js';
import { Erasing } from '../common/erasing.js';
import type { Line } from '../common/line.js';
import type { ForwardingPorts } from '../ports.js';
import { Carriage, type OpenCarrier } from './carriage.js';
import { supernodeExemptions } from './exemptions.js';
import { Handshakes } from './handshakes.js';
import type { ShutOut } from './held-session.js';
import { KemPairs } from './kem-pairs.js';
import { openTunnel } from './opening.js';
import { Paths } from './paths.js';
import { Penalties } from './penalties.js';
import type { Protection } from './protection.js';
import { Pulses } from './pulses.js';
import { ClientRecord } from './record.js';
import { Rekeying } from './rekey.js';
import { Retirement } from './retirement.js';
import type { TunnelWish } from './standby.js';
import { type HeldTunnel, isInForce } from './tunnel.js';
import { Tunnels } from './tunnels.js';

/** A supernode that takes longer to accept a connection is no help in need. */
const TCP_LIMIT: Millis = ms(500);

export interface KeeperDeps {
  readonly config: ClientConfig;
  readonly ports: ForwardingPorts;
  readonly baseKey: BaseKey;
  readonly besides: () => readonly Exemption[];
  readonly revocations: ShutOut;
  readonly supernodes: () => readonly SupernodeInfo[];
  readonly main: () => Line;
  readonly lineTo: (supernode: PeerId) => Line | undefined;
  readonly openCarrier: OpenCarrier;
  readonly privacy: () => Privacy;
  readonly protection: Protection;
  readonly happened: (code: EventCode, text: string, session?: SessionId) => void;
  readonly pulseChanged: (session: SessionId, pulse: Pulse, before: Pulse) => void;
  /** What a person reads as the last change of the tunnel in use. */
  readonly changed: (text: string) => void;
}

/** What can be done with tunnels: open one, go over to another, close one. When to do it is the connection's business. */
export class Keeper {
  /** What leases are counted by. */
  readonly leases: Clock;
  readonly tunnels: Tunnels;
  readonly record: ClientRecord;
  readonly penalties: Penalties;
  readonly pulses: Pulses;
  readonly paths: Paths;
  readonly handshakes: Handshakes;
  readonly carriage: Carriage;
  readonly retirement: Retirement;
  readonly rekeying: Rekeying;
  readonly #erasing: Erasing;
  readonly #pairs: KemPairs;

  constructor(private readonly deps: KeeperDeps) {
    const { config, ports, lineTo } = deps;
    const { clock, log } = ports;
    const tunnels = new Tunnels(
      config,
      ports.dataplane,
      () => [...supernodeExemptions(deps.supernodes()), ...deps.besides()],
      log,
      deps.protection,
    );
    const tell = (supervisor: PeerId | undefined, news: News) => this.tell(supervisor, news);
    const happened = (code: EventCode, text: string, session: SessionId) => this.#happened(code, text, session);
    this.leases = steadyClock(clock);
    this.tunnels = tunnels;
    this.record = new ClientRecord(ports.store.facts, log);
    this.penalties = new Penalties(clock);
    this.pulses = new Pulses(ports, tunnels, deps.pulseChanged);
    this.paths = new Paths({
      ports,
      tunnels,
      keep: () => this.record.tryKeepTunnels(tunnels),
      roundTrip: (slot) => this.pulses.roundTrip(slot),
      quietFor: (slot) => this.pulses.quietFor(slot),
      privacy: deps.privacy,
      tell,
      happened,
    });
    const userspace = ports.dataplane.engine === 'userspace';
    const observe = () => this.observe();
    this.handshakes = new Handshakes({ clock, log, tunnels, pulses: this.pulses, userspace, observe });
    const pulse = (slot: number) => this.pulses.of(slot);
    this.#erasing = new Erasing(ports);
    this.#pairs = new KemPairs(config.pq, ports.crypto);
    this.rekeying = new Rekeying({
      ports,
      pq: config.pq,
      tunnels,
      pairs: this.#pairs,
      lineTo,
      keep: () => {
        this.record.tryKeepTunnels(tunnels);
        this.#erasing.soon();
      },
      happened,
    });
    const answersTcp = (supernode: PeerId) => this.answersTcp(supernode);
    const open = deps.openCarrier;
    this.carriage = new Carriage({ ports, tunnels, open, lineTo, pulse, answersTcp, tell, happened });
    this.retirement = new Retirement(ports, tunnels, (slot, reason) => this.close(slot, reason));
  }

  /** A tunnel beside those there are; rejects as `openTunnel` does. */
  async open(what: TunnelWish): Promise<HeldTunnel> {
    this.retirement.makeRoom();
    const tunnel = await openTunnel(
      {
        ports: this.deps.ports,
        baseKey: this.deps.baseKey,
        revocations: this.deps.revocations,
        tunnels: this.tunnels,
        leases: this.leases,
        keep: () => this.record.keepTunnels(this.tunnels),
        close: (supervisor, session, reason) => this.tell(supervisor, { kind: 'session-closed', session, reason }),
        carry: (one) => this.carriage.carry(one),
        answersTcp: (supernode) => this.answersTcp(supernode),
        pq: this.deps.config.pq,
        pairs: this.#pairs,
        granted: ({ held, use }) => {
          if (use === 'active') this.deps.changed(`exit ${shortId(held.exit)} was granted`);
        },
      },
      {
        wish: what.wish,
        use: what.use,
        probe: what.use !== 'active',
        line: what.line ?? this.deps.main(),
        avoidExits: what.avoidExits ?? [],
        avoidSupernodes: what.avoidSupernodes ?? [],
        signal: what.signal,
      },
    );
    this.record.tryKeepTunnels(this.tunnels);
    this.pulses.watch(tunnel);
    return tunnel;
  }

  /**
   * The one step of every change: another tunnel carries the traffic from here on. Resolves with the change as a text
   * for people; rejects with `closed` when that tunnel is gone.
   */
  async over(to: HeldTunnel, old: 'retiring' | 'dead', code: EventCode, reason: string): Promise<string> {
    const { log, metrics } = this.deps.ports;
    const from = this.tunnels.active();
    const next = this.tunnels.withSession(to.held.session);
    if (next === undefined) {
      throw new VpndError('closed', 'the new tunnel was taken down meanwhile', { retryable: true });
    }
    if (from !== undefined) this.tunnels.put({ ...from, use: old });
    this.tunnels.put({ ...next, use: 'active' });
    this.retirement.forget(next.slot);
    try {
      await this.tunnels.commit();
    } catch (thrown) {
      log.warn('the change of tunnels failed; it is tried again', { err: thrown });
      await this.tunnels.reconcile();
    }
    if (from !== undefined) this.#leave(from, old, code);
    this.record.tryKeepTunnels(this.tunnels);
    const where = `to exit ${shortId(next.held.exit)} over ${next.held.path}: ${reason}`;
    const text = `${VERBS[code] ?? 'connected'} ${where}`;
    this.deps.happened(code, where, next.held.session);
    metrics.tunnelChanges.inc({ what: code });
    return text;
  }

  async close(slot: number, reason: string): Promise<void> {
    const tunnel = this.tunnels.get(slot);
    if (tunnel === undefined) return;
    this.pulses.unwatch(slot);
    this.retirement.forget(slot);
    this.carriage.close(slot);
    this.tunnels.drop(slot);
    if (isInForce(tunnel)) {
      const { session, supervisor } = tunnel.held;
      this.tell(supervisor, { kind: 'session-closed', session, reason });
    }
    await this.tunnels.commit().catch((err: unknown) => this.deps.ports.log.warn('a tunnel is still there', { err }));
    this.record.tryKeepTunnels(this.tunnels);
    this.#erasing.soon();
  }

  /** Everything at once, kernel included. */
  async closeAll(): Promise<void> {
    this.pulses.unwatchAll();
    this.retirement.clear();
    this.carriage.closeAll();
    this.penalties.forget();
    this.tunnels.dropAll();
    await this.tunnels.reconcile();
    this.record.forgetTunnels();
    this.#erasing.soon();
  }

  /** Leaves the tunnels as they are. */
  stop(): void {
    this.pulses.unwatchAll();
    this.carriage.closeAll();
    this.#erasing.stop();
  }

  /** False when its stream is not there to tell it on. */
  tell(supervisor: PeerId | undefined, news: News): boolean {
    const line = supervisor === undefined ? this.deps.main() : this.deps.lineTo(supervisor);
    return line?.upstream.tell(news) === 'sent';
  }

  /** Whether a supernode's machine is there, whatever its stream says. */
  async answersTcp(supernode: PeerId): Promise<boolean> {
    const at = this.deps.supernodes().find((one) => one.id === supernode)?.addresses[0];
    return at !== undefined && (await this.deps.ports.reach.tcp(at, { timeout: TCP_LIMIT })) !== undefined;
  }

  /** What WireGuard has counted, by slot. */
  async observe(): Promise<ReadonlyMap<number, PeerObservation>> {
    const peers = await this.deps.ports.dataplane.observePeers();
    const seen = new Map<number, PeerObservation>();
    for (const { slot, device, held } of this.tunnels.held()) {
      const peer = peers.find((one) => one.device === device && one.publicKey === held.exitKey);
      if (peer !== undefined) seen.set(slot, peer);
    }
    return seen;
  }

  #leave(from: HeldTunnel, old: 'retiring' | 'dead', code: EventCode): void {
    this.retirement.begin(from.slot);
    if (old === 'retiring') return;
    const { session, supervisor, inner } = from.held;
    this.pulses.unwatch(from.slot);
    this.carriage.close(from.slot);
    void this.deps.ports.dataplane.resetConnections([inner.ipv4, inner.ipv6]);
    if (!from.holds) this.tell(supervisor, { kind: 'session-closed', session, reason: code });
  }

  #happened(code: EventCode, text: string, session: SessionId): void {
    this.deps.happened(code, text, session);
    if (this.tunnels.withSession(session)?.use === 'active') this.deps.changed(text);
  }
}

const VERBS: Readonly<Partial<Record<EventCode, string>>> = { 'failed-over': 'failed over', rotated: 'rotated' };
