import type { Migration } from '../migrate.js';

/**
 * The audit log. The triggers keep mistakes of our own out: what was written stays, until the anchor says that it may
 * go. Against somebody who writes to the file there is the chain (src/core/audit-chain.ts).
 */
export const audit: Migration = {
  version: 5,
  name: 'audit log',
  sql: `
    CREATE TABLE audit_entry (
      sequence INTEGER PRIMARY KEY,
      at REAL NOT NULL,
      actor TEXT NOT NULL,
      code TEXT NOT NULL,
      object TEXT NOT NULL,
      detail TEXT NOT NULL,
      previous BLOB NOT NULL,
      hash BLOB NOT NULL
    ) STRICT;

    -- One row each of the kinds head and anchor, and as many checkpoints as there are.
    CREATE TABLE audit_seal (
      kind TEXT NOT NULL CHECK (kind IN ('head', 'anchor', 'checkpoint')),
      sequence INTEGER NOT NULL,
      hash BLOB NOT NULL,
      at REAL NOT NULL,
      signature BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX audit_seal_one ON audit_seal (kind) WHERE kind <> 'checkpoint';
    CREATE UNIQUE INDEX audit_seal_checkpoint ON audit_seal (sequence) WHERE kind = 'checkpoint';

    CREATE TRIGGER audit_entry_stays BEFORE UPDATE ON audit_entry
    BEGIN SELECT RAISE(ABORT, 'an audit entry is never changed'); END;
    -- REPLACE would delete the row in its way, and ask no trigger.
    CREATE TRIGGER audit_entry_new BEFORE INSERT ON audit_entry
    WHEN EXISTS (SELECT 1 FROM audit_entry WHERE sequence = NEW.sequence)
    BEGIN SELECT RAISE(ABORT, 'an audit entry is never replaced'); END;
    CREATE TRIGGER audit_entry_goes BEFORE DELETE ON audit_entry
    WHEN OLD.sequence > coalesce((SELECT sequence FROM audit_seal WHERE kind = 'anchor'), 0)
    BEGIN SELECT RAISE(ABORT, 'an audit entry is removed only up to the anchor'); END;
  `,
};
