import type { Migration } from '../migrate.js';

/** Times are milliseconds since the Unix epoch; REAL, since a lease may end on a fraction of one. */
export const ledger: Migration = {
  version: 1,
  name: 'ledger and facts',
  sql: `
    CREATE TABLE ledger_entry (
      id TEXT PRIMARY KEY,
      session TEXT NOT NULL,
      generation INTEGER NOT NULL,
      content_hash BLOB NOT NULL,
      response TEXT NOT NULL,
      applied_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX ledger_entry_applied_at ON ledger_entry (applied_at);

    CREATE TABLE ledger_session (
      session TEXT PRIMARY KEY,
      generation INTEGER NOT NULL,
      owner TEXT NOT NULL,
      desired TEXT NOT NULL,
      tombstone INTEGER NOT NULL,
      lease_until REAL NOT NULL,
      updated_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX ledger_session_tombstone ON ledger_session (updated_at) WHERE tombstone = 1;

    CREATE TABLE fact (
      name TEXT PRIMARY KEY,
      value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;
  `,
};
