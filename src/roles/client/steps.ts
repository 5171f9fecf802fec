import type { Log } from '../../core/ports/log.js';
import { type Machine, mayBecome } from '../../core/session-states.js';

/** Says it where a step is taken that docs/sessions.md does not know: a mistake in one of the two. */
export function checkStep(log: Log, machine: Machine, from: string, to: string): void {
  if (!mayBecome(machine, from, to)) log.error(`a ${machine} that was ${from} became ${to}: no such step is known`);
}
