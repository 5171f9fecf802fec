import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t, { type Test } from 'tap';
import { CHAIN_START, type ChainEnd, nextEntry, sealed, verifyChain } from '../../src/core/audit-chain.js';
import type { AuditEntry } from '../../src/core/ports/audit.js';
import type { BaseStore } from '../../src/core/ports/store.js';
import { openSodium } from '../../src/identity/sodium.js';
import { keyOf } from '../../src/model/ids.js';
import { instantOf } from '../../src/model/time.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { openBaseStore } from '../../src/store/sqlite/open.js';
import { anEvent } from '../support/audited.js';

const { crypto } = await openSodium();
const { identity } = crypto.newIdentity();
const at = instantOf(1_700_000_000_000.5);

interface Subject {
  store(): BaseStore;
  reopen(): BaseStore;
  readonly path: string | undefined;
}

const subjects: Readonly<Record<string, (t: Test) => Subject>> = {
  memory() {
    let store = openMemoryStore();
    return {
      path: undefined,
      store: () => store,
      reopen() {
        store = store.reopen();
        return store;
      },
    };
  },
  sqlite(t) {
    const dir = mkdtempSync(join(tmpdir(), 'vpnd-store-audit-'));
    let store = openBaseStore(dir);
    t.teardown(() => {
      store.close();
      rmSync(dir, { recursive: true, force: true });
    });
    return {
      path: join(dir, 'vpnd.db'),
      store: () => store,
      reopen() {
        store.close();
        store = openBaseStore(dir);
        return store;
      },
    };
  },
};

/** So many entries that follow an end, and the seal for the last. */
function chain(count: number, from: ChainEnd = CHAIN_START) {
  const entries: AuditEntry[] = [];
  let end = from;
  for (let n = 1; n <= count; n++) {
    const entry = nextEntry(end, anEvent(end.sequence + 1), instantOf(Math.floor(at) + n), crypto.sha256);
    entries.push(entry);
    end = entry;
  }
  return { entries, end, head: sealed('head', end, at, identity) };
}

for (const [name, make] of Object.entries(subjects)) {
  t.test(`the audit log in the ${name} store`, async (t) => {
    t.test('what was added is there after a restart, in order, to the byte', async (t) => {
      const subject = make(t);
      const { entries, end, head } = chain(5);
      t.same(subject.store().audit.head(), undefined);
      t.same(subject.store().audit.read(0, 10), []);
      const checkpoints = [sealed('checkpoint', end, at, identity)];
      subject.store().audit.append(entries, head, checkpoints);
      for (const open of [subject.store, subject.reopen]) {
        const { audit } = open();
        t.strictSame(audit.read(0, 10), entries);
        t.strictSame(audit.read(3, 2), entries.slice(2, 4));
        t.strictSame(audit.head(), head);
        t.strictSame(audit.checkpoints(), checkpoints);
        t.equal(audit.anchor(), undefined);
      }
      const more = chain(2, end);
      subject.store().audit.append(more.entries, more.head, []);
      t.strictSame(subject.store().audit.head(), more.head, 'there is one head');
      t.equal(subject.store().audit.read(0, 10).length, 7);
    });

    t.test('no entry takes the place of another, and none of a write that fails is kept', async (t) => {
      const { audit } = make(t).store();
      const first = chain(3);
      audit.append(first.entries, first.head, []);
      const clash = [...chain(1, first.end).entries, ...first.entries.slice(0, 1)];
      t.throws(() => audit.append(clash, first.head, []), TypeError);
      t.strictSame(audit.read(0, 10), first.entries);
    });

    t.test('entries go from the old end, up to an anchor, with their checkpoints', async (t) => {
      const subject = make(t);
      const { entries, head } = chain(10);
      const checkpoints = [entries[3], entries[7]].map((one) => sealed('checkpoint', one ?? CHAIN_START, at, identity));
      subject.store().audit.append(entries, head, checkpoints);
      subject.store().audit.forget(sealed('anchor', entries[4] ?? CHAIN_START, at, identity));
      const { audit } = subject.reopen();
      t.strictSame(audit.read(0, 10), entries.slice(5));
      t.strictSame(audit.checkpoints(), checkpoints.slice(1));
      t.equal(audit.anchor()?.sequence, 5);
      const found = {
        entries: audit.read(0, 100),
        head: audit.head(),
        anchor: audit.anchor(),
        checkpoints: audit.checkpoints(),
      };
      t.match(verifyChain(found, { keys: [keyOf(identity.id)], crypto }), { checked: 5, fault: undefined });
    });
  });
}

t.test('the database itself refuses to change an entry, or to remove one beyond the anchor', async (t) => {
  const make = subjects.sqlite;
  if (make === undefined) throw new Error('no SQLite');
  const subject = make(t);
  const { entries, head } = chain(3);
  subject.store().audit.append(entries, head, []);
  const db = new Database(subject.path ?? '');
  t.teardown(() => db.close());
  t.throws(() => db.exec("UPDATE audit_entry SET actor = 'me'"), /never changed/);
  t.throws(() => db.exec('DELETE FROM audit_entry WHERE sequence = 3'), /only up to the anchor/);
  t.throws(() => db.exec('REPLACE INTO audit_entry SELECT * FROM audit_entry'), /never replaced/);
  t.strictSame(subject.store().audit.read(0, 10), entries);
});
