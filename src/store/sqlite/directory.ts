import type { Database } from 'better-sqlite3';
import type {
  DirectoryStore,
  MemberRecord,
  Redemption,
  RevocationRecord,
  RevocationSet,
  TokenRecord,
} from '../../core/ports/store.js';
import type { Bytes } from '../../model/bytes.js';
import type { PeerId } from '../../model/ids.js';
import type { RevocationKind } from '../../model/revocation.js';
import type { MemberRole, Region } from '../../model/role.js';
import { type Instant, instantOf } from '../../model/time.js';
import { decideRedemption, lowestFree, type RedemptionWish } from '../records.js';
import type { Guard } from './facts.js';

interface TokenRow {
  readonly id: string;
  readonly secret_hash: Buffer;
  readonly role: string;
  readonly region: string;
  readonly pool: string;
  readonly note: string;
  readonly created_at: number;
  readonly expires_at: number;
  readonly uses: number;
  readonly uses_left: number;
  readonly revoked: number;
  readonly egress: number;
}

interface MemberRow {
  readonly peer: string;
  readonly roles: string;
  readonly region: string;
  readonly pool: string;
  readonly token_id: string;
  readonly enrolled_at: number;
  readonly revoked_at: number | null;
}

interface CountRow {
  readonly roles: string;
  readonly region: string;
  readonly n: number;
}

interface RevocationRow {
  readonly peer: string;
  readonly kind: string;
  readonly revoked_at: number;
  readonly reason: string;
}

interface ListRow {
  readonly epoch: number;
  readonly changed_at: number;
}

/** After every character of an id. */
const BEYOND_IDS = '~';

/** Asynchronous by its port; here every call is over in one turn, under SQLite's write lock. */
export function directoryStore(db: Database, guard: Guard): DirectoryStore {
  const addToken = db.prepare<[TokenRow]>(`
    INSERT INTO token
      (id, secret_hash, role, region, pool, note, created_at, expires_at, uses, uses_left, revoked, egress)
    VALUES
      (@id, @secret_hash, @role, @region, @pool, @note, @created_at, @expires_at, @uses, @uses_left, @revoked, @egress)`);
  const tokens = db.prepare<[], TokenRow>('SELECT * FROM token ORDER BY id');
  const tokenBySecret = db.prepare<[Buffer], TokenRow>('SELECT * FROM token WHERE secret_hash = ?');
  const revoke = db.prepare<[string]>('UPDATE token SET revoked = 1 WHERE id = ?');
  const setUses = db.prepare<[number, string]>('UPDATE token SET uses_left = ? WHERE id = ?');
  // Not OR REPLACE, which deletes without asking the triggers that count.
  const putMember = db.prepare<[MemberRow]>(`
    INSERT INTO member (peer, roles, region, pool, token_id, enrolled_at, revoked_at)
    VALUES (@peer, @roles, @region, @pool, @token_id, @enrolled_at, @revoked_at)
    ON CONFLICT (peer) DO UPDATE SET roles = excluded.roles, region = excluded.region, pool = excluded.pool,
      token_id = excluded.token_id, enrolled_at = excluded.enrolled_at, revoked_at = excluded.revoked_at`);
  const member = db.prepare<[string], MemberRow>('SELECT * FROM member WHERE peer = ?');
  // One lower bound each: of two, SQLite enters the index by the first, and reads from there on.
  const membersBeyond = db.prepare<[string, string, number], MemberRow>(
    'SELECT * FROM member WHERE peer > ? AND peer < ? ORDER BY peer LIMIT ?',
  );
  const membersFrom = db.prepare<[string, string, number], MemberRow>(
    'SELECT * FROM member WHERE peer >= ? AND peer < ? ORDER BY peer LIMIT ?',
  );
  const revokedRow = db.prepare<[string], RevocationRow>('SELECT * FROM revocation WHERE peer = ?');
  const revokedRows = db.prepare<[], RevocationRow>('SELECT * FROM revocation');
  const addRevoked = db.prepare<[RevocationRow]>(
    'INSERT INTO revocation (peer, kind, revoked_at, reason) VALUES (@peer, @kind, @revoked_at, @reason)',
  );
  const dropRevoked = db.prepare<[string]>('DELETE FROM revocation WHERE peer = ?');
  const dropAllRevoked = db.prepare<[]>('DELETE FROM revocation');
  const markMember = db.prepare<[number | null, string]>('UPDATE member SET revoked_at = ? WHERE peer = ?');
  // Those that are shut out are few; all the others stay unread.
  const unmarkMembers = db.prepare<[]>('UPDATE member SET revoked_at = NULL WHERE revoked_at IS NOT NULL');
  const markMembers = db.prepare<[]>(
    'UPDATE member SET revoked_at = revocation.revoked_at FROM revocation WHERE revocation.peer = member.peer',
  );
  const list = db.prepare<[], ListRow>('SELECT epoch, changed_at FROM revocation_list');
  const putList = db.prepare<[number, number]>(
    'INSERT OR REPLACE INTO revocation_list (only_one, epoch, changed_at) VALUES (1, ?, ?)',
  );
  const nextEpoch = (now: Instant) => putList.run((list.get()?.epoch ?? 0) + 1, now);
  const census = db.prepare<[], CountRow>('SELECT roles, region, n FROM member_count WHERE n > 0');
  const held = db.prepare<[string], { number: number }>('SELECT number FROM block WHERE owner = ? ORDER BY number');
  const taken = db.prepare<[], { number: number }>('SELECT number FROM block');
  const addBlock = db.prepare<[number, string, number]>(
    'INSERT INTO block (number, owner, leased_at) VALUES (?, ?, ?)',
  );

  const redeem = db.transaction((secretHash: Bytes, wish: RedemptionWish, now: Instant): Redemption => {
    const token = tokenBySecret.get(Buffer.from(secretHash));
    const known = member.get(wish.peer);
    const decision = decideRedemption(
      token && tokenOf(token),
      known && memberOf(known),
      wish,
      now,
      revokedRow.get(wish.peer) !== undefined,
    );
    if (decision.kind === 'refuse') return { ok: false, error: decision.error };
    if (decision.kind === 'spend') {
      setUses.run(decision.token.usesLeft, decision.token.id);
      putMember.run(memberRow(decision.member));
    }
    return { ok: true, member: decision.member };
  });

  const shutOut = db.transaction((record: RevocationRecord): boolean => {
    if (revokedRow.get(record.peer) !== undefined) return false;
    addRevoked.run(revocationRow(record));
    markMember.run(record.at, record.peer);
    nextEpoch(record.at);
    return true;
  });

  const letIn = db.transaction((peer: PeerId, now: Instant): boolean => {
    if (dropRevoked.run(peer).changes === 0) return false;
    markMember.run(null, peer);
    nextEpoch(now);
    return true;
  });

  const adopt = db.transaction((set: RevocationSet): void => {
    dropAllRevoked.run();
    for (const record of set.revoked) addRevoked.run(revocationRow(record));
    unmarkMembers.run();
    markMembers.run();
    putList.run(set.epoch, set.changedAt);
  });

  const lease = db.transaction((supernode: PeerId, atLeast: number, limit: number, now: Instant): readonly number[] => {
    const mine = held.all(supernode).map(({ number }) => number);
    if (mine.length >= atLeast) return mine;
    const others = new Set(taken.all().map(({ number }) => number));
    const fresh = lowestFree(others, atLeast - mine.length, limit);
    for (const index of fresh) addBlock.run(index, supernode, now);
    return [...mine, ...fresh].sort((a, b) => a - b);
  });

  return {
    createToken: async (token) => {
      guard(() => addToken.run(tokenRow(token)));
    },
    tokens: async () => guard(() => tokens.all().map(tokenOf)),
    revokeToken: async (id) => guard(() => revoke.run(id).changes > 0),
    // IMMEDIATE takes the write lock before the first read: what was read is still true when it is written.
    redeem: async (secretHash, wish, now) => guard(() => redeem.immediate(secretHash, wish, now)),
    member: async (peer) =>
      guard(() => {
        const row = member.get(peer);
        return row === undefined ? undefined : memberOf(row);
      }),
    members: async ({ after = '', beginning = '', limit }) =>
      guard(() => {
        const end = beginning + BEYOND_IDS;
        const rows = after > beginning ? membersBeyond.all(after, end, limit) : membersFrom.all(beginning, end, limit);
        return rows.map(memberOf);
      }),
    revocations: async () =>
      guard(() => {
        const { epoch, changed_at: changedAt } = list.get() ?? { epoch: 0, changed_at: 0 };
        return { epoch, changedAt: instantOf(changedAt), revoked: revokedRows.all().map(revocationOf) };
      }),
    revoke: async (record) => guard(() => shutOut.immediate(record)),
    unrevoke: async (peer, now) => guard(() => letIn.immediate(peer, now)),
    adoptRevocations: async (set) => guard(() => adopt.immediate(set)),
    census: async () =>
      guard(() =>
        census.all().map(({ roles, region, n }) => ({ roles: rolesOf(roles), region: region as Region, members: n })),
      ),
    leaseBlocks: async (supernode, atLeast, limit, now) => guard(() => lease.immediate(supernode, atLeast, limit, now)),
  };
}

const tokenRow = (token: TokenRecord): TokenRow => ({
  id: token.id,
  secret_hash: Buffer.from(token.secretHash),
  role: token.role,
  region: token.region,
  pool: token.pool,
  note: token.note,
  created_at: token.createdAt,
  expires_at: token.expiresAt,
  uses: token.uses,
  uses_left: token.usesLeft,
  revoked: token.revoked ? 1 : 0,
  egress: token.egress ? 1 : 0,
});

const tokenOf = (row: TokenRow): TokenRecord => ({
  id: row.id,
  secretHash: new Uint8Array(row.secret_hash),
  role: row.role as MemberRole,
  region: row.region as Region,
  pool: row.pool,
  note: row.note,
  createdAt: instantOf(row.created_at),
  expiresAt: instantOf(row.expires_at),
  uses: row.uses,
  usesLeft: row.uses_left,
  revoked: row.revoked !== 0,
  egress: row.egress !== 0,
});

const revocationRow = ({ peer, kind, at, reason }: RevocationRecord): RevocationRow => ({
  peer,
  kind,
  revoked_at: at,
  reason,
});

const revocationOf = (row: RevocationRow): RevocationRecord => ({
  peer: row.peer as PeerId,
  kind: row.kind as RevocationKind,
  at: instantOf(row.revoked_at),
  reason: row.reason,
});

const rolesOf = (text: string): readonly MemberRole[] => text.split(',') as MemberRole[];

const memberRow = (record: MemberRecord): MemberRow => ({
  peer: record.peer,
  roles: record.roles.join(','),
  region: record.region,
  pool: record.pool,
  token_id: record.tokenId,
  enrolled_at: record.enrolledAt,
  revoked_at: record.revokedAt ?? null,
});

const memberOf = (row: MemberRow): MemberRecord => ({
  peer: row.peer as PeerId,
  roles: rolesOf(row.roles),
  region: row.region as Region,
  pool: row.pool,
  tokenId: row.token_id,
  enrolledAt: instantOf(row.enrolled_at),
  revokedAt: row.revoked_at === null ? undefined : instantOf(row.revoked_at),
});
