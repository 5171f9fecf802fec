import type { Clock } from '../../core/ports/clock.js';
import { type Millis, ms } from '../../model/time.js';
import type { TimerWheel } from './timer-wheel.js';

interface Options {
  readonly interval: Millis;
  readonly silenceLimit: Millis;
  /** When the first ping is due: spread over the interval, so that a thousand streams do not ping in one tick. */
  readonly first: Millis;
}

interface Actions {
  ping(id: number): void;
  /** Nothing heard for the silence limit. */
  silent(): void;
}

/** One stream's signs of life: pings at an interval, round trips, and silence. */
export class Heartbeat {
  readonly #options: Options;
  readonly #clock: Clock;
  readonly #wheel: TimerWheel;
  readonly #actions: Actions;
  #lastHeard: Millis;
  #nextPing: Millis;
  #lastPing: { readonly id: number; readonly sentAt: Millis } | undefined;
  #count = 0;
  #cancel: () => void;

  constructor(options: Options, deps: { readonly clock: Clock; readonly wheel: TimerWheel }, actions: Actions) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#wheel = deps.wheel;
    this.#actions = actions;
    this.#lastHeard = this.#clock.monotonic();
    this.#nextPing = ms(this.#lastHeard + options.first);
    this.#cancel = this.#wheel.after(options.first, () => this.#beat());
  }

  heard(): void {
    this.#lastHeard = this.#clock.monotonic();
  }

  /** The round trip that a pong ends; undefined when it answers no ping of ours, or not the last one. */
  pong(id: number): Millis | undefined {
    const ping = this.#lastPing;
    if (ping === undefined || ping.id !== id) return undefined;
    this.#lastPing = undefined;
    return ms(this.#clock.monotonic() - ping.sentAt);
  }

  stop(): void {
    this.#cancel();
  }

  #beat(): void {
    const now = this.#clock.monotonic();
    const silentAt = this.#lastHeard + this.#options.silenceLimit;
    if (now >= silentAt) {
      this.#actions.silent();
      return;
    }
    if (now >= this.#nextPing) {
      this.#nextPing = ms(now + this.#options.interval);
      this.#lastPing = { id: ++this.#count, sentAt: now };
    }
    this.#cancel = this.#wheel.after(ms(Math.min(this.#nextPing, silentAt) - now), () => this.#beat());
    if (this.#lastPing?.sentAt === now) this.#actions.ping(this.#lastPing.id);
  }
}
