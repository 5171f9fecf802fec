import type { Clock } from '../core/ports/clock.js';
import { VpndError } from '../model/errors.js';
import { seconds } from '../model/time.js';
import type { Io } from './io.js';

/** Things that were started, in order; stopping runs them backwards, all of them, and awaits each. */
export interface Lifecycle {
  /** Remembers how to stop what has just been started. After `stop` it is stopped at once, and `closed` thrown. */
  onStop(name: string, stop: () => void | Promise<void>): void;
  /** Stops everything; a failure is reported and the rest stopped all the same. Harmless to call twice. */
  stop(report: StopReport): Promise<void>;
}

export interface StopReport {
  failed(name: string, error: unknown): void;
  /** Stopping this takes long enough for somebody to ask himself what is going on. */
  slow(name: string): void;
}

const SLOW = seconds(3);

export function lifecycle(clock: Pick<Clock, 'after'>): Lifecycle {
  let stopped = false;
  const started: { readonly name: string; readonly stop: () => void | Promise<void> }[] = [];
  return {
    onStop: (name, stop) => {
      if (stopped) {
        void Promise.resolve(stop()).catch(() => {});
        throw new VpndError('closed', `stopped while starting ${name}`);
      }
      started.push({ name, stop });
    },
    async stop(report) {
      stopped = true;
      for (let last = started.pop(); last !== undefined; last = started.pop()) {
        const { name, stop } = last;
        const cancel = clock.after(SLOW, () => report.slow(name));
        try {
          await stop();
        } catch (error) {
          report.failed(name, error);
        } finally {
          cancel();
        }
      }
    },
  };
}

/**
 * The first SIGINT or SIGTERM asks for an orderly end; the second ends the process at once. What is in the kernel then
 * stays, as after a crash, and the next start takes it up.
 */
export function watchSignals(io: Io): { readonly first: Promise<void>; close(): void } {
  let resolveFirst = (): void => {};
  const first = new Promise<void>((resolve) => {
    resolveFirst = resolve;
  });
  let seen = 0;
  const close = io.onSignal(() => {
    if (++seen > 1) {
      io.err('vpnd: ended at once, by a second signal; the next start takes up what is in the kernel\n');
      io.exitNow(1);
    }
    resolveFirst();
  });
  return { first, close };
}
