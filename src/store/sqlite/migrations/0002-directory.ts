import type { Migration } from '../migrate.js';

/** base's directory. Other roles have the tables too, empty, so that there is one format and one number for it. */
export const directory: Migration = {
  version: 2,
  name: 'directory',
  sql: `
    CREATE TABLE token (
      id TEXT PRIMARY KEY,
      secret_hash BLOB NOT NULL UNIQUE,
      role TEXT NOT NULL,
      region TEXT NOT NULL,
      pool TEXT NOT NULL,
      note TEXT NOT NULL,
      created_at REAL NOT NULL,
      expires_at REAL NOT NULL,
      uses INTEGER NOT NULL,
      uses_left INTEGER NOT NULL CHECK (uses_left >= 0),
      revoked INTEGER NOT NULL
    ) STRICT;

    CREATE TABLE member (
      peer TEXT PRIMARY KEY,
      roles TEXT NOT NULL,
      region TEXT NOT NULL,
      pool TEXT NOT NULL,
      token_id TEXT NOT NULL,
      enrolled_at REAL NOT NULL,
      revoked_at REAL
    ) STRICT;

    -- The key is the guarantee: one block has one owner.
    CREATE TABLE block (
      number INTEGER PRIMARY KEY,
      owner TEXT NOT NULL,
      leased_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX block_owner ON block (owner);
  `,
};
