import type { ClientConfig } from '../../config/types.js';
import type { BaseKey } from '../../core/ports/authority.js';
import type { Bytes } from '../../model/bytes.js';
import type { Exemption, InterfaceName } from '../../model/dataplane.js';
import type { SupernodeInfo } from '../../model/directory.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { ExitWish, SessionDigest } from '../../model/session.js';
import { type Millis, ms, plus, seconds } from '../../model/time.js';
import type { Line } from '../common/line.js';
import type { ForwardingPorts } from '../ports.js';
import type { OpenCarrier } from './carriage.js';
import { Comparing } from './comparing.js';
import { DnsKeeper } from './dns.js';
import { openAnywhere } from './elsewhere.js';
import type { ShutOut } from './held-session.js';
import { Keeper } from './keeper.js';
import { Orders } from './orders.js';
import { askForPath } from './path-asked.js';
import { Protection } from './protection.js';
import { Releases } from './releases.js';
import { BY_HAND, type Leaving, Rotation } from './rotation.js';
import { Standby, type TunnelWish } from './standby.js';
import { checkStep } from './steps.js';
import { Survival } from './survival.js';
import { type HeldTunnel, hasSession } from './tunnel.js';
import { slotDevices, type Tunnels } from './tunnels.js';

export interface ConnectionDeps {
  readonly config: ClientConfig;
  readonly ports: ForwardingPorts;
  readonly baseKey: BaseKey;
  readonly revocations: ShutOut;
  readonly supernodes: () => readonly SupernodeInfo[];
  /** What else is reached beside the tunnels. */
  readonly besides: () => readonly Exemption[];
  readonly lines: () => readonly Line[];
  readonly main: () => Line;
  readonly lineTo: (supernode: PeerId) => Line | undefined;
  /** Keep a line to a second supernode. */
  readonly wantSecond: (want: boolean) => void;
  readonly openCarrier: OpenCarrier;
  readonly happened: (code: EventCode, text: string, session?: SessionId) => void;
  readonly changed: () => void;
}

/**
 * What the client does at present: `requesting` its first tunnel, `up`, or `waiting` for one while its user's wish
 * holds and traffic is held with it.
 */
export type Phase = 'idle' | 'requesting' | 'up' | 'waiting';

/** How long `vpnd up` waits for a supernode before it says that none is reached. */
const UPSTREAM_LIMIT: Millis = seconds(10);
const TEND_EVERY: Millis = seconds(1);

/**
 * The client's connection: one wish of its user, at most one tunnel that carries everything, a standby behind it, and
 * what retires. A tunnel that dies is replaced without asking anybody; what cannot be replaced holds its traffic.
 */
export class Connection {
  readonly keeper: Keeper;
  readonly tunnels: Tunnels;
  readonly protection: Protection;
  readonly dns: DnsKeeper;
  readonly orders: Orders;
  readonly #comparing: Comparing;
  readonly #releases: Releases;
  readonly #standby: Standby;
  readonly #survival: Survival;
  readonly #rotation: Rotation;
  #phase: Phase = 'idle';
  #why: VpndError | undefined;
  #wish: ExitWish | undefined;
  #lastChange = '';
  #turn: Promise<unknown> = Promise.resolve();
  #abort = new AbortController();
  #rotating = false;
  #cancelTend: () => void = () => {};
  #stopped = false;

  constructor(private readonly deps: ConnectionDeps) {
    const { config, ports } = deps;
    const { clock } = ports;
    this.protection = new Protection({
      config,
      dataplane: ports.dataplane,
      devices: slotDevices(config.interface),
      wanted: () => this.#wish !== undefined || this.#phase === 'requesting',
    });
    this.keeper = new Keeper({
      ...deps,
      protection: this.protection,
      privacy: () => this.#wish?.privacy ?? config.privacy,
      pulseChanged: (...news) => this.#survival.pulseChanged(...news),
      changed: (text) => this.#changed(text),
    });
    this.tunnels = this.keeper.tunnels;
    this.dns = new DnsKeeper({
      ...ports,
      dns: ports.dns,
      servers: config.dns,
      devices: slotDevices(config.interface),
      wanted: () => this.#carrier(),
      happened: deps.happened,
      changed: deps.changed,
    });
    this.#releases = new Releases(clock, {
      lineTo: deps.lineTo,
      tell: (supervisor, news) => this.keeper.tell(supervisor, news),
    });
    this.#standby = new Standby({
      ports,
      tunnels: this.tunnels,
      pulses: this.keeper.pulses,
      penalties: this.keeper.penalties,
      supernodes: deps.supernodes,
      lines: deps.lines,
      main: deps.main,
      wantSecond: deps.wantSecond,
      wish: () => (config.standby && !this.#stopped && !this.#rotating ? this.#wish : undefined),
      open: (what) => this.keeper.open(what),
      close: (slot, reason) => this.keeper.close(slot, reason),
      neededNow: () => this.#survival.failOver('a standby came up'),
      happened: deps.happened,
      changed: deps.changed,
    });
    this.#rotation = new Rotation({
      config,
      ports,
      tunnels: this.tunnels,
      standby: this.#standby,
      wish: () => this.#wish,
      signal: () => this.#abort.signal,
      lines: deps.lines,
      main: deps.main,
      wantSecond: deps.wantSecond,
      pause: (why) => this.#pause(why),
      open: (what) => this.keeper.open(what),
      close: (slot, reason) => this.keeper.close(slot, reason),
      over: (...to) => this.#over(...to),
    });
    this.#survival = new Survival({
      ports,
      keeper: this.keeper,
      standby: this.#standby,
      lines: deps.lines,
      main: deps.main,
      lineTo: deps.lineTo,
      keepsStandby: config.standby,
      wish: () => (this.#stopped ? undefined : this.#wish),
      phase: () => this.#phase,
      become: (...state) => this.#become(...state),
      open: (what) => this.#openAnywhere(what),
      over: (...to) => this.#over(...to),
      happened: deps.happened,
      changed: deps.changed,
    });
    this.#comparing = new Comparing({ ...ports, tunnels: this.tunnels, happened: deps.happened });
    this.orders = new Orders({
      log: ports.log,
      keeper: this.keeper,
      releases: this.#releases,
      standby: this.#standby,
      survival: this.#survival,
      revocations: deps.revocations,
      requesting: () => this.#phase === 'requesting',
      rotating: () => this.#rotating,
      rotate: (reason, leave) => this.rotate(reason, leave),
      happened: deps.happened,
      changed: deps.changed,
    });
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** Why there is no tunnel at present, or none that carries anything. */
  get why(): VpndError | undefined {
    return this.#why;
  }

  get lastChange(): string {
    return this.#lastChange;
  }

  /** Why there is no standby; undefined while there is one, or none is wanted. */
  get standbyProblem(): VpndError | undefined {
    return this.#standby.problem;
  }

  /** Take up what a process before this one left. */
  async start(): Promise<void> {
    const { clock, log } = this.deps.ports;
    this.#wish = this.keeper.record.wish();
    this.protection.start();
    const recorded = this.#wish === undefined ? [] : this.keeper.record.tunnels();
    const alive = recorded.filter(({ held }) => held.leaseUntil > clock.now());
    const active = alive.find(({ use }) => use === 'active') ?? alive.find(({ use }) => use === 'standby');
    for (const { slot, held, use } of alive) {
      this.tunnels.restore(slot, {
        held,
        use: slot === active?.slot ? 'active' : use === 'active' ? 'standby' : use,
        holds: false,
      });
    }
    const lost = recorded.find(({ use }) => use === 'active') ?? recorded[0];
    if (active === undefined && lost !== undefined) {
      this.tunnels.drop(lost.slot);
      this.tunnels.restore(lost.slot, { held: lost.held, use: 'active', holds: true });
    }
    const found = await this.tunnels.reconcile();
    await this.dns.now();
    this.#tend();
    if (active !== undefined) {
      log.info('took up the running session', { session_id: active.held.session, count: found.repaired.length });
      for (const tunnel of this.tunnels.held()) {
        this.keeper.pulses.watch(tunnel);
        if (tunnel.use === 'retiring') this.keeper.retirement.begin(tunnel.slot);
      }
      this.#become('up', undefined, 'the daemon was restarted');
      this.#rotation.schedule((reason) => this.rotate(reason));
      this.#standby.begin();
    } else if (this.#wish !== undefined) {
      this.#survival.hold(
        new VpndError('no-session', 'the session ended while this machine was away', { retryable: true }),
      );
    } else {
      this.keeper.record.forgetTunnels();
    }
  }

  /** Supernodes that own sessions of this client, the most important first. */
  homes(): readonly PeerId[] {
    const order = { active: 0, standby: 1, retiring: 2, dead: 3 } as const;
    const tunnels = [...this.tunnels.inForce()].sort((a, b) => order[a.use] - order[b.use]);
    const all = [...this.#releases.awaited(), ...tunnels.flatMap(({ held }) => held.supervisor ?? [])];
    return [...new Set(all)];
  }

  /** With `private`, the exit's own supernode: it refuses to be the first of the two. */
  lastChoice(): readonly PeerId[] {
    return this.#wish?.privacy === 'private' ? (this.tunnels.active()?.held.via.slice(1) ?? []) : [];
  }

  /** With `private`, the exit's own supernode is not to learn who its session is for, as long as that one works. */
  never(): readonly PeerId[] {
    return this.keeper.pulses.activeIsDead() ? [] : this.lastChoice();
  }

  /** What a supervisor is to know of: another's session is none of its business. */
  digest(supervisor: PeerId | undefined): readonly SessionDigest[] {
    return this.tunnels
      .inForce()
      .filter((one) => one.held.supervisor === supervisor)
      .map(({ held }) => ({ session: held.session, generation: held.generation }));
  }

  /**
   * Resolves when the tunnel carries the traffic. One that was up before is replaced, make before break; where that
   * fails it stays.
   */
  up(wish: ExitWish, signal: AbortSignal): Promise<void> {
    return this.#inTurn(async () => {
      const both = AbortSignal.any([signal, this.#abort.signal]);
      const before = this.tunnels.active();
      await this.#pause('another exit was asked for');
      if (before === undefined) this.#become('requesting', undefined, 'asked for an exit');
      // From here on nothing leaves in the open; it is written while the exit is asked for.
      const held = this.tunnels.commit();
      held.catch(() => {});
      const busy = before === undefined ? [] : this.tunnels.held().filter((one) => one.use === 'standby');
      try {
        await this.deps.main().upstream.whenUp(UPSTREAM_LIMIT, both);
        const use = before === undefined ? 'active' : 'standby';
        const tunnel = await this.#openAnywhere({ wish, use, signal: both });
        try {
          await held;
          this.keeper.record.keepWish(wish);
        } catch (thrown) {
          await this.keeper.close(tunnel.slot, toVpndError(thrown).code);
          if (before === undefined) this.keeper.record.forgetWish();
          throw thrown;
        }
        this.#wish = wish;
        for (const { slot } of busy) await this.keeper.close(slot, 'it was for another wish');
        if (before === undefined) {
          this.#started(tunnel);
          await this.dns.now();
        } else await this.#over(tunnel, before.holds ? 'dead' : 'retiring', 'connected', 'another exit was asked for');
      } catch (thrown) {
        if (before === undefined) {
          this.#become('idle', undefined, toVpndError(thrown).message);
          await this.#release();
        }
        throw thrown;
      } finally {
        this.#resume();
      }
    });
  }

  /** Nothing is left here afterwards; says whether nothing is left elsewhere either. */
  down(): Promise<{ readonly wasUp: boolean; readonly releasedEverywhere: boolean }> {
    this.#abort.abort(new VpndError('closed', 'vpnd down was asked for'));
    return this.#inTurn(async () => {
      this.#abort = new AbortController();
      await this.#pause('vpnd down');
      this.#rotation.cancel();
      this.#standby.end();
      this.#wish = undefined;
      this.keeper.record.forgetWish();
      // First: without the tunnel its resolvers would be asked from this machine's own address.
      await this.dns.now();
      const wasUp = this.tunnels.held().length > 0;
      const sessions = this.tunnels.inForce();
      await this.keeper.closeAll();
      const released = await Promise.all(sessions.map(({ held }) => this.#releases.release(held, 'vpnd down')));
      this.#become('idle', undefined, 'vpnd down');
      if (wasUp) this.deps.happened('disconnected', 'vpnd down');
      return { wasUp, releasedEverywhere: released.every(Boolean) };
    });
  }

  /** Lockdown: traffic is held without a wish and without a daemon. Rejects with what the data plane rejects with. */
  lockDown(on: boolean): Promise<void> {
    return this.#inTurn(async () => {
      const before = this.protection.lockdown;
      this.protection.lockdown = on;
      try {
        // Compared, and not only changed: this is when somebody wants to be sure.
        await this.tunnels.reconcile();
      } catch (thrown) {
        this.protection.lockdown = before;
        await this.#release();
        throw thrown;
      }
      this.deps.changed();
    });
  }

  /** Go over to another exit, make before break; rejects as `Rotation.rotate` does. */
  rotate(reason: string, leave: Leaving = BY_HAND): Promise<void> {
    return this.#inTurn(async () => {
      this.#rotating = true;
      try {
        await this.#rotation.rotate(reason, leave);
      } finally {
        this.#resume();
      }
    });
  }

  /** `vpnd path`; rejects with `bad-config` where privacy forbids it, `no-session`, or as `askForPath` does. */
  async setPath(path: 'auto' | 'direct' | 'relay', signal: AbortSignal): Promise<void> {
    const privacy = this.#wish?.privacy ?? this.deps.config.privacy;
    if (path === 'direct' && privacy === 'private' && this.tunnels.active()?.holds === false) {
      throw new VpndError('bad-config', 'with --privacy private a session never goes direct');
    }
    await askForPath({ clock: this.deps.ports.clock, keeper: this.keeper }, path, signal);
  }

  renewed(session: SessionId, generation: number, lease: Millis): void {
    const tunnel = this.tunnels.withSession(session);
    if (tunnel === undefined) return;
    const leaseUntil = plus(this.keeper.leases.now(), lease);
    this.tunnels.put({ ...tunnel, held: { ...tunnel.held, generation, leaseUntil } });
    this.keeper.record.tryKeepTunnels(this.tunnels);
  }

  datagrams(session: SessionId, packets: readonly Bytes[], supervisor: PeerId): void {
    this.keeper.carriage.deliver(session, packets, supervisor);
  }

  /**
   * Before a supernode is dialled: what leads to it must be exempt by then. A stream that began inside the tunnel breaks
   * when the exemption comes, and is missed only after half a minute. Never rejects.
   */
  async exempt(): Promise<void> {
    if (this.tunnels.all().length === 0 && !this.protection.isOn) return;
    await this.tunnels.commit().catch((err: unknown) => {
      this.deps.ports.log.warn('the way to a supernode could not be taken out of the tunnel', { err });
    });
  }

  /** A line came up, or the supernodes changed: what is exempt from the tunnel follows. */
  async lineUp(): Promise<void> {
    this.#releases.lineUp();
    this.keeper.paths.lineUp();
    if (this.tunnels.all().length > 0 || this.protection.isOn) await this.tunnels.commit();
    if (!this.#survival.now()) this.#standby.lineUp();
  }

  /** The network underneath is another, or the machine slept: nothing that was known of paths counts. */
  async networkChanged(why: string): Promise<void> {
    this.keeper.paths.networkChanged();
    this.keeper.carriage.networkChanged();
    this.keeper.penalties.forget();
    for (const { slot } of this.tunnels.held()) {
      // As it is now: much may happen to one while another is moved.
      const tunnel = this.tunnels.get(slot);
      if (tunnel !== undefined && hasSession(tunnel) && tunnel.held.path === 'direct') {
        await this.keeper.paths.backToRelay(tunnel, why);
      }
    }
    this.keeper.pulses.bePatient(PATIENCE);
    this.keeper.handshakes.networkChanged();
    // Whoever set that network up has likely set its resolvers, too.
    void this.dns.now();
    this.#survival.expire();
    this.#survival.now();
    this.deps.changed();
  }

  /** Leaves the tunnels as they are. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTend();
    this.#rotation.cancel();
    const closed = new VpndError('closed', 'the client is stopping');
    this.#abort.abort(closed);
    await Promise.all([this.#standby.giveUp(closed), this.#survival.giveUp(closed)]);
    await this.#turn.catch(() => {});
    await this.dns.stop();
    // What stays on record is taken up at the next start, as if `down` had never been said.
    this.keeper.record.tidy();
    this.keeper.stop();
  }

  // ——— tunnels come and go

  #openAnywhere(what: TunnelWish): Promise<HeldTunnel> {
    const open = (one: TunnelWish) => this.keeper.open(one);
    return openAnywhere({ ...this.deps, clock: this.deps.ports.clock, open }, what);
  }

  #started(tunnel: HeldTunnel): void {
    const { exit, path, session } = tunnel.held;
    this.#become('up', undefined, `connected to exit ${shortId(exit)} over ${path}`);
    this.deps.happened('connected', `to exit ${shortId(exit)} over ${path}`, session);
    this.deps.ports.metrics.tunnelChanges.inc({ what: 'connected' });
    this.#rotation.schedule((reason) => this.rotate(reason));
    this.#standby.begin();
  }

  async #over(to: HeldTunnel, old: 'retiring' | 'dead', code: EventCode, reason: string): Promise<void> {
    const text = await this.keeper.over(to, old, code, reason);
    this.#become('up', undefined, text);
    void this.dns.now();
    this.#rotation.schedule((why) => this.rotate(why));
    this.#standby.begin(AFTER_CHANGE);
  }

  /** The tunnel that names go through, as all traffic does: one that holds it, too. */
  #carrier(): InterfaceName | undefined {
    if (this.#wish === undefined) return undefined;
    return this.tunnels.active()?.device ?? this.tunnels.all()[0]?.device ?? this.deps.config.interface;
  }

  // ——— once in a while

  #tend(): void {
    if (this.#stopped) return;
    this.#cancelTend = this.deps.ports.clock.after(TEND_EVERY, () => {
      void this.#look()
        .catch((err: unknown) => this.deps.ports.log.warn('looking after the tunnels failed', { err }))
        .finally(() => this.#tend());
    });
  }

  async #look(): Promise<void> {
    this.keeper.record.tidy();
    this.#survival.expire();
    await this.keeper.retirement.look();
    await this.keeper.carriage.look();
    this.#standby.look();
    this.#survival.nudge();
    this.keeper.rekeying.look();
    this.dns.look();
    if (this.#phase !== 'idle' || this.protection.isOn) await this.#comparing.look();
  }

  /** The user's wish came to nothing: what held the traffic for it goes. */
  async #release(): Promise<void> {
    await this.tunnels.commit().catch(async (err: unknown) => {
      this.deps.ports.log.warn('what held the traffic is still there; it is tried again', { err });
      await this.tunnels.reconcile().catch(() => {});
    });
  }

  /** Nothing in the background while the user's own wish is carried out. */
  async #pause(why: string): Promise<void> {
    this.#rotating = true;
    const reason = new VpndError('closed', why);
    await Promise.all([this.#standby.giveUp(reason), this.#survival.giveUp(reason)]);
  }

  #resume(): void {
    this.#rotating = false;
    if (!this.#survival.now() && this.#phase === 'up') this.#standby.begin();
  }

  #changed(text: string): void {
    this.#lastChange = text;
    this.deps.changed();
  }

  #become(phase: Phase, why: VpndError | undefined, change: string): void {
    checkStep(this.deps.ports.log, 'connection', this.#phase, phase);
    this.#phase = phase;
    this.#why = why;
    this.#changed(change);
  }

  /** One wish of the user at a time: up, down and rotate would otherwise meet half-way. */
  #inTurn<T>(task: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(task, task);
    this.#turn = result.catch(() => {});
    return result;
  }
}

/** What a failover was due to is known by then: which exits and supernodes will do for the next standby. */
const AFTER_CHANGE: Millis = seconds(1);
/** After a change of networks: a stream has to come up, an address to be vouched for, a relay to be set up again. */
const PATIENCE: Millis = ms(1_500);
