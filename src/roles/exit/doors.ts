import { isOpen, nextChange, type OpeningHours } from '../../core/hours.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { FactStore } from '../../core/ports/store.js';
import { type Instant, type Millis, minutes, ms, plus, seconds } from '../../model/time.js';
import type { History } from '../common/history.js';

const PAUSE_FACT = 'exit-pause';
/** A client that leaves keeps what is open on the old tunnel for 120 s; then whoever is left is put out. */
export const GRACE: Millis = seconds(150);
/** However far off the next change is: somebody may set the clock, or the machine may sleep. */
const LOOK_EVERY: Millis = minutes(1);

/** A pause that somebody ordered, on disk so that a restart does not end it; without an end it lasts until resumed. */
interface Pause {
  readonly until?: Instant | undefined;
}

export interface DoorsDeps {
  readonly hours: OpeningHours | undefined;
  readonly timeZone: string;
  readonly facts: FactStore;
  readonly clock: Clock;
  readonly log: Log;
  readonly history: History;
  /** Tells every supernode that this exit is connected to. */
  readonly tell: (code: 'exit-closed' | 'exit-open', message: string) => void;
  /** Ends the sessions that are there. */
  readonly putOut: (reason: string) => void;
  readonly changed: () => void;
}

/**
 * Whether this exit is lent at present: within its hours, and not paused. When it closes, no session comes in any more,
 * clients are asked to go elsewhere, make before break, and who is still there after a while is put out.
 */
export class Doors {
  readonly #deps: DoorsDeps;
  #pause: Pause | undefined;
  /** Why it is closed, as it was said last. */
  #closed: string | undefined;
  #started = false;
  #stopped = false;
  #cancelLook: () => void = () => {};
  #cancelPutOut: () => void = () => {};

  constructor(deps: DoorsDeps) {
    this.#deps = deps;
    this.#pause = deps.facts.get<Pause>(PAUSE_FACT);
  }

  /** Why nobody is let in at this moment; undefined while it is open. */
  get closed(): string | undefined {
    const { hours, timeZone, clock } = this.#deps;
    const until = this.#pause?.until;
    if (this.#pause !== undefined && (until === undefined || clock.now() < until)) return 'its owner has paused it';
    if (hours === undefined || isOpen(hours, timeZone, clock.now())) return undefined;
    return `its owner lends it at other hours (${hours.text})`;
  }

  /** When it opens or closes next by itself; undefined for never. */
  get changesAt(): Instant | undefined {
    const { hours, timeZone, clock } = this.#deps;
    const now = clock.now();
    const until = this.#pause?.until;
    if (this.#pause === undefined || (until !== undefined && until <= now)) {
      return hours && nextChange(hours, timeZone, now);
    }
    if (until === undefined || hours === undefined || isOpen(hours, timeZone, until)) return until;
    return nextChange(hours, timeZone, until);
  }

  start(): void {
    this.#started = true;
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelLook();
    this.#cancelPutOut();
  }

  /** A supernode's stream is up: it knows nothing of this exit's hours. */
  connected(): void {
    if (this.#closed !== undefined) this.#deps.tell('exit-closed', this.#closed);
  }

  /** Throws what the store throws, and nothing has changed then. `duration`: until it is resumed unless given. */
  pause(duration: Millis | undefined): void {
    const { facts, clock } = this.#deps;
    const pause: Pause = duration === undefined ? {} : { until: plus(clock.now(), duration) };
    facts.put(PAUSE_FACT, pause);
    this.#pause = pause;
    this.#look();
  }

  resume(): void {
    this.#deps.facts.remove(PAUSE_FACT);
    this.#pause = undefined;
    this.#look();
  }

  #look(): void {
    if (!this.#started || this.#stopped) return;
    const { clock, tell, history, log, changed } = this.#deps;
    const before = this.#closed;
    const now = this.closed;
    this.#closed = now;
    if (before === undefined && now !== undefined) {
      log.info('this exit is closed: sessions go elsewhere', { reason: now });
      history.record('exit-closed', now);
      tell('exit-closed', now);
      this.#cancelPutOut = clock.after(GRACE, () => this.#deps.putOut(now));
    } else if (before !== undefined && now === undefined) {
      this.#cancelPutOut();
      log.info('this exit is open again');
      history.record('exit-open', 'it is lent again');
      tell('exit-open', 'it is lent again');
    }
    if (before !== now) changed();
    this.#cancelLook();
    if (this.#deps.hours === undefined && this.#pause?.until === undefined) return;
    const { changesAt } = this;
    const wait = changesAt === undefined ? LOOK_EVERY : Math.min(LOOK_EVERY, Math.max(1, changesAt - clock.now()));
    this.#cancelLook = clock.after(ms(wait), () => this.#look());
  }
}
