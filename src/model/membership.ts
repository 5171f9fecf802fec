import type { Bytes } from './bytes.js';
import type { PeerId } from './ids.js';
import type { MemberRole, Region } from './role.js';
import type { Instant } from './time.js';

/** base's statement of who a node is, its signature already checked by whoever made this value. */
export interface Membership {
  readonly peer: PeerId;
  readonly roles: readonly MemberRole[];
  readonly region: Region;
  /** A label requests may ask for; empty for none. */
  readonly pool: string;
  readonly notBefore: Instant;
  readonly notAfter: Instant;
  readonly epoch: number;
}

/** A statement as it travels: the signed bytes themselves and an Ed25519 signature (64 bytes) over them. */
export interface Signed {
  readonly body: Bytes;
  readonly signature: Bytes;
}
