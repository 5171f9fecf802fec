import type { Millis } from '../model/time.js';
import type { Clock } from './ports/clock.js';

/** Resolves when `work` has settled, or after `limit` while it goes on. Its outcome is nobody's business here. */
export async function atMost(clock: Clock, limit: Millis, work: Promise<unknown>): Promise<void> {
  await new Promise<void>((resolve) => {
    const cancel = clock.after(limit, resolve);
    const done = () => {
      cancel();
      resolve();
    };
    work.then(done, done);
  });
}
