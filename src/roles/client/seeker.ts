import type { Clock } from '../../core/ports/clock.js';
import type { VpndError } from '../../model/errors.js';
import { toVpndError } from '../../model/errors.js';
import { type Millis, ms } from '../../model/time.js';

/** Tries something again and again until it is not wanted any more: at most one attempt at a time, with growing pauses. */
export class Seeker {
  #cancel: (() => void) | undefined;
  #abort: AbortController | undefined;
  #running: Promise<void> = Promise.resolve();
  #failures = 0;
  #lastError: VpndError | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly options: {
      readonly first: Millis;
      readonly longest: Millis;
      readonly wanted: () => boolean;
      readonly attempt: (signal: AbortSignal) => Promise<void>;
      readonly failed: (error: VpndError) => void;
    },
  ) {}

  /** Why there is nothing yet; undefined before the first failure and after a success. */
  get lastError(): VpndError | undefined {
    return this.#lastError;
  }

  get busy(): boolean {
    return this.#abort !== undefined;
  }

  /** Something may have changed for the better: try at once, or soon, where it is wanted and not under way. */
  now(soon: Millis = ms(0)): void {
    this.#failures = 0;
    this.#at(soon);
  }

  /** Try when the pause is over; harmless when it is not wanted. */
  nudge(): void {
    if (this.#cancel === undefined) this.#at(this.#pause());
  }

  /** Give an attempt up; resolves when nothing of it is left. It may be sought again afterwards. */
  async giveUp(reason: VpndError): Promise<void> {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#abort?.abort(reason);
    await this.#running;
  }

  #at(wait: Millis): void {
    if (this.#abort !== undefined || !this.options.wanted()) return;
    this.#cancel?.();
    this.#cancel = this.clock.after(wait, () => {
      this.#cancel = undefined;
      if (this.#abort === undefined && this.options.wanted()) this.#running = this.#run();
    });
  }

  async #run(): Promise<void> {
    const abort = new AbortController();
    this.#abort = abort;
    try {
      await this.options.attempt(abort.signal);
      this.#failures = 0;
      this.#lastError = undefined;
    } catch (thrown) {
      this.#failures++;
      this.#lastError = toVpndError(thrown);
      if (!abort.signal.aborted) this.options.failed(this.#lastError);
    } finally {
      this.#abort = undefined;
    }
    if (!abort.signal.aborted) this.nudge();
  }

  #pause(): Millis {
    if (this.#failures === 0) return ms(0);
    return ms(Math.min(this.options.longest, this.options.first * 1.7 ** (this.#failures - 1)));
  }
}
