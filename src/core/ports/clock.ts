import type { Instant, Millis } from '../../model/time.js';

/**
 * The only source of time for decisions and roles. Real: src/roles/common/system-clock.ts. Virtual: test/support.
 * `monotonic` never jumps when somebody sets the wall clock, and counts time asleep (CLOCK_BOOTTIME) where it can.
 */
export interface Clock {
  now(): Instant;
  /** Milliseconds since an arbitrary start; for measuring durations. */
  monotonic(): Millis;
  /** Runs `task` once after `delay`; the returned function cancels it and is harmless afterwards. */
  after(delay: Millis, task: () => void): () => void;
}

/** Resolves after `delay`, or rejects with the signal's reason as soon as it aborts. */
export function sleep(clock: Clock, delay: Millis, signal?: AbortSignalLike): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = clock.after(delay, () => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    });
    signal?.addEventListener('abort', onAbort);
  });
}

/** What an AbortSignal offers, spelled out because decisions are compiled without platform types. */
export interface AbortSignalLike {
  readonly aborted: boolean;
  readonly reason: unknown;
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}
