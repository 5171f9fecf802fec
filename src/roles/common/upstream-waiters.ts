import type { AbortSignalLike, Clock } from '../../core/ports/clock.js';
import type { VpndError } from '../../model/errors.js';
import type { Millis } from '../../model/time.js';

/** Those who wait for a stream to be up. */
export class Waiters {
  readonly #settles = new Set<(error?: VpndError) => void>();

  constructor(private readonly clock: Clock) {}

  /** Rejects with what `late` says after `timeout`, with what `settle` is given, or with the signal's reason. */
  wait(timeout: Millis, late: () => VpndError, signal?: AbortSignalLike): Promise<void> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => finish(() => reject(signal?.reason));
      const settle = (error?: VpndError) => finish(() => (error === undefined ? resolve() : reject(error)));
      const cancel = this.clock.after(timeout, () => settle(late()));
      const finish = (act: () => void) => {
        cancel();
        this.#settles.delete(settle);
        signal?.removeEventListener('abort', onAbort);
        act();
      };
      this.#settles.add(settle);
      signal?.addEventListener('abort', onAbort);
    });
  }

  /** Everybody goes on: with this error, or because the stream is up. */
  settle(error?: VpndError): void {
    for (const settle of [...this.#settles]) settle(error);
  }
}
