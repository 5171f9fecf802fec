import { instantOf } from '../model/time.js';
import type { Clock } from './ports/clock.js';

/**
 * The time of day as it was when this was made, and from then on as the monotonic clock counts: whoever sets the machine's clock,
 * by hand or by NTP, makes no lease end early or late and no quarantine short. Not for what others sign or write down.
 */
export function steadyClock(clock: Clock): Clock {
  const ahead = clock.now() - clock.monotonic();
  return {
    now: () => instantOf(Math.floor(ahead + clock.monotonic())),
    monotonic: () => clock.monotonic(),
    after: (delay, task) => clock.after(delay, task),
  };
}
