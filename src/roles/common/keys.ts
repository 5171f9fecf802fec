import type { Identity } from '../../core/ports/crypto.js';
import type { WireGuardKeyPair } from '../../model/keys.js';
import type { JoinToken } from '../../model/messages.js';

/** What a member node brings from its state directory and its command line. */
export interface NodeKeys {
  readonly identity: Identity;
  /** An exit's first, or a supernode's egress's; clients use a fresh pair per session instead. */
  readonly wireguard: WireGuardKeyPair;
  /** Keeps the key that new sessions get beside the database, in the place of the one before, of which nothing stays. */
  readonly keepWireguard?: (pair: WireGuardKeyPair) => void;
  /** Needed at the first start; another one later enrols the node anew. */
  readonly joinToken: JoinToken | undefined;
}
