import { sleep } from '../../core/ports/clock.js';
import type { SupernodeInfo } from '../../model/directory.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { ExitWish } from '../../model/session.js';
import { type Millis, minutes, ms, seconds } from '../../model/time.js';
import type { Line } from '../common/line.js';
import type { ForwardingPorts } from '../ports.js';
import { upElsewhere } from './elsewhere.js';
import { probeTunnel } from './monitor.js';
import type { Penalties } from './penalties.js';
import type { Pulses } from './pulses.js';
import { Seeker } from './seeker.js';
import type { HeldTunnel } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

/** How long a standby waits for the second stream before it goes over the first. */
const SECOND_LINE_PATIENCE: Millis = seconds(5);
/** How soon a better one is looked for, where the standby shares its exit or its supernode with the active tunnel. */
const BETTER_AFTER: Millis = seconds(10);
const BETTER_RARELY: Millis = minutes(10);
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
  readonly #improver: Seeker;
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
    this.#improver = new Seeker(clock, {
      first: BETTER_AFTER,
      longest: BETTER_RARELY,
      wanted: () => this.#sharesFate() && clock.monotonic() - this.#readyAt >= BETTER_AFTER,
      attempt: (signal) => this.#improve(signal),
      failed: (error) => log.debug('no better standby', { code: error.code, reason: error.message }),
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
  begin(soon: Millis = ms(0)): void {
    if (this.deps.wish() === undefined) return;
    this.deps.wantSecond(true);
    this.#secondSince ??= this.deps.ports.clock.monotonic();
    this.#seeker.now(soon);
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

  async giveUp(reason: VpndError): Promise<void> {
    await Promise.all([this.#seeker.giveUp(reason), this.#improver.giveUp(reason)]);
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
    this.#improver.nudge();
  }

  /** Whether what ends the active tunnel may well end its standby too, and it could be otherwise. */
  #sharesFate(): boolean {
    const active = this.deps.tunnels.active();
    const standby = this.current();
    const wish = this.deps.wish();
    if (active === undefined || standby?.held.connectedAfter === undefined || wish === undefined) return false;
    if (active.holds || this.deps.tunnels.all().length > 2 || this.#seeker.busy) return false;
    if (standby.held.exit === active.held.exit && wish.exit === undefined) return true;
    const { supervisor } = active.held;
    if (standby.held.supervisor === supervisor) return this.#elsewhere(supervisor) !== undefined;
    return isOver(standby, supervisor);
  }

  /** A better one beside it first, so that there is always one. */
  async #improve(signal: AbortSignal): Promise<void> {
    const active = this.deps.tunnels.active();
    const standby = this.current();
    const wish = this.deps.wish();
    if (active === undefined || standby === undefined || wish === undefined) return;
    this.#readyAt = this.deps.ports.clock.monotonic();
    const { exit, supervisor, via } = active.held;
    const line = this.#elsewhere(supervisor) ?? this.deps.main();
    const avoidExits = wish.exit === undefined ? [exit, ...this.deps.penalties.current()] : [];
    const better = await this.deps.open({ wish, use: 'standby', signal, line, avoidExits, avoidSupernodes: via });
    if (better.held.exit === exit || better.held.supervisor === supervisor || isOver(better, supervisor)) {
      await this.deps.close(better.slot, 'it is no better than the standby there is');
      throw new VpndError('no-exit', 'every other way shares something with the tunnel in use', { retryable: true });
    }
    this.#ready(better);
    await this.deps.close(standby.slot, 'there is a better standby');
  }

  #elsewhere(than: PeerId | undefined): Line | undefined {
    return upElsewhere(this.deps.lines(), than);
  }

  #ready(tunnel: HeldTunnel): void {
    const { exit, path, session } = tunnel.held;
    this.#readyAt = this.deps.ports.clock.monotonic();
    this.deps.happened('standby-ready', `exit ${shortId(exit)} over ${path}`, session);
    this.deps.changed();
  }

  async #seek(signal: AbortSignal): Promise<void> {
    const { tunnels, penalties } = this.deps;
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
        this.#ready(tunnel);
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
    const other = () => this.#elsewhere(than);
    const possible = this.deps.supernodes().some((one) => one.id !== than && !one.draining);
    const until = (this.#secondSince ?? 0) + SECOND_LINE_PATIENCE;
    while (other() === undefined && possible && clock.monotonic() < until) await sleep(clock, ms(100), signal);
    return other() ?? this.deps.main();
  }
}

/** Whether a tunnel's packets cross this supernode. */
const isOver = (tunnel: HeldTunnel, supernode: PeerId | undefined): boolean =>
  supernode !== undefined && tunnel.held.via.includes(supernode);
