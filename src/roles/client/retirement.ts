import { type Instant, instantOf, type Millis, ms, seconds } from '../../model/time.js';
import type { ForwardingPorts } from '../ports.js';
import { SLOTS, type Tunnels } from './tunnels.js';

/** How long connections that were open when another tunnel took over may go on over the old one. */
export const RETIREMENT: Millis = seconds(120);
/** A connection that has just begun may not be seen yet. */
const LEAST: Millis = seconds(2);
const LOOK_EVERY: Millis = seconds(2);

interface Retiring {
  readonly began: Millis;
  readonly endsAt: Instant;
  lookedAt: Millis;
}

/** Tunnels that carry only what was open when another one took over: taken down when that has ended, or after 120 s. */
export class Retirement {
  readonly #slots = new Map<number, Retiring>();

  constructor(
    private readonly ports: Pick<ForwardingPorts, 'clock' | 'dataplane'>,
    private readonly tunnels: Tunnels,
    private readonly close: (slot: number, reason: string) => Promise<void>,
  ) {}

  begin(slot: number): void {
    const { clock } = this.ports;
    const now = clock.monotonic();
    this.#slots.set(slot, { began: now, endsAt: instantOf(clock.now() + RETIREMENT), lookedAt: now });
  }

  endsAt(slot: number): Instant | undefined {
    return this.#slots.get(slot)?.endsAt;
  }

  forget(slot: number): void {
    this.#slots.delete(slot);
  }

  clear(): void {
    this.#slots.clear();
  }

  /** A new tunnel is about to be made: the oldest one gives way where there is no room. */
  makeRoom(): void {
    if (this.tunnels.all().length < SLOTS) return;
    const byUse = (use: string) => [...this.#slots.keys()].find((slot) => this.tunnels.get(slot)?.use === use);
    const slot = byUse('dead') ?? byUse('retiring');
    if (slot !== undefined) void this.close(slot, 'another tunnel needs its place');
  }

  async look(): Promise<void> {
    const now = this.ports.clock.monotonic();
    for (const [slot, retiring] of [...this.#slots]) {
      const tunnel = this.tunnels.get(slot);
      if (tunnel?.held === undefined) {
        this.#slots.delete(slot);
        continue;
      }
      if (now - retiring.began >= RETIREMENT) {
        await this.close(slot, 'its time to retire is over');
        continue;
      }
      if (now - retiring.began < LEAST || now - retiring.lookedAt < LOOK_EVERY) continue;
      retiring.lookedAt = ms(now);
      const { ipv4, ipv6 } = tunnel.held.inner;
      if ((await this.ports.dataplane.openConnections([ipv4, ipv6])) === 0 && this.#slots.has(slot)) {
        await this.close(slot, 'nothing is open over it any more');
      }
    }
  }
}
