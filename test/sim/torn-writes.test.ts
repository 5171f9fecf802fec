import { copyFileSync, mkdtempSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openStore } from '../../src/store/sqlite/open.js';
import { seededRandom } from '../support/seeded-random.js';

/**
 * The simulation's stores lose a write whole or keep it whole, and never an earlier one. That is a claim about SQLite's log, and
 * this is why it may be made: power is cut in the middle of writing it, at every kind of place.
 */
t.test(
  'a log that was cut off in the middle of a write gives back a state that was, and nothing of the rest',
  async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'vpnd-torn-'));
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const live = mkdtempSync(join(dir, 'live-'));
    const store = openStore(live, { role: 'exit' });
    const WRITES = 25;
    const ends: number[] = [];
    for (let n = 1; n <= WRITES; n++) {
      // Two things that belong together, each of several pages.
      store.facts.put('all', { n, padding: 'x'.repeat(n % 3 === 0 ? 9_000 : 50) });
      ends.push(statSync(join(live, 'vpnd.db-wal')).size);
    }
    const whole = ends.at(-1) ?? 0;
    const random = seededRandom(42);
    const cuts = [whole, whole - 1, ...Array.from({ length: 30 }, () => Math.floor(random.fraction() * whole))];
    for (const cut of cuts) {
      const copy = mkdtempSync(join(dir, 'copy-'));
      for (const file of ['vpnd.db', 'vpnd.db-wal']) copyFileSync(join(live, file), join(copy, file));
      truncateSync(join(copy, 'vpnd.db-wal'), cut);
      const reopened = openStore(copy, { role: 'exit' });
      const found = reopened.facts.get<{ n: number; padding: string }>('all');
      const finished = ends.filter((end) => end <= cut).length;
      // Writes from before the log began are in the database itself.
      t.ok(
        (found?.n ?? 0) >= finished && (found?.n ?? 0) <= WRITES,
        `cut at ${cut}: ${found?.n} of at least ${finished}`,
      );
      if (found !== undefined) t.equal(found.padding.length, found.n % 3 === 0 ? 9_000 : 50, 'whole');
      reopened.close();
      rmSync(copy, { recursive: true, force: true });
    }
    store.close();
  },
);
