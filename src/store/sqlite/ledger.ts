import type { Database } from 'better-sqlite3';
import type { LedgerEntry, LedgerStore, SessionRecord } from '../../core/ports/store.js';
import type { CommandId, PeerId, SessionId } from '../../model/ids.js';
import { instantOf } from '../../model/time.js';
import { checkRecord, decodeDesired, decodeResponse, encodeDesired, encodeResponse, isTombstone } from '../records.js';
import type { Guard } from './facts.js';

interface EntryRow {
  readonly id: string;
  readonly session: string;
  readonly generation: number;
  readonly content_hash: Buffer;
  readonly response: string;
  readonly applied_at: number;
}

interface SessionRow {
  readonly session: string;
  readonly generation: number;
  readonly owner: string;
  readonly desired: string;
  readonly tombstone: number;
  readonly lease_until: number;
  readonly updated_at: number;
}

export function ledgerStore(db: Database, guard: Guard): LedgerStore {
  const command = db.prepare<[string], EntryRow>('SELECT * FROM ledger_entry WHERE id = ?');
  const session = db.prepare<[string], SessionRow>('SELECT * FROM ledger_session WHERE session = ?');
  const sessions = db.prepare<[], SessionRow>('SELECT * FROM ledger_session ORDER BY session');
  const putEntry = db.prepare<[EntryRow]>(`
    INSERT OR REPLACE INTO ledger_entry (id, session, generation, content_hash, response, applied_at)
    VALUES (@id, @session, @generation, @content_hash, @response, @applied_at)`);
  const putSession = db.prepare<[SessionRow]>(`
    INSERT OR REPLACE INTO ledger_session (session, generation, owner, desired, tombstone, lease_until, updated_at)
    VALUES (@session, @generation, @owner, @desired, @tombstone, @lease_until, @updated_at)`);
  const pruneEntries = db.prepare<[number]>('DELETE FROM ledger_entry WHERE applied_at < ?');
  const pruneSessions = db.prepare<[number]>('DELETE FROM ledger_session WHERE tombstone = 1 AND updated_at < ?');

  const record = db.transaction((entry: EntryRow, state: SessionRow) => {
    putEntry.run(entry);
    putSession.run(state);
  });
  const prune = db.transaction((before: number) => {
    pruneEntries.run(before);
    pruneSessions.run(before);
  });

  return {
    command: (id) =>
      guard(() => {
        const row = command.get(id);
        return row === undefined ? undefined : entryOf(row);
      }),
    session: (id) =>
      guard(() => {
        const row = session.get(id);
        return row === undefined ? undefined : sessionOf(row);
      }),
    sessions: () => guard(() => sessions.all().map(sessionOf)),
    record: (entry, state) => {
      checkRecord(entry, state);
      guard(() => record.immediate(entryRow(entry), sessionRow(state)));
    },
    prune: (before) => guard(() => prune.immediate(before)),
  };
}

const entryRow = (entry: LedgerEntry): EntryRow => ({
  id: entry.id,
  session: entry.session,
  generation: entry.generation,
  content_hash: Buffer.from(entry.contentHash),
  response: encodeResponse(entry.response),
  applied_at: entry.appliedAt,
});

const entryOf = (row: EntryRow): LedgerEntry => ({
  id: row.id as CommandId,
  session: row.session as SessionId,
  generation: row.generation,
  contentHash: new Uint8Array(row.content_hash),
  response: decodeResponse(row.response),
  appliedAt: instantOf(row.applied_at),
});

const sessionRow = (record: SessionRecord): SessionRow => ({
  session: record.session,
  generation: record.generation,
  owner: record.owner,
  desired: encodeDesired(record.desired),
  tombstone: isTombstone(record) ? 1 : 0,
  lease_until: record.leaseUntil,
  updated_at: record.updatedAt,
});

const sessionOf = (row: SessionRow): SessionRecord => ({
  session: row.session as SessionId,
  generation: row.generation,
  owner: row.owner as PeerId,
  desired: decodeDesired(row.desired),
  leaseUntil: instantOf(row.lease_until),
  updatedAt: instantOf(row.updated_at),
});
