import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import Database from 'better-sqlite3';
import { VpndError } from '../../model/errors.js';
import { corrupt, translating } from './errors.js';
import { withLog } from './wal.js';

/** "vpnd" in ASCII, SQLite's `application_id`. */
export const APPLICATION_ID = 0x76706e64;
/** Up to here a file is read whole and every page of it checked before it is opened. */
const CHECK_LIMIT = 64 * 1024 * 1024;
const SQLITE_MAGIC = 'SQLite format 3\0';

/**
 * Looks at a database file without SQLite's opening it, so that one that is damaged or newer is not touched at all: no
 * recovery, no -wal or -shm left behind. Throws `state-corrupt`, `state-newer`, `state-unreadable`.
 *
 * Answers false when there is none.
 */
export function inspect(path: string, newestKnown: number): boolean {
  return translating(path, () => {
    const log = `${path}-wal`;
    if (!existsSync(path)) {
      // Beside a new file, SQLite would replay a log that belongs to the lost one.
      if (existsSync(log) && statSync(log).size > 0)
        throw corrupt(path, 'it is missing, but its write-ahead log is there');
      return false;
    }
    const { size } = statSync(path);
    const logSize = existsSync(log) ? statSync(log).size : 0;
    const whole = size + logSize <= CHECK_LIMIT;
    const main = whole ? readFileSync(path) : beginning(path);
    if (main.length < 512 || main.toString('latin1', 0, 16) !== SQLITE_MAGIC)
      throw corrupt(path, main.length === 0 ? 'it is empty' : 'it is not a SQLite database');
    // A large file is judged by its header alone; migrations leave no newer one in the log (see migrate.ts).
    const image = whole && logSize > 0 ? withLog(main, readFileSync(log)) : main;
    const application = image.readUInt32BE(68);
    if (application !== APPLICATION_ID) throw corrupt(path, 'it is the database of another program');
    const version = image.readUInt32BE(60);
    if (version > newestKnown)
      throw new VpndError(
        'state-newer',
        `${path} was written by a newer vpnd (its format is ${version}, this vpnd knows ${newestKnown}); upgrade vpnd; it was left untouched`,
        { details: { path, found: String(version), known: String(newestKnown) } },
      );
    if (whole) checkPages(path, image);
    return true;
  });
}

function beginning(path: string): Buffer {
  const header = Buffer.alloc(512);
  const fd = openSync(path, 'r');
  try {
    return header.subarray(0, readSync(fd, header));
  } finally {
    closeSync(fd);
  }
}

function checkPages(path: string, image: Buffer): void {
  // A database in memory has no log; these two bytes say that the file is meant to have one.
  const copy = Buffer.from(image);
  copy[18] = 1;
  copy[19] = 1;
  let verdict: unknown;
  try {
    const db = new Database(copy);
    try {
      verdict = db.pragma('quick_check(1)', { simple: true });
    } finally {
      db.close();
    }
  } catch (thrown) {
    throw corrupt(path, thrown instanceof Error ? thrown.message : String(thrown), thrown);
  }
  if (verdict !== 'ok') throw corrupt(path, verdictLine(String(verdict)));
}

/** quick_check names the database on a line of its own, which is always `main`, before it says what is wrong. */
const verdictLine = (verdict: string): string => verdict.split('\n').find((line) => !line.startsWith('***')) ?? verdict;
