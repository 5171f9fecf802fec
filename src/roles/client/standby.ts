import { sleep } from '../../core/ports/clock.js';
import type { SupernodeInfo } from '../../model/directory.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { ExitWish } from '../../model/session.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import type { Line } from '../common/line.js';
import type { ForwardingPorts } from '../ports.js';
import { probeTunnel } from './monitor.js';
import type { Penalties } from './penalties.js';
import type { Pulses } from './pulses.js';
import { Seeker } from './seeker.js';
import type { HeldTunnel } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

/** How long a standby waits for the second stream before it goes over the first. */
const SECOND_LINE_PATIENCE: Millis = seconds(5);
/** A standby beside the active tunnel's own supernode is replaced when another supernode is there. */
const BETTER_AFTER: Millis = seconds(60);
const PROBE_LIMIT: Millis = seconds(1);

/** What is asked of `openTunnel` besides what every tunnel of this client has in common. */
export interface TunnelWish {
  readonly wish: ExitWish;
  readonly use: 'active' | 'standby';
  readonly signal: AbortSignal;
  readonly line?: Line;
  readonly avoidExits?: readonly PeerId[];
  readonly avoidSupernodes?: readonly PeerId[];
}

export interface StandbyDeps {
  readonly ports: ForwardingPorts;
  readonly tunnels: Tunnels;
  readonly pulses: Pulses;
  readonly penalties: Penalties;
  readonly supernodes: () => readonly SupernodeInfo[];
  readonly lines: () => readonly Line[];
  readonly main: () => Line;
  readonly wantSecond: (want: boolean) => void;
  /** What the user wished for; undefined while no standby is to be had. */
  readonly wish: () => ExitWish | undefined;
  readonly open: (what: TunnelWish) => Promise<HeldTunnel>;
  readonly close: (slot: number, reason: string) => Promise<void>;
  /** A standby came up, and what it stands by for is dead already. */
  readonly neededNow: () => void;
  readonly happened: (code: EventCode, text: string, session: SessionId) => void;
  readonly changed: () => void;
}

/** Keeps a second tunnel ready: to another exit, over other supernodes where there are any. */
export class Standby {
  readonly #seeker: Seeker;
  #secondSince: Millis | undefined;
  #readyAt: Millis = ms(0);

  constructor(private readonly deps: StandbyDeps) {
    const { clock, log } = deps.ports;
    this.#seeker = new Seeker(clock, {
      first: seconds(5),
      longest: seconds(60),
      wanted: () => this.isWanted(),
      attempt: (signal) => this.#seek(signal),
      failed: (error) => log.debug('no standby yet', { code: error.code, reason: error.message }),
    });
  }

  current(): HeldTunnel | undefined {
    return this.deps.tunnels.held().find((one) => one.use === 'standby');
  }

  /** Why there is none; undefined while there is one, or none is wanted. */
  get problem(): VpndError | undefined {
    return this.isWanted() ? this.#seeker.lastError : undefined;
  }

  isWanted(): boolean {
    const { tunnels, pulses, wish } = this.deps;
    const active = tunnels.active();
    if (wish() === undefined || active === undefined || active.holds) return false;
    return pulses.of(active.slot) === 'alive' && this.current() === undefined;
  }

  /** The active tunnel is another one: a stream to a second supernode is worth having before it is needed. */
  begin(): void {
    if (this.deps.wish() === undefined) return;
    this.deps.wantSecond(true);
    this.#secondSince ??= this.deps.ports.clock.monotonic();
    this.#seeker.now();
  }

  end(): void {
    this.deps.wantSecond(false);
    this.#secondSince = undefined;
  }

  now(): void {
    this.#seeker.now();
  }

  nudge(): void {
    this.#seeker.nudge();
  }

  /** A line came up: what failed without it may work now. */
  lineUp(): void {
    if (this.#seeker.lastError !== undefined) this.#seeker.now();
  }

  giveUp(reason: VpndError): Promise<void> {
    return this.#seeker.giveUp(reason);
  }

  /** The standby, if it will do and answers at this moment. */
  async ready(avoid: readonly PeerId[], leaving: PeerId | undefined): Promise<HeldTunnel | undefined> {
    const standby = this.current();
    if (standby?.held.connectedAfter === undefined || avoid.includes(standby.held.exit)) return undefined;
    if (leaving !== undefined && standby.held.supervisor === leaving) return undefined;
    const answered = await probeTunnel(this.deps.ports.reach, standby.held.inner, PROBE_LIMIT);
    return answered === undefined ? undefined : standby;
  }

  /** Once in a while: is there one, and is there a better one? */
  look(): void {
    if (this.isWanted()) this.#seeker.nudge();
    const { tunnels, ports, lines } = this.deps;
    const active = tunnels.active();
    const standby = this.current();
    if (active === undefined || standby === undefined || this.#seeker.busy || this.deps.wish() === undefined) return;
    // One that shares its supernode with the active tunnel goes down with it.
    if (standby.held.supervisor !== active.held.supervisor) return;
    if (ports.clock.monotonic() - this.#readyAt < BETTER_AFTER) return;
    if (!lines().some((line) => line.isUp() && line.supervisor() !== active.held.supervisor)) return;
    this.#readyAt = ports.clock.monotonic();
    void this.deps.close(standby.slot, 'another supernode is there for it').then(() => this.#seeker.now());
  }

  async #seek(signal: AbortSignal): Promise<void> {
    const { tunnels, penalties, ports } = this.deps;
    const active = tunnels.active();
    const wish = this.deps.wish();
    if (active === undefined || wish === undefined) return;
    const { exit, supervisor, via } = active.held;
    const line = await this.#secondLine(supervisor, signal);
    const penalised = penalties.current().filter((one) => one !== exit);
    const tries: PeerId[][] = wish.exit === undefined ? [[exit, ...penalised]] : [];
    if (wish.exit === undefined && penalised.length > 0) tries.push([exit]);
    // The same exit by another way outlives a relay, if not the exit.
    if (line.supervisor() !== supervisor) tries.push([]);
    let last = new VpndError('no-exit', 'one exit was asked for, and one supernode is there', { retryable: true });
    for (const avoidExits of tries) {
      try {
        const tunnel = await this.deps.open({ wish, use: 'standby', signal, line, avoidExits, avoidSupernodes: via });
        this.#readyAt = ports.clock.monotonic();
        this.deps.happened(
          'standby-ready',
          `exit ${shortId(tunnel.held.exit)} over ${tunnel.held.path}`,
          tunnel.held.session,
        );
        this.deps.changed();
        if (this.deps.pulses.activeIsDead()) this.deps.neededNow();
        return;
      } catch (thrown) {
        signal.throwIfAborted();
        last = toVpndError(thrown);
      }
    }
    throw last;
  }

  /** A line to another supernode than this one; the main one when none comes up in time. */
  async #secondLine(than: PeerId | undefined, signal: AbortSignal): Promise<Line> {
    const { clock } = this.deps.ports;
    const other = () => this.deps.lines().find((line) => line.isUp() && line.supervisor() !== than);
    const possible = this.deps.supernodes().some((one) => one.id !== than && !one.draining);
    const until = (this.#secondSince ?? 0) + SECOND_LINE_PATIENCE;
    while (other() === undefined && possible && clock.monotonic() < until) await sleep(clock, ms(100), signal);
    return other() ?? this.deps.main();
  }
}
