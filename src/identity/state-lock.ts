import { closeSync, existsSync, openSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { VpndError } from '../model/errors.js';
import { fileError, writePrivateFile } from './state-files.js';

/** What the lock consists of. */
export const LOCK_FILES: readonly string[] = ['vpnd.pid', 'lock.db'];

/** A held lock on a state directory. The kernel releases it when the process dies, however it dies. */
export interface StateLock {
  release(): void;
}

/**
 * Node offers no flock. SQLite does hold fcntl locks, which end with the process: an EXCLUSIVE transaction on an empty
 * database, never written to, is a lock that no kill -9 can leave behind. `vpnd.pid` only tells people who holds it.
 *
 * Throws `state-locked` with the holder's pid.
 */
export function lockState(dir: string): StateLock {
  const path = join(dir, 'lock.db');
  const isNew = !existsSync(path);
  let db: Database.Database;
  try {
    // Opened by hand first: SQLite would create it with the mode of the umask.
    closeSync(openSync(path, 'a', 0o600));
    db = new Database(path, { timeout: 0 });
  } catch (thrown) {
    throw fileError(path, thrown);
  }
  try {
    // Nothing is ever written, so no journal is needed beside it.
    db.pragma('journal_mode = MEMORY');
    db.exec('BEGIN EXCLUSIVE');
  } catch (thrown) {
    if (isNew) rmSync(path, { force: true });
    db.close();
    const code = thrown instanceof Database.SqliteError ? thrown.code : '';
    if (!/^SQLITE_(BUSY|LOCKED)/.test(code)) throw fileError(path, thrown);
    const pid = holder(dir);
    throw new VpndError(
      'state-locked',
      `${dir} is in use by another vpnd${pid === undefined ? '' : ` (pid ${pid})`}; stop that one, or give this one a state directory of its own`,
      { cause: thrown, details: pid === undefined ? { path: dir } : { path: dir, pid } },
    );
  }
  try {
    writePrivateFile(join(dir, 'vpnd.pid'), `${process.pid}\n`);
  } catch (thrown) {
    if (isNew) rmSync(path, { force: true });
    db.close();
    throw thrown;
  }
  return { release: () => db.close() };
}

function holder(dir: string): string | undefined {
  try {
    const text = readFileSync(join(dir, 'vpnd.pid'), 'utf8').trim();
    return /^\d{1,10}$/.test(text) ? text : undefined;
  } catch {
    return undefined;
  }
}
