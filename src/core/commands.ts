import { toHex } from '../model/bytes.js';
import type { Command, Desired } from '../model/command.js';
import type { CommandId, SessionId } from '../model/ids.js';
import type { Millis } from '../model/time.js';
import type { Random } from './ports/random.js';

export const newSessionId = (random: Random): SessionId => toHex(random.bytes(16)) as SessionId;

/** A command with a fresh id. */
export function newCommand(
  random: Random,
  session: SessionId,
  generation: number,
  lease: Millis,
  desired: Desired,
): Command {
  return { id: toHex(random.bytes(16)) as CommandId, session, generation, lease, desired };
}
