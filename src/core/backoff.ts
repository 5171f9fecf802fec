import { type Millis, ms, seconds } from '../model/time.js';
import type { Random } from './ports/random.js';

export interface Backoff {
  readonly first: Millis;
  readonly factor: number;
  readonly max: Millis;
}

/** Reconnecting: fast enough that a restarted supervisor is found again within seconds, slow enough for thousands. */
export const RECONNECT: Backoff = { first: ms(500), factor: 1.7, max: seconds(10) };

/** The longest wait before try number `attempt` (0 is the first retry). */
export function ceilingOf(backoff: Backoff, attempt: number): Millis {
  return ms(Math.min(backoff.max, backoff.first * backoff.factor ** attempt));
}

/**
 * Full jitter: uniform between 0 and the ceiling, so that the thousand peers of a restarted supervisor do not come back
 * in step (M. Brooker, "Exponential Backoff And Jitter", 2015).
 */
export function fullJitter(backoff: Backoff, attempt: number, random: Random): Millis {
  return ms(random.fraction() * ceilingOf(backoff, attempt));
}

/** For what retrying cannot mend: the upper half of the longest wait. */
export function longWait(backoff: Backoff, random: Random): Millis {
  return ms((backoff.max * (1 + random.fraction())) / 2);
}
