import type { Clock } from '../../core/ports/clock.js';
import type { PeerId } from '../../model/ids.js';
import { type Instant, type Millis, minutes, ms, plus, seconds } from '../../model/time.js';

const FIRST: Millis = seconds(30);
const LONGEST: Millis = minutes(10);
/** So long without a failure, and an exit's past is forgotten. */
const FORGET: Millis = minutes(30);

/** Exits that failed lately are asked for last: without that a flapping one would be chosen again and again. */
export class Penalties {
  readonly #exits = new Map<PeerId, { readonly until: Instant; readonly failures: number; readonly at: Instant }>();

  constructor(private readonly clock: Clock) {}

  failed(exit: PeerId): void {
    const now = this.clock.now();
    const before = this.#exits.get(exit);
    const failures = before === undefined || plus(before.at, FORGET) < now ? 1 : before.failures + 1;
    const until = plus(now, ms(Math.min(LONGEST, FIRST * 2 ** (failures - 1))));
    this.#exits.set(exit, { until, failures, at: now });
  }

  /** It turned out not to be the exit. */
  forgive(exit: PeerId): void {
    this.#exits.delete(exit);
  }

  current(): readonly PeerId[] {
    const now = this.clock.now();
    return [...this.#exits].filter(([, { until }]) => until > now).map(([exit]) => exit);
  }

  forget(): void {
    this.#exits.clear();
  }
}
