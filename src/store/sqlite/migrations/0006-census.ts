import type { Migration } from '../migrate.js';

/**
 * How many members there are of which roles in which region, kept while they come: a status that counted a million rows
 * held everybody else up for seconds. And an index of the few that are shut out.
 */
export const census: Migration = {
  version: 6,
  name: 'census',
  sql: `
    CREATE TABLE member_count (
      roles TEXT NOT NULL,
      region TEXT NOT NULL,
      n INTEGER NOT NULL CHECK (n >= 0),
      PRIMARY KEY (roles, region)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO member_count (roles, region, n) SELECT roles, region, count(*) FROM member GROUP BY roles, region;

    CREATE TRIGGER member_comes AFTER INSERT ON member
    BEGIN
      INSERT OR IGNORE INTO member_count (roles, region, n) VALUES (NEW.roles, NEW.region, 0);
      UPDATE member_count SET n = n + 1 WHERE roles = NEW.roles AND region = NEW.region;
    END;
    CREATE TRIGGER member_changes AFTER UPDATE OF roles, region ON member
    BEGIN
      UPDATE member_count SET n = n - 1 WHERE roles = OLD.roles AND region = OLD.region;
      INSERT OR IGNORE INTO member_count (roles, region, n) VALUES (NEW.roles, NEW.region, 0);
      UPDATE member_count SET n = n + 1 WHERE roles = NEW.roles AND region = NEW.region;
    END;
    CREATE TRIGGER member_goes AFTER DELETE ON member
    BEGIN
      UPDATE member_count SET n = n - 1 WHERE roles = OLD.roles AND region = OLD.region;
    END;

    CREATE INDEX member_revoked ON member (peer) WHERE revoked_at IS NOT NULL;
  `,
};
