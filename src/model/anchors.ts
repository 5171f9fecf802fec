import type { Bytes } from './bytes.js';
import type { Instant } from './time.js';

/** What a node goes by: base's keys and the overlay's CAs. */
export interface Trust {
  /** Of the newest statement that was followed; 0 before the first. */
  readonly serial: number;
  /** Ed25519, 32 bytes each; the first signs at present. */
  readonly baseKeys: readonly Bytes[];
  /** PEM; the first issues at present. */
  readonly authorities: readonly string[];
}

/** base's statement of all three, its signature checked by whoever made this value. */
export interface Anchors extends Trust {
  readonly issuedAt: Instant;
}

/** Of each kind: the one before and the one after. */
export const MAX_ANCHORS = 2;
