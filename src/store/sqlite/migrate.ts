import type { Database } from 'better-sqlite3';

/** One step of the format, in a file of its own under migrations/. */
export interface Migration {
  /** The `user_version` it leads to. */
  readonly version: number;
  readonly name: string;
  readonly sql: string;
}

export const newestVersion = (migrations: readonly Migration[]): number => migrations.at(-1)?.version ?? 0;

/**
 * Brings a database to the newest format, each step in a transaction of its own. Ends with a checkpoint, so that the
 * header of the main file always tells the version, without its log.
 */
export function migrate(db: Database, migrations: readonly Migration[]): void {
  const step = db.transaction((migration: Migration) => {
    // Asked inside the transaction: two processes may open one file at the same moment.
    if (Number(db.pragma('user_version', { simple: true })) >= migration.version) return;
    db.exec(migration.sql);
    db.pragma(`user_version = ${migration.version}`);
  });
  if (Number(db.pragma('user_version', { simple: true })) >= newestVersion(migrations)) return;
  for (const migration of migrations) step.immediate(migration);
  db.pragma('wal_checkpoint(TRUNCATE)');
}
