import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { FactStore } from '../../core/ports/store.js';
import type { Instant, Millis } from '../../model/time.js';
import { minutes, plus } from '../../model/time.js';

/** Something whose numbers rest before anybody gets them again. */
export interface Resting<T> {
  resting(now: Instant): readonly (readonly [T, Instant])[];
  rest(one: T, until: Instant): void;
}

/** No quarantine is longer: a clock that was set back since makes none that never ends. */
const LONGEST: Millis = minutes(5);

/** Keeps on disk which relay ports or inner addresses rest, so that a restart hands none of them out too early. */
export class Quarantine<T> {
  constructor(
    private readonly name: string,
    private readonly pool: Resting<T>,
    private readonly deps: { readonly facts: FactStore; readonly clock: Clock; readonly log: Log },
  ) {}

  load(): void {
    const latest = plus(this.deps.clock.now(), LONGEST);
    const kept = this.deps.facts.get<readonly (readonly [T, Instant])[]>(this.#fact) ?? [];
    for (const [one, until] of kept) this.pool.rest(one, Math.min(until, latest) as Instant);
  }

  /** After something was given back, and before what owned it is forgotten. */
  save(): void {
    try {
      this.deps.facts.put(this.#fact, this.pool.resting(this.deps.clock.now()));
    } catch (thrown) {
      this.deps.log.warn(`resting ${this.name} are not on record`, { err: thrown });
    }
  }

  get #fact(): string {
    return `resting/${this.name}`;
  }
}
