import type { Pulse } from '../../core/liveness.js';
import { type Clock, sleep } from '../../core/ports/clock.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { ExitWish } from '../../model/session.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import type { Line } from '../common/line.js';
import type { ForwardingPorts } from '../ports.js';
import type { Phase } from './connection.js';
import type { Keeper } from './keeper.js';
import { Seeker } from './seeker.js';
import type { Standby, TunnelWish } from './standby.js';
import type { HeldTunnel } from './tunnel.js';

/** How long a silent tunnel has to answer once another could take its place. */
const LAST_CHANCE: Millis = ms(300);
/** How long one supernode has for a session and its handshake, while traffic is held: another may be quicker. */
const ATTEMPT_LIMIT: Millis = seconds(8);

/** How long a stream that is dialled at once may take, where no other leads anywhere. */
const REDIAL_LIMIT: Millis = seconds(2);

export interface SurvivalDeps {
  readonly ports: ForwardingPorts;
  readonly keeper: Keeper;
  readonly standby: Standby;
  readonly lines: () => readonly Line[];
  readonly main: () => Line;
  readonly lineTo: (supernode: PeerId) => Line | undefined;
  /** A tunnel that is not needed after all may stand by. */
  readonly keepsStandby: boolean;
  /** What the user wished for; undefined when nothing is to be done any more. */
  readonly wish: () => ExitWish | undefined;
  readonly phase: () => Phase;
  readonly become: (phase: Phase, why: VpndError | undefined, change: string) => void;
  /** Over whichever supernode can. */
  readonly open: (what: TunnelWish) => Promise<HeldTunnel>;
  readonly over: (to: HeldTunnel, old: 'retiring' | 'dead', code: EventCode, reason: string) => Promise<void>;
  readonly happened: (code: EventCode, text: string, session?: SessionId) => void;
  readonly changed: () => void;
}

/** What is done when a tunnel dies: another takes over, or the traffic is held and another is asked for. */
export class Survival {
  readonly #replacement: Seeker;

  constructor(private readonly deps: SurvivalDeps) {
    this.#replacement = new Seeker(deps.ports.clock, {
      first: ms(500),
      longest: seconds(30),
      wanted: () => this.#needsReplacement(),
      attempt: (signal) => this.#seekReplacement(signal),
      failed: (error) => {
        deps.ports.log.info('no new session yet', { code: error.code, reason: error.message });
        if (deps.phase() === 'waiting') deps.become('waiting', error, error.message);
      },
    });
  }

  /** Something may have changed for the better. False when nothing is needed. */
  now(): boolean {
    const needed = this.#needsReplacement();
    if (needed) this.#replacement.now();
    return needed;
  }

  nudge(): void {
    if (this.#needsReplacement()) this.#replacement.nudge();
  }

  giveUp(reason: VpndError): Promise<void> {
    return this.#replacement.giveUp(reason);
  }

  get #tunnels() {
    return this.deps.keeper.tunnels;
  }

  /** The active session is over, the wish is not: a tunnel that is ready takes over, or the traffic is held. */
  lose(why: VpndError): void {
    const active = this.#tunnels.active();
    if (active === undefined) return;
    this.deps.ports.log.warn('the session was lost', {
      session_id: active.held.session,
      code: why.code,
      reason: why.message,
    });
    this.deps.ports.metrics.tunnelChanges.inc({ what: 'lost' });
    this.#tunnels.put({ ...active, holds: true });
    this.deps.keeper.pulses.unwatch(active.slot);
    if (this.failOver(why.message)) return;
    this.#tunnels.commit().catch((err: unknown) => this.deps.ports.log.warn('a lost tunnel stays', { err }));
    this.deps.keeper.record.tryKeepTunnels(this.#tunnels);
    this.hold(why);
  }

  hold(why: VpndError): void {
    const first = this.deps.phase() !== 'waiting';
    this.deps.become('waiting', why, why.message);
    if (first) this.deps.happened('waiting', `traffic is held: ${why.message}`);
    this.#replacement.now();
  }

  pulseChanged(session: SessionId, pulse: Pulse, before: Pulse): void {
    const tunnel = this.#tunnels.withSession(session);
    if (tunnel === undefined || this.deps.wish() === undefined) return;
    if (tunnel.use === 'active') this.#activePulse(tunnel, pulse, before);
    else if (pulse === 'dead') this.#spareDied(tunnel);
    else if (pulse === 'alive' && this.deps.keeper.pulses.activeIsDead()) this.#spareIsBack();
    if (pulse === 'silent') this.#whySilent(tunnel);
    this.deps.changed();
  }

  #activePulse(tunnel: HeldTunnel, pulse: Pulse, before: Pulse): void {
    const { exit, session } = tunnel.held;
    switch (pulse) {
      case 'silent':
        // By the time the verdict is there, it has to be known who could take over.
        this.deps.keeper.pulses.ask(tunnel.slot);
        return;
      case 'dead':
        this.deps.happened('exit-silent', `nothing comes back from exit ${shortId(exit)}`, session);
        if (!this.failOver('nothing came back from the exit')) {
          this.hold(new VpndError('no-handshake', 'nothing comes back through the tunnel', { retryable: true }));
        }
        return;
      case 'alive':
        if (before !== 'dead') return;
        void this.#replacement.giveUp(new VpndError('closed', 'the exit is back'));
        this.deps.become('up', undefined, `exit ${shortId(exit)} answers again`);
        this.deps.happened('connected', `exit ${shortId(exit)} answers again`, session);
    }
  }

  /** False where nothing could take over. */
  failOver(reason: string): boolean {
    const active = this.#tunnels.active();
    const next = this.deps.keeper.pulses.fallback();
    if (active === undefined || next === undefined) return false;
    const { exit, supervisor } = active.held;
    const { keeper } = this.deps;
    keeper.penalties.failed(exit);
    // Where the relay's machine is gone, it says nothing against the exit.
    if (supervisor !== undefined) {
      void keeper.answersTcp(supervisor).then((answers) => {
        if (!answers) keeper.penalties.forgive(exit);
      });
    }
    this.deps
      .over(next, 'dead', 'failed-over', reason)
      .catch((err: unknown) => this.deps.ports.log.error('failing over did not work; it is tried again', { err }));
    return true;
  }

  /** A standby that is dead while the active one lives is no standby. While both are, it is the network. */
  #spareDied(tunnel: HeldTunnel): void {
    const active = this.#tunnels.active();
    const activePulse = active === undefined ? undefined : this.deps.keeper.pulses.of(active.slot);
    if (activePulse !== 'alive') return;
    this.deps.keeper.penalties.failed(tunnel.held.exit);
    if (tunnel.use === 'standby') {
      this.deps.happened(
        'standby-lost',
        `nothing comes back from exit ${shortId(tunnel.held.exit)}`,
        tunnel.held.session,
      );
    }
    void this.deps.keeper.close(tunnel.slot, 'exit-gone').then(() => this.deps.standby.nudge());
  }

  /** What can be done at once about a tunnel that hears nothing: its NAT may have moved, or the direct path is gone. */
  #whySilent(tunnel: HeldTunnel): void {
    const { supervisor, path } = tunnel.held;
    if (path === 'direct') void this.deps.keeper.paths.backToRelay(tunnel, 'the direct path is silent').catch(() => {});
    const line = supervisor === undefined ? undefined : this.deps.lineTo(supervisor);
    if (supervisor === undefined || line === undefined) return;
    void line.vouch().then((through) => {
      if (!through) void this.deps.keeper.carriage.udpIsBlocked(tunnel.held.session);
    });
  }

  #needsReplacement(): boolean {
    // Without a network there is nobody to ask, and when it is back the session may be as good as before.
    if (this.deps.wish() === undefined || !this.deps.ports.networkWatch.current().connected) return false;
    return this.deps.keeper.pulses.activeIsDead();
  }

  async #seekReplacement(signal: AbortSignal): Promise<void> {
    const wish = this.deps.wish();
    if (wish === undefined) return;
    const silent = this.#tunnels.active()?.held.exit;
    const penalised = this.deps.keeper.penalties.current();
    const first = [...penalised, ...(silent === undefined || wish.exit !== undefined ? [] : [silent])];
    let last: unknown;
    for (const line of await this.#linesByLife()) {
      for (const avoidExits of first.length > 0 ? [first, []] : [[]]) {
        try {
          const open = (within: AbortSignal) =>
            this.deps.open({ wish, use: 'standby', signal: within, line, avoidExits });
          const tunnel = await within(this.deps.ports.clock, ATTEMPT_LIMIT, signal, open);
          // Not to be interrupted: what has been opened is used or closed.
          if (!(await this.#isBack())) {
            await this.deps.over(tunnel, 'dead', 'connected', 'the tunnel before it was lost');
          } else if (!this.deps.keepsStandby) {
            await this.deps.keeper.close(tunnel.slot, 'the tunnel before it is back');
          }
          return;
        } catch (thrown) {
          if (signal.aborted) throw thrown;
          last = thrown;
          // A supernode that says nothing says nothing the second time.
          if (toVpndError(thrown).code === 'timeout') break;
        }
      }
    }
    throw last;
  }

  /** Those first whose supernodes answer at this moment: a stream may be dead and not have noticed. */
  async #linesByLife(): Promise<readonly Line[]> {
    const all = this.deps.lines();
    const up = all.filter((line) => line.isUp());
    const looks = await Promise.all(
      up.map(async (line) => {
        const supernode = line.supervisor();
        return { line, alive: supernode !== undefined && (await this.deps.keeper.answersTcp(supernode)) };
      }),
    );
    const sorted = [...looks.filter(({ alive }) => alive), ...looks.filter(({ alive }) => !alive)];
    if (sorted[0]?.alive) return sorted.map(({ line }) => line);
    // A stream that broke waits before it is dialled again, which is for when nobody waits for it.
    const down = all.filter((line) => !line.isUp());
    for (const { upstream } of down) upstream.stalled();
    await Promise.any(down.map(({ upstream }) => upstream.whenUp(REDIAL_LIMIT))).catch(() => {});
    const lines = [...down.filter((line) => line.isUp()), ...sorted.map(({ line }) => line)];
    return lines.length > 0 ? lines : [this.deps.main()];
  }

  /** What was silent together comes back together: the network did. */
  #spareIsBack(): void {
    this.#isBack()
      .then((back) => {
        if (!back) this.failOver('nothing came back from the exit');
      })
      .catch((err: unknown) => this.deps.ports.log.warn('looking for a tunnel that is back failed', { err }));
  }

  /** A session that answers again is worth more than another: what is open over it goes on. */
  async #isBack(): Promise<boolean> {
    const { pulses, tunnels } = this.deps.keeper;
    if (tunnels.active()?.holds === false && pulses.activeIsDead()) {
      pulses.ask();
      await sleep(this.deps.ports.clock, LAST_CHANCE);
    }
    return !pulses.activeIsDead();
  }

  /** Leases that ran out with nobody to renew them. Spares first: one that is over itself must not take over. */
  expire(): void {
    const now = this.deps.keeper.leases.now();
    const over = this.#tunnels.inForce().filter(({ held }) => held.leaseUntil <= now);
    for (const { slot, use } of over) if (use !== 'active') void this.deps.keeper.close(slot, 'its lease ran out');
    const active = over.find(({ use }) => use === 'active');
    if (active !== undefined) {
      const { supervisor, session } = active.held;
      // Its supernode may still think that it is wanted, and renew it for as long as this client has a stream.
      this.deps.keeper.tell(supervisor, { kind: 'session-closed', session, reason: 'its lease ran out' });
      this.lose(new VpndError('no-session', 'its lease ran out with no supernode to renew it', { retryable: true }));
    }
  }
}

/** Runs a task that is given up after `limit`, with `timeout`. */
async function within<T>(
  clock: Clock,
  limit: Millis,
  signal: AbortSignal,
  task: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const cancel = clock.after(limit, () =>
    late.abort(new VpndError('timeout', 'no session came in time', { retryable: true })),
  );
  try {
    return await task(AbortSignal.any([signal, late.signal]));
  } finally {
    cancel();
  }
}
