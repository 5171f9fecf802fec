import type { Clock } from '../../core/ports/clock.js';
import { keyOf, type PeerId } from '../../model/ids.js';
import { type Millis, minutes, ms, seconds } from '../../model/time.js';
import type { Line } from './line.js';

/** Between half and one and a half of this, by each node's own key: thousands must not look at one moment. */
const EVERY: Millis = minutes(10);
/** As long as a dial and an authentication may take, and what comes right after it. */
const LONGEST: Millis = seconds(15);
const LOOK: Millis = seconds(1);

export interface SecondLookDeps {
  readonly clock: Clock;
  readonly self: PeerId;
  readonly lines: readonly Line[];
  /** Whether there is another supernode to ask. */
  readonly possible: () => boolean;
  /** Have the second line connected, though nothing hangs on it; or no longer for this. */
  readonly want: (want: boolean) => void;
}

/**
 * A node with one stream knows what one supernode tells it, and one that was banned does not tell of it. So now and
 * then it asks another one: connecting there is enough, since both ends say which list of revocations they hold.
 */
export class SecondLook {
  #cancel: () => void = () => {};

  constructor(private readonly deps: SecondLookDeps) {}

  start(): void {
    const { clock, self } = this.deps;
    const [spread = 0] = keyOf(self);
    this.#cancel = clock.after(ms(EVERY * (0.5 + spread / 256)), () => this.#begin());
  }

  stop(): void {
    this.#cancel();
  }

  #begin(): void {
    const { clock, possible, want } = this.deps;
    if (!this.#hasOne() || !possible()) {
      this.start();
      return;
    }
    want(true);
    const until = clock.monotonic() + LONGEST;
    const look = () => {
      if (this.#hasOne() && clock.monotonic() < until) {
        this.#cancel = clock.after(LOOK, look);
        return;
      }
      want(false);
      this.start();
    };
    look();
  }

  #hasOne(): boolean {
    return this.deps.lines.filter((line) => line.isUp()).length === 1;
  }
}
