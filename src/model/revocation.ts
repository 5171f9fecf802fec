import type { Bytes } from './bytes.js';
import type { PeerId } from './ids.js';
import type { Signed } from './membership.js';
import type { Instant } from './time.js';

/** What a node that was shut out had been; one that may be supernode and exit is a `supernode`. */
export type RevocationKind = 'peer' | 'supernode';

/** A node that was shut out, by its identity key. */
export interface Revocation {
  readonly peer: PeerId;
  readonly kind: RevocationKind;
  readonly at: Instant;
}

/** base's statement of who is shut out: the digest of a whole list, its signature checked by whoever made this value. */
export interface RevocationHead {
  /** Counts up by one at each change. */
  readonly epoch: number;
  readonly issuedAt: Instant;
  readonly count: number;
  /** SHA-256 of `packRevocations`, 32 bytes. */
  readonly digest: Bytes;
}

/** What makes the list of `head` out of the one of epoch `from`; from 0, where it was empty, this is the whole list. */
export interface RevocationChange {
  readonly head: Signed;
  readonly from: number;
  readonly added: readonly Revocation[];
  readonly removed: readonly PeerId[];
  /** Counted from 0. */
  readonly part: number;
  readonly parts: number;
}

/** Nodes on a list, at most: with a whole list under way, two thirds of a stream's outbox are taken. */
export const MAX_REVOCATIONS = 16_384;
/** Nodes in one part of a change: below 200 KB, where a message is 256 KiB at most. */
export const MAX_REVOCATIONS_PER_PART = 4_096;
