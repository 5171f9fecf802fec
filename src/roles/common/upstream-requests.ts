import type { Clock } from '../../core/ports/clock.js';
import { VpndError } from '../../model/errors.js';
import type { Outcome } from '../../model/messages.js';
import type { Millis } from '../../model/time.js';
import { errorOfRefusal } from '../../transport/codec/refusal.js';

interface Waiting<T> {
  resolve(value: T): void;
  reject(error: VpndError): void;
  readonly cancelTimer: () => void;
}

/** Requests of one kind that wait for their answer on a stream. */
export class PendingRequests<T> {
  readonly #clock: Clock;
  readonly #what: string;
  readonly #waiting = new Map<number, Waiting<T>>();

  /** @param what for messages: "the exit request" */
  constructor(clock: Clock, what: string) {
    this.#clock = clock;
    this.#what = what;
  }

  /** Rejects with `timeout`, with what the supervisor answered, or with what `failAll` is given. */
  wait(id: number, timeout: Millis): Promise<T> {
    return new Promise((resolve, reject) => {
      const cancelTimer = this.#clock.after(timeout, () => {
        this.#waiting.delete(id);
        reject(
          new VpndError('timeout', `${this.#what} was not answered within ${timeout / 1_000} s`, { retryable: true }),
        );
      });
      this.#waiting.set(id, { resolve, reject, cancelTimer });
    });
  }

  /** False when nobody waits for this answer any more. */
  answered(id: number, outcome: Outcome<T>): boolean {
    const waiting = this.#take(id);
    if (waiting === undefined) return false;
    if (outcome.ok) waiting.resolve(outcome.value);
    else waiting.reject(errorOfRefusal(outcome.error));
    return true;
  }

  failAll(error: VpndError): void {
    for (const id of [...this.#waiting.keys()]) this.#take(id)?.reject(error);
  }

  #take(id: number): Waiting<T> | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    waiting?.cancelTimer();
    return waiting;
  }
}
