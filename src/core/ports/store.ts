import type { Bytes } from '../../model/bytes.js';
import type { CommandDone, Desired } from '../../model/command.js';
import type { CommandId, PeerId, SessionId } from '../../model/ids.js';
import type { Revocation } from '../../model/revocation.js';
import type { MemberRole, Region } from '../../model/role.js';
import type { Instant } from '../../model/time.js';
import type { AuditStore } from './audit.js';

/**
 * Durable state. Every method that writes returns only when the write survives a power cut, or throws VpndError
 * (`disk-full`, `state-corrupt`). Synchronous: SQLite is, and a decision then needs no lock around its store.
 * Real: src/store/sqlite; twin: src/store/memory.ts; one contract suite over both.
 */
export interface LedgerStore {
  command(id: CommandId): LedgerEntry | undefined;
  /** The session's newest applied command of each unit-bearing kind, and its tombstone. */
  session(id: SessionId): SessionRecord | undefined;
  sessions(): readonly SessionRecord[];
  /** In one transaction: remember the answer under the command's id, and the session's new state. */
  record(entry: LedgerEntry, session: SessionRecord): void;
  /** Forget answers and tombstones older than this. */
  prune(before: Instant): void;
}

/** An answered command. */
export interface LedgerEntry {
  readonly id: CommandId;
  readonly session: SessionId;
  readonly generation: number;
  /** SHA-256 over the command's content: the same id with other content is refused. */
  readonly contentHash: Bytes;
  readonly response: CommandDone;
  readonly appliedAt: Instant;
}

/** What a node's ledger holds of one session. */
export interface SessionRecord {
  readonly session: SessionId;
  readonly generation: number;
  /** Who ordered it: only that supervisor, or this node itself, may change it. */
  readonly owner: PeerId;
  /** Desired states in force, at most one per data-plane unit; empty after DISCONNECT (a tombstone). */
  readonly desired: readonly Desired[];
  readonly leaseUntil: Instant;
  readonly updatedAt: Instant;
}

/** Small things a node keeps by name: JSON values, durable. */
export interface FactStore {
  get<T>(name: string): T | undefined;
  put(name: string, value: unknown): void;
  remove(name: string): void;
  names(prefix: string): readonly string[];
}

export interface TokenRecord {
  /** Public handle, 8 hexadecimal digits. */
  readonly id: string;
  /** SHA-256 of the secret. */
  readonly secretHash: Bytes;
  readonly role: MemberRole;
  /** Supernodes only: those who join with it may be exits too. */
  readonly egress: boolean;
  readonly region: Region;
  readonly pool: string;
  readonly note: string;
  readonly createdAt: Instant;
  readonly expiresAt: Instant;
  readonly uses: number;
  readonly usesLeft: number;
  readonly revoked: boolean;
}

export interface MemberRecord {
  readonly peer: PeerId;
  readonly roles: readonly MemberRole[];
  readonly region: Region;
  readonly pool: string;
  readonly tokenId: string;
  readonly enrolledAt: Instant;
  readonly revokedAt: Instant | undefined;
}

/** Which members: at most `limit`, the first after an id, of those whose ids begin so. */
export interface MemberRange {
  readonly after?: PeerId | undefined;
  readonly beginning?: string | undefined;
  readonly limit: number;
}

/** How many members have these roles in this region. */
export interface MemberCount {
  readonly roles: readonly MemberRole[];
  readonly region: Region;
  readonly members: number;
}

export type Redemption =
  | { readonly ok: true; readonly member: MemberRecord }
  | {
      readonly ok: false;
      readonly error:
        | 'bad-token'
        | 'token-expired'
        | 'token-used'
        | 'token-revoked'
        | 'wrong-role'
        | 'wrong-region'
        /** The node was shut out; the token is not spent. */
        | 'revoked';
    };

/** A node that was shut out, as base keeps it. */
export interface RevocationRecord extends Revocation {
  /** As whoever shut it out said. */
  readonly reason: string;
}

/** Everybody who is shut out. */
export interface RevocationSet {
  /** Counts up by one at each change; 0 while nobody ever was. */
  readonly epoch: number;
  /** Of the latest change; 0 at epoch 0. */
  readonly changedAt: Instant;
  /** In no order. */
  readonly revoked: readonly RevocationRecord[];
}

/** base's directory. Asynchronous, since it may live in PostgreSQL. */
export interface DirectoryStore {
  createToken(token: TokenRecord): Promise<void>;
  tokens(): Promise<readonly TokenRecord[]>;
  /** False when there is no such token. */
  revokeToken(id: string): Promise<boolean>;
  /**
   * Spend one use and enrol, in one transaction: of any number of simultaneous uses of a one-use token exactly one
   * wins. The same peer enrolling again with the token it enrolled with is answered again without spending a use.
   */
  redeem(
    secretHash: Bytes,
    wish: { readonly peer: PeerId; readonly role: MemberRole; readonly region: Region | undefined },
    now: Instant,
  ): Promise<Redemption>;
  member(peer: PeerId): Promise<MemberRecord | undefined>;
  /** By their ids in order, a part at a time: there may be a million. */
  members(range: MemberRange): Promise<readonly MemberRecord[]>;
  /** Everybody who enrolled, counted; costs the same whatever their number. */
  census(): Promise<readonly MemberCount[]>;
  revocations(): Promise<RevocationSet>;
  /** Shuts a key out, enrolled or not, and counts the epoch up, in one transaction. False where it was so already. */
  revoke(record: RevocationRecord): Promise<boolean>;
  /** Lets it in again, and counts the epoch up. False where it was not shut out. */
  unrevoke(peer: PeerId, now: Instant): Promise<boolean>;
  /** Another list in place of this one: an older state directory was put back. */
  adoptRevocations(set: RevocationSet): Promise<void>;
  /** Blocks this supernode holds, by index; leases `atLeast` of them when it holds fewer. Never two owners of one. */
  leaseBlocks(supernode: PeerId, atLeast: number, limit: number, now: Instant): Promise<readonly number[]>;
}

/** One node's open state directory. */
export interface Store {
  readonly ledger: LedgerStore;
  readonly facts: FactStore;
  readonly audit: AuditStore;
  /**
   * After this nothing of what was removed is left in the files, their spare pages and logs included. False when a
   * reader is in the way at present; to be tried again.
   */
  purge(): boolean;
  close(): void;
}

export interface BaseStore extends Store {
  readonly directory: DirectoryStore;
}
