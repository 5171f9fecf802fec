import type { Database } from 'better-sqlite3';
import type { AuditEntry, AuditSeal, AuditStore } from '../../core/ports/audit.js';
import { instantOf } from '../../model/time.js';
import type { Guard } from './facts.js';

interface EntryRow {
  readonly sequence: number;
  readonly at: number;
  readonly actor: string;
  readonly code: string;
  readonly object: string;
  readonly detail: string;
  readonly previous: Buffer;
  readonly hash: Buffer;
}

interface SealRow {
  readonly kind: 'head' | 'anchor' | 'checkpoint';
  readonly sequence: number;
  readonly hash: Buffer;
  readonly at: number;
  readonly signature: Buffer;
}

/** What only looks at a log needs. */
export type AuditReader = Pick<AuditStore, 'read' | 'head' | 'anchor' | 'checkpoints'>;

export function auditReader(db: Database, guard: Guard): AuditReader {
  const read = db.prepare<[number, number], EntryRow>(
    'SELECT * FROM audit_entry WHERE sequence >= ? ORDER BY sequence LIMIT ?',
  );
  const seals = db.prepare<[string], SealRow>('SELECT * FROM audit_seal WHERE kind = ? ORDER BY sequence');
  const one = (kind: SealRow['kind']) => guard(() => seals.all(kind).map(sealOf)[0]);
  return {
    read: (from, limit) => guard(() => read.all(from, limit).map(entryOf)),
    head: () => one('head'),
    anchor: () => one('anchor'),
    checkpoints: () => guard(() => seals.all('checkpoint').map(sealOf)),
  };
}

export function auditStore(db: Database, guard: Guard): AuditStore {
  const taken = db.prepare<[number], { n: number }>('SELECT count(*) AS n FROM audit_entry WHERE sequence = ?');
  const add = db.prepare<[EntryRow]>(`
    INSERT INTO audit_entry (sequence, at, actor, code, object, detail, previous, hash)
    VALUES (@sequence, @at, @actor, @code, @object, @detail, @previous, @hash)`);
  const addSeal = db.prepare<[SealRow]>(`
    INSERT INTO audit_seal (kind, sequence, hash, at, signature) VALUES (@kind, @sequence, @hash, @at, @signature)`);
  const dropSeal = db.prepare<[string]>('DELETE FROM audit_seal WHERE kind = ?');
  const dropEntries = db.prepare<[number]>('DELETE FROM audit_entry WHERE sequence <= ?');
  const dropCheckpoints = db.prepare<[number]>("DELETE FROM audit_seal WHERE kind = 'checkpoint' AND sequence <= ?");
  const replaceSeal = (kind: 'head' | 'anchor', seal: AuditSeal) => {
    dropSeal.run(kind);
    addSeal.run(sealRow(kind, seal));
  };

  const append = db.transaction(
    (entries: readonly AuditEntry[], head: AuditSeal, checkpoints: readonly AuditSeal[]): void => {
      for (const entry of entries) {
        if (taken.get(entry.sequence)?.n !== 0)
          throw new TypeError(`there is an audit entry ${entry.sequence} already`);
        add.run(entryRow(entry));
      }
      for (const seal of checkpoints) addSeal.run(sealRow('checkpoint', seal));
      replaceSeal('head', head);
    },
  );
  const forget = db.transaction((anchor: AuditSeal) => {
    replaceSeal('anchor', anchor);
    dropEntries.run(anchor.sequence);
    dropCheckpoints.run(anchor.sequence);
  });

  return {
    ...auditReader(db, guard),
    append: (entries, head, checkpoints) => guard(() => append.immediate(entries, head, checkpoints)),
    forget: (anchor) => guard(() => forget.immediate(anchor)),
  };
}

const entryRow = (entry: AuditEntry): EntryRow => ({
  sequence: entry.sequence,
  at: entry.at,
  actor: entry.by,
  code: entry.code,
  object: entry.on,
  detail: entry.detail,
  previous: Buffer.from(entry.previous),
  hash: Buffer.from(entry.hash),
});

const entryOf = (row: EntryRow): AuditEntry => ({
  sequence: row.sequence,
  at: instantOf(row.at),
  by: row.actor,
  code: row.code,
  on: row.object,
  detail: row.detail,
  previous: new Uint8Array(row.previous),
  hash: new Uint8Array(row.hash),
});

const sealRow = (kind: SealRow['kind'], seal: AuditSeal): SealRow => ({
  kind,
  sequence: seal.sequence,
  hash: Buffer.from(seal.hash),
  at: seal.at,
  signature: Buffer.from(seal.signature),
});

const sealOf = (row: SealRow): AuditSeal => ({
  sequence: row.sequence,
  hash: new Uint8Array(row.hash),
  at: instantOf(row.at),
  signature: new Uint8Array(row.signature),
});
