import type { Pulse } from '../../core/liveness.js';
import type { SessionId } from '../../model/ids.js';
import { type Millis, ms } from '../../model/time.js';
import type { ForwardingPorts } from '../ports.js';
import { Monitor } from './monitor.js';
import { checkStep } from './steps.js';
import type { HeldTunnel } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

/** Whether each tunnel carries anything at present. */
export class Pulses {
  readonly #monitors = new Map<number, Monitor>();

  constructor(
    private readonly ports: Pick<ForwardingPorts, 'clock' | 'dataplane' | 'log' | 'reach'>,
    private readonly tunnels: Tunnels,
    private readonly changed: (session: SessionId, pulse: Pulse, before: Pulse) => void,
  ) {}

  watch(tunnel: HeldTunnel): void {
    const { clock, dataplane, reach } = this.ports;
    const { slot, device, held } = tunnel;
    this.unwatch(slot);
    const changed = (pulse: Pulse, before: Pulse) => {
      checkStep(this.ports.log, 'pulse', before, pulse);
      this.changed(held.session, pulse, before);
    };
    this.#monitors.set(slot, new Monitor({ clock, dataplane, reach, device, inner: held.inner, changed }));
  }

  unwatch(slot: number): void {
    this.#monitors.get(slot)?.stop();
    this.#monitors.delete(slot);
  }

  unwatchAll(): void {
    for (const slot of [...this.#monitors.keys()]) this.unwatch(slot);
  }

  of(slot: number): Pulse | undefined {
    return this.#monitors.get(slot)?.pulse;
  }

  /** How long ago anything came in. */
  quietFor(slot: number): Millis {
    return this.#monitors.get(slot)?.quietFor ?? ms(0);
  }

  roundTrip(slot: number): Millis | undefined {
    return this.#monitors.get(slot)?.roundTrip;
  }

  /** Find out now, of all but one. */
  ask(but?: number): void {
    for (const [slot, monitor] of this.#monitors) if (slot !== but) monitor.ask();
  }

  /** The network underneath is another: every tunnel gets the time to find its way again. */
  bePatient(patience: Millis): void {
    for (const monitor of this.#monitors.values()) monitor.ask(patience);
  }

  /** Whether what should carry the traffic does not. */
  activeIsDead(): boolean {
    const active = this.tunnels.active();
    return active !== undefined && (active.holds || this.of(active.slot) === 'dead');
  }

  /** A tunnel that is known to carry something now: heard since the active one fell silent. The standby first. */
  fallback(): HeldTunnel | undefined {
    const active = this.tunnels.active();
    const silence = (active && this.#monitors.get(active.slot)?.quietFor) ?? ms(Number.POSITIVE_INFINITY);
    const alive = this.tunnels.held().filter((one) => {
      const monitor = this.#monitors.get(one.slot);
      const usable = (one.use === 'standby' || one.use === 'retiring') && !one.holds;
      return usable && monitor?.pulse === 'alive' && monitor.quietFor < silence;
    });
    return alive.find((one) => one.use === 'standby') ?? alive[0];
  }
}
