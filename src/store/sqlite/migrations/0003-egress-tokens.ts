import type { Migration } from '../migrate.js';

/** Whether a supernode that joins with a token may be an exit too; tokens of before gave nobody that permission. */
export const egressTokens: Migration = {
  version: 3,
  name: 'egress tokens',
  sql: 'ALTER TABLE token ADD COLUMN egress INTEGER NOT NULL DEFAULT 0;',
};
