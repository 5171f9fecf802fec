import { chmodSync, closeSync, fsyncSync, linkSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import type { BaseStore, Store } from '../../core/ports/store.js';
import { VpndError } from '../../model/errors.js';
import type { Role } from '../../model/role.js';
import { auditStore } from './audit.js';
import { directoryStore } from './directory.js';
import { translating } from './errors.js';
import { factStore } from './facts.js';
import { APPLICATION_ID, inspect } from './inspect.js';
import { ledgerStore } from './ledger.js';
import { type Migration, migrate, newestVersion } from './migrate.js';
import { migrations } from './migrations/index.js';

export const STORE_FILE = 'vpnd.db';
/** The database with what SQLite keeps beside it. */
export const STORE_FILES: readonly string[] = ['', '-wal', '-shm'].map((suffix) => STORE_FILE + suffix);
/** How long a write waits for another process's. Writes take milliseconds. */
const BUSY_LIMIT_MS = 5_000;
/** The first format whose writers overwrite what they delete. */
const OVERWRITES_SINCE = 5;

export interface OpenOptions {
  /** Whose state this is; a directory made for one role is refused to another. */
  readonly role: Role;
}

/**
 * Opens `vpnd.db` in a state directory that exists, or makes it. WAL and `synchronous=FULL`: a write that returned
 * survives a power cut.
 *
 * Throws VpndError: `state-corrupt` and `state-newer` (file untouched), `state-unreadable`, `disk-full`, `state-locked`,
 * `bad-config` when the directory is another role's.
 */
export function openStore(dir: string, options: OpenOptions): Store {
  const { ledger, facts, audit, purge, close } = open(dir, options.role);
  return { ledger, facts, audit, purge, close };
}

/** As `openStore`, with base's directory. */
export function openBaseStore(dir: string): BaseStore {
  return open(dir, 'base');
}

function open(dir: string, role: Role): BaseStore {
  const path = join(dir, STORE_FILE);
  if (!inspect(path, newestVersion(migrations))) make(path, migrations);
  const db = translating(path, () => connect(path, migrations));
  try {
    const guard = <T>(action: () => T): T => translating(path, action);
    const facts = guard(() => factStore(db, guard));
    guard(() => claim(dir, role, facts));
    return {
      facts,
      ledger: guard(() => ledgerStore(db, guard)),
      directory: guard(() => directoryStore(db, guard)),
      audit: guard(() => auditStore(db, guard)),
      purge: () => guard(() => emptyLog(db)),
      close: () => guard(() => db.close()),
    };
  } catch (thrown) {
    db.close();
    throw thrown;
  }
}

/**
 * A new database comes into being under its name whole: an empty or half-made `vpnd.db` is then always damage, and never
 * taken for a fresh start that forgets everybody.
 */
function make(path: string, steps: readonly Migration[]): void {
  const temporary = `${path}.new-${process.pid}`;
  const clear = () => {
    for (const suffix of ['', '-wal', '-shm', '-journal']) rmSync(temporary + suffix, { force: true });
  };
  translating(path, () => {
    try {
      clear();
      closeSync(openSync(temporary, 'wx', 0o600));
      const db = new Database(temporary);
      try {
        db.pragma(`application_id = ${APPLICATION_ID}`);
        migrate(configure(db), steps);
        db.pragma('journal_mode = DELETE');
      } finally {
        db.close();
      }
      sync(temporary);
      putInPlace(temporary, path);
      sync(dirname(path));
    } finally {
      clear();
    }
  });
}

/** A link never replaces what is there: of two processes that make the same file, the later one takes the earlier's. */
function putInPlace(temporary: string, path: string): void {
  try {
    linkSync(temporary, path);
  } catch (thrown) {
    const code = thrown instanceof Error && 'code' in thrown ? thrown.code : undefined;
    if (code === 'EEXIST') return;
    // Some file systems have no links; the state directory's lock keeps others away there.
    if (code !== 'EPERM' && code !== 'ENOTSUP' && code !== 'ENOSYS') throw thrown;
    renameSync(temporary, path);
  }
}

function connect(path: string, steps: readonly Migration[]): Database.Database {
  const db = new Database(path, { fileMustExist: true, timeout: BUSY_LIMIT_MS });
  try {
    chmodSync(path, 0o600);
    const before = Number(db.pragma('user_version', { simple: true }));
    migrate(configure(db), steps);
    // Older versions left what they deleted on spare pages.
    if (before < OVERWRITES_SINCE) db.exec('VACUUM');
    return db;
  } catch (thrown) {
    db.close();
    throw thrown;
  }
}

/** The write-ahead log holds pages as they were; TRUNCATE copies what counts into the main file, and cuts it to nothing. */
function emptyLog(db: Database.Database): boolean {
  const [result] = db.pragma('wal_checkpoint(TRUNCATE)') as readonly { readonly busy: number }[];
  return result?.busy === 0;
}

function configure(db: Database.Database): Database.Database {
  db.pragma('journal_mode = WAL');
  db.pragma('synchronous = FULL');
  db.pragma('foreign_keys = ON');
  // What is deleted is overwritten with zeros, free pages included; see emptyLog() for the log.
  db.pragma('secure_delete = ON');
  db.pragma('trusted_schema = OFF');
  db.pragma('cell_size_check = ON');
  return db;
}

function claim(dir: string, role: Role, facts: Store['facts']): void {
  const owner = facts.get<string>('store/role');
  if (owner === undefined) facts.put('store/role', role);
  else if (owner !== role)
    throw new VpndError(
      'bad-config',
      `${dir} holds the state of this machine's ${owner}; give the ${role} a state directory of its own (--state-dir)`,
    );
}

function sync(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
