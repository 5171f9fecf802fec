import type { Migration } from '../migrate.js';

/** Who is shut out, by key, enrolled or not; and the number of the list. */
export const revocations: Migration = {
  version: 4,
  name: 'revocations',
  sql: `
    CREATE TABLE revocation (
      peer TEXT PRIMARY KEY,
      kind TEXT NOT NULL,
      revoked_at REAL NOT NULL,
      reason TEXT NOT NULL
    ) STRICT;

    CREATE TABLE revocation_list (
      only_one INTEGER PRIMARY KEY CHECK (only_one = 1),
      epoch INTEGER NOT NULL,
      changed_at REAL NOT NULL
    ) STRICT;
  `,
};
