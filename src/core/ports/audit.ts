import type { Bytes } from '../../model/bytes.js';
import type { PeerId } from '../../model/ids.js';
import type { Instant } from '../../model/time.js';

/** What an audit log can say has happened. Declared once, so that whoever searches a log knows the words. */
export type AuditCode =
  /** The daemon runs from here on; `version`, `role`. */
  | 'daemon-started'
  | 'daemon-stopped'
  /** A setting is another one than at the start before; the setting's name, never the value of a secret one. */
  | 'config-changed'
  /** Somebody asked over the local API for something that changes or reveals; recorded before it is done. */
  | 'admin-call'
  | 'token-made'
  | 'token-revoked'
  | 'token-spent'
  | 'enrolled'
  | 'enrolment-refused'
  | 'membership-issued'
  | 'membership-renewed'
  /** The CA's key signed a certificate. */
  | 'certificate-issued'
  /** The identity signed a list of revocations, bans or keys. */
  | 'list-signed'
  | 'peer-revoked'
  | 'peer-restored'
  | 'supernode-banned'
  | 'supernode-restored'
  /** A key was replaced: identity, WireGuard, CA or certificate key. */
  | 'key-rotated'
  /** Entries older than the retention were removed. */
  | 'audit-pruned'
  /** Things happened that could not be recorded at the time: how many. */
  | 'audit-gap'
  /** The daemon found at a start that its log is not as it left it. */
  | 'audit-broken';

/**
 * Who did it: `peer:<id>`, `supernode:<id>`, `base`, `local:uid=0` (who may open the socket of the local API),
 * `operator` (see the admin call before it), `daemon`, `stranger`.
 */
export type AuditActor =
  | `peer:${string}`
  | `supernode:${string}`
  | `local:${string}`
  | 'operator'
  | 'base'
  | 'daemon'
  | 'stranger';

export const byPeer = (id: PeerId): AuditActor => `peer:${id}`;
export const bySupernode = (id: PeerId): AuditActor => `supernode:${id}`;

export interface AuditEvent {
  readonly code: AuditCode;
  readonly by: AuditActor;
  /** On what: `token:1a2b3c4d`, `peer:<id>`, `supernode:<id>`, a call's or a setting's name; '' for nothing in particular. */
  readonly on: string;
  /** Short facts; no key, token, or address of a peer. */
  readonly detail?: Readonly<Record<string, string | number | boolean>>;
}

/** A node's tamper-evident memory. Real: src/obs/audit.ts over AuditStore; nodes without one have NO_AUDIT. */
export interface Audit {
  /**
   * Resolves when all of it is on disk, in this order and together. Rejects with VpndError (`disk-full`,
   * `state-unreadable`) when it is not: then what it says must not be done. For whatever a person orders, and whatever
   * gives somebody a right. Call it before acting where that can be; what then fails is recorded as refused.
   */
  record(...events: readonly AuditEvent[]): Promise<void>;
  /**
   * For what has happened whether or not it is recorded, and what must go on over a full disk (renewals). Never throws,
   * never waits. What could not be written is counted, and `audit-gap` says so as soon as writing works again.
   */
  note(event: AuditEvent): void;
  /** Why nothing can be recorded at present, for a status; undefined while all is well. */
  problem(): string | undefined;
}

/** Nodes that keep no audit log, and tests that do not look at it. */
export const NO_AUDIT: Audit = { record: async () => {}, note: () => {}, problem: () => undefined };

/** One link of the chain, as stored. */
export interface AuditEntry {
  /** From 1, without gaps. */
  readonly sequence: number;
  readonly at: Instant;
  readonly by: string;
  readonly code: string;
  readonly on: string;
  /** JSON object of strings, numbers and booleans, keys sorted. */
  readonly detail: string;
  /** Hash of the entry before; 32 zero bytes for the first. */
  readonly previous: Bytes;
  /** SHA-256 of all of the above. */
  readonly hash: Bytes;
}

/** The node's word that the chain was this long, and ended in this hash, at this time. */
export interface AuditSeal {
  readonly sequence: number;
  readonly hash: Bytes;
  readonly at: Instant;
  /** Ed25519 by the node's identity over a tag of its kind and the above. */
  readonly signature: Bytes;
}

/** Where the chain is kept: rows that are added, and removed from the old end only. */
export interface AuditStore {
  /**
   * In one transaction: the entries, what the chain now ends with, and checkpoints on the way. Throws as Store does, and
   * TypeError for an entry whose sequence is taken.
   */
  append(entries: readonly AuditEntry[], head: AuditSeal, checkpoints: readonly AuditSeal[]): void;
  /** Up to `limit` entries from this sequence on, oldest first, as they are stored. */
  read(from: number, limit: number): readonly AuditEntry[];
  head(): AuditSeal | undefined;
  /** What the removed entries ended with; undefined while none was removed. */
  anchor(): AuditSeal | undefined;
  checkpoints(): readonly AuditSeal[];
  /** In one transaction: remember the anchor, and remove all entries and checkpoints up to its sequence. */
  forget(anchor: AuditSeal): void;
}
