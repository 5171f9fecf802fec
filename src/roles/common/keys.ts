import type { Identity } from '../../core/ports/crypto.js';
import type { WireGuardKeyPair } from '../../model/keys.js';
import type { JoinToken } from '../../model/messages.js';

/** What a member node brings from its state directory and its command line. */
export interface NodeKeys {
  readonly identity: Identity;
  /** Long-lived; clients use a fresh pair per session instead. */
  readonly wireguard: WireGuardKeyPair;
  /** Needed at the first start; another one later enrols the node anew. */
  readonly joinToken: JoinToken | undefined;
}
