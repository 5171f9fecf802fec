import { wallClock } from '../../core/hours.js';
import type { Clock } from '../../core/ports/clock.js';
import type { DataPlane } from '../../core/ports/dataplane.js';
import type { Log } from '../../core/ports/log.js';
import type { Metrics } from '../../core/ports/metrics.js';
import type { FactStore } from '../../core/ports/store.js';
import { type EgressObservation, VIOLATIONS } from '../../model/dataplane.js';
import { type Instant, type Millis, minutes } from '../../model/time.js';

const FACT = 'exit-day';
/** A crash costs so much of the day's figures at most. */
const WRITE_EVERY: Millis = minutes(1);

/** Bytes inside tunnels since midnight, and what the kernel's counters stood at. */
interface Day {
  readonly date: string;
  readonly fromClients: number;
  readonly toClients: number;
  readonly counted: { readonly fromClients: number; readonly toClients: number };
}

export interface AccountDeps {
  readonly timeZone: string;
  readonly facts: FactStore;
  readonly clock: Clock;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly dataplane: Pick<DataPlane, 'observeEgress'>;
}

/** What an exit has carried today and refused: read from the kernel's counters, which know nothing of days. */
export class Account {
  readonly #deps: AccountDeps;
  #day: Day | undefined;
  #seen: EgressObservation | undefined;
  #writtenAt: Instant | undefined;

  constructor(deps: AccountDeps) {
    this.#deps = deps;
    this.#day = deps.facts.get<Day>(FACT);
  }

  get today(): { readonly fromClients: number; readonly toClients: number } {
    const { fromClients, toClients } = this.#day ?? NOTHING;
    return { fromClients, toClients };
  }

  /** Rejects with what the data plane rejects with. */
  async look(): Promise<EgressObservation> {
    const { clock, dataplane, timeZone, facts } = this.#deps;
    const seen = await dataplane.observeEgress();
    this.#countRefused(seen);
    this.#seen = seen;
    const { date } = wallClock(timeZone, clock.now());
    const before = this.#day;
    const { fromClients, toClients } = seen;
    const counted = { fromClients, toClients };
    const soFar = before?.date === date ? before : NOTHING;
    // Counters that went back were begun anew: what they have by now is counted from the next look on.
    const more = (key: 'fromClients' | 'toClients') => Math.max(0, counted[key] - (before?.counted[key] ?? 0));
    this.#day = {
      date,
      fromClients: soFar.fromClients + more('fromClients'),
      toClients: soFar.toClients + more('toClients'),
      counted,
    };
    const due = this.#writtenAt === undefined || clock.now() - this.#writtenAt >= WRITE_EVERY;
    if (due && JSON.stringify(before) !== JSON.stringify(this.#day)) {
      this.#writtenAt = clock.now();
      facts.put(FACT, this.#day);
    }
    return seen;
  }

  /** The same for whoever would rather have old figures than none. */
  async show(): Promise<EgressObservation> {
    return await this.look().catch((err: unknown) => {
      if (this.#seen === undefined) throw err;
      this.#deps.log.warn('what clients were refused cannot be read', { err });
      return this.#seen;
    });
  }

  /** Writes the day's figures down, before this process ends. */
  keep(): void {
    try {
      if (this.#day !== undefined) this.#deps.facts.put(FACT, this.#day);
    } catch (err) {
      this.#deps.log.warn('the figures of today are lost', { err });
    }
  }

  /** What stood there when this process began was counted by the one before. */
  #countRefused({ refused }: EgressObservation): void {
    for (const kind of VIOLATIONS) {
      const more = this.#seen === undefined ? 0 : refused[kind] - this.#seen.refused[kind];
      // Each kind is there from the start, so that an alert on one has something to go by.
      this.#deps.metrics.exitViolations.inc({ kind }, Math.max(0, more));
    }
  }
}

const NOTHING = { fromClients: 0, toClients: 0 };
