import type { ClientConfig } from '../../config/types.js';
import type { RotatePeer } from '../../model/command.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import type { PeerId } from '../../model/ids.js';
import type { ExitWish } from '../../model/session.js';
import type { Line } from '../common/line.js';
import type { ForwardingPorts } from '../ports.js';
import { lineElsewhere } from './elsewhere.js';
import type { Standby, TunnelWish } from './standby.js';
import type { HeldTunnel } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

/** What a rotation has to keep clear of. */
export type Leaving = Omit<RotatePeer, 'kind' | 'reason'>;
export const BY_HAND: Leaving = { leaveSupernode: false, urgent: false, avoidExits: [] };

export interface RotationDeps {
  readonly config: ClientConfig;
  readonly ports: ForwardingPorts;
  readonly tunnels: Tunnels;
  readonly standby: Standby;
  readonly wish: () => ExitWish | undefined;
  readonly signal: () => AbortSignal;
  readonly lines: () => readonly Line[];
  readonly main: () => Line;
  readonly wantSecond: (want: boolean) => void;
  /** Nothing else is opened while this goes on. */
  readonly pause: (why: string) => Promise<void>;
  readonly open: (what: TunnelWish) => Promise<HeldTunnel>;
  readonly close: (slot: number, reason: string) => Promise<void>;
  readonly over: (to: HeldTunnel, old: 'retiring' | 'dead', code: EventCode, reason: string) => Promise<void>;
}

/** Going over to another exit while the present one still works: the new tunnel carries something before it is used. */
export class Rotation {
  #cancel: () => void = () => {};

  constructor(private readonly deps: RotationDeps) {}

  /**
   * Resolves when another exit carries the traffic. Rejects with `no-session` without a tunnel, and with why there is no
   * other exit; the present one goes on then.
   */
  async rotate(reason: string, leave: Leaving): Promise<void> {
    const { tunnels, standby } = this.deps;
    const active = tunnels.active();
    const wish = this.deps.wish();
    if (active === undefined || active.holds || wish === undefined) {
      throw new VpndError('no-session', 'there is no tunnel to rotate; see vpnd up');
    }
    const byHand = leave === BY_HAND;
    if (wish.exit !== undefined && byHand) {
      throw new VpndError('no-exit', 'one exit was asked for by name: vpnd up asks for another');
    }
    const leaving = leave.leaveSupernode ? active.held.supervisor : undefined;
    // A supernode names the exits that will not do: where it is only about the way, the same one will.
    const avoid = byHand ? [active.held.exit] : leave.avoidExits;
    const next = (await standby.ready(avoid, leaving)) ?? (await this.#openBeside(wish, avoid, leaving));
    await this.deps.over(next, leave.urgent ? 'dead' : 'retiring', 'rotated', reason);
  }

  /** The next one by the clock, counted from now. */
  schedule(rotate: (reason: string) => Promise<void>): void {
    const { rotateEvery } = this.deps.config;
    this.#cancel();
    if (rotateEvery === undefined) return;
    const { clock, log } = this.deps.ports;
    this.#cancel = clock.after(rotateEvery, () => {
      rotate('the schedule (--rotate-every)').catch((thrown: unknown) => {
        const { code, message } = toVpndError(thrown);
        log.info('no rotation this time', { code, reason: message });
        this.schedule(rotate);
      });
    });
  }

  cancel(): void {
    this.#cancel();
  }

  /** A fresh tunnel beside the one that carries the traffic. */
  async #openBeside(wish: ExitWish, avoid: readonly PeerId[], leaving: PeerId | undefined): Promise<HeldTunnel> {
    const { deps } = this;
    await deps.pause('a rotation makes a tunnel of its own');
    const standby = deps.standby.current();
    if (standby !== undefined) await deps.close(standby.slot, 'a rotation needs the room');
    const line =
      leaving === undefined
        ? deps.main()
        : await lineElsewhere({ ...deps, clock: deps.ports.clock }, leaving, deps.signal());
    const avoidSupernodes = leaving === undefined ? [] : [leaving];
    return deps.open({ wish, use: 'standby', signal: deps.signal(), line, avoidExits: avoid, avoidSupernodes });
  }
}
