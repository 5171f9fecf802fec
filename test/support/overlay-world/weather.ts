import type { Random } from '../../../src/core/ports/random.js';
import { type Millis, ms } from '../../../src/model/time.js';

/** What a machine's connection to the internet does to packets, both ways. */
export interface Weather {
  /** Of datagrams, 0 to 1. */
  readonly loss: number;
  /** Of datagrams that arrive twice, 0 to 1. */
  readonly doubled: number;
  /** A datagram is late by up to this, so that others overtake it; so is what streams carry, in order. */
  readonly jitter: Millis;
  /** Everything is late by this: a slow line, or somebody who reads slowly. */
  readonly delay: Millis;
}

export const CLEAR: Weather = { loss: 0, doubled: 0, jitter: ms(0), delay: ms(0) };

/** Extra delays of the copies of a datagram that arrive; empty when it is lost. No chance is drawn in clear weather. */
export function copies(ways: readonly Weather[], random: Random): readonly Millis[] {
  let found: readonly Millis[] = [ms(0)];
  for (const { loss, doubled, jitter, delay } of ways) {
    if (loss > 0 && random.fraction() < loss) return [];
    if (doubled > 0 && random.fraction() < doubled) found = [...found, ms(0)];
    if (jitter + delay > 0) found = found.map((late) => ms(late + delay + random.fraction() * jitter));
  }
  return found;
}

/** How late the next bytes of a stream are. A lost segment is sent again: it costs time, never order. */
export function lateness(ways: readonly Weather[], random: Random): number {
  let late = 0;
  for (const { loss, jitter, delay } of ways) {
    late += delay + (jitter > 0 ? random.fraction() * jitter : 0);
    if (loss > 0 && random.fraction() < loss) late += SENT_AGAIN;
  }
  return late;
}

/** TCP's first wait for an acknowledgement (RFC 6298, as Linux has it). */
const SENT_AGAIN = 200;
