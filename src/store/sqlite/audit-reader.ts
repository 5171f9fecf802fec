import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { VpndError } from '../../model/errors.js';
import { type AuditReader, auditReader } from './audit.js';
import { translating } from './errors.js';
import { STORE_FILE } from './open.js';
import { withLog } from './wal.js';

export interface OpenAuditReader extends AuditReader {
  close(): void;
}

/**
 * The audit log in a state directory, to look at: of a daemon that runs, of one that is stopped, or of a copy. It is
 * one moment's: what is written meanwhile is not in it. Nothing that is stored changes. Throws VpndError `not-found` (no database, or none with an audit log), `state-corrupt`,
 * `state-unreadable`.
 */
export function openAuditReader(dir: string): OpenAuditReader {
  const path = join(dir, STORE_FILE);
  if (!existsSync(path))
    throw new VpndError('not-found', `there is no ${STORE_FILE} in ${dir}; say where with --state-dir`);
  return translating(path, () => {
    const db = existsSync(`${path}-wal`) ? new Database(path, { readonly: true }) : image(path);
    try {
      const known = db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'audit_entry'").get();
      if (known === undefined)
        throw new VpndError(
          'not-found',
          `${path} has no audit log yet; a daemon of this version makes it at its start`,
        );
      db.exec('BEGIN');
      const reader = auditReader(db, (action) => translating(path, action));
      return { ...reader, close: () => db.close() };
    } catch (thrown) {
      db.close();
      throw thrown;
    }
  });
}

/** Without its log nobody writes to it: SQLite, opening the file itself, would make one just to look. */
function image(path: string): Database.Database {
  const copy = withLog(readFileSync(path), Buffer.alloc(0));
  copy[18] = 1;
  copy[19] = 1;
  return new Database(copy);
}
