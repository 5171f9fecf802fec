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
  /** Another interval has passed. */
  beat(): void;
  ping(id: number): void;
  /** Nothing heard for the silence limit. */
  silent(): void;
}

/**
 * A peer's own ping, and its answer, show both ends that the stream carries both ways; a ping from here besides would only
 * measure the round trip again, which one in so many intervals is enough for. Pings and pongs are nearly all that a
 * supervisor of thousands does.
 */
export const BEATS_PER_ROUND_TRIP = 6;

/** One stream's signs of life: pings at an interval, unless the peer sends its own, round trips, and silence. */
export class Heartbeat {
  readonly #options: Options;
  readonly #clock: Clock;
  readonly #wheel: TimerWheel;
  readonly #actions: Actions;
  #lastHeard: Millis;
  #nextPing: Millis;
  #lastPing: { readonly id: number; readonly sentAt: Millis } | undefined;
  #count = 0;
  #beats = 0;
  /** The peer has pinged since the last beat. */
  #isPinged = false;
  #cancel: () => void;
  readonly #onTimer = () => this.#beat();

  constructor(options: Options, deps: { readonly clock: Clock; readonly wheel: TimerWheel }, actions: Actions) {
    this.#options = options;
    this.#clock = deps.clock;
    this.#wheel = deps.wheel;
    this.#actions = actions;
    this.#lastHeard = this.#clock.monotonic();
    this.#nextPing = ms(this.#lastHeard + options.first);
    this.#cancel = this.#wheel.after(options.first, this.#onTimer);
  }

  heard(): void {
    this.#lastHeard = this.#clock.monotonic();
  }

  /** What was heard is a ping of the peer. */
  pinged(): void {
    this.#isPinged = true;
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
    const isBeat = now >= this.#nextPing;
    const pings = isBeat && (!this.#isPinged || this.#beats % BEATS_PER_ROUND_TRIP === 0);
    if (isBeat) {
      this.#nextPing = ms(now + this.#options.interval);
      this.#beats++;
      this.#isPinged = false;
    }
    if (pings) this.#lastPing = { id: ++this.#count, sentAt: now };
    this.#cancel = this.#wheel.after(ms(Math.min(this.#nextPing, silentAt) - now), this.#onTimer);
    if (isBeat) this.#actions.beat();
    if (pings) this.#actions.ping(this.#count);
  }
}
