import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import t from 'tap';
import { VpndError } from '../../src/model/errors.js';
import { commandIdOf } from '../../src/model/ids.js';
import type { Region } from '../../src/model/role.js';
import { instantOf } from '../../src/model/time.js';
import { storeError } from '../../src/store/sqlite/errors.js';
import { APPLICATION_ID } from '../../src/store/sqlite/inspect.js';
import { migrate } from '../../src/store/sqlite/migrate.js';
import { migrations } from '../../src/store/sqlite/migrations/index.js';
import { openBaseStore, openStore } from '../../src/store/sqlite/open.js';

const hash = (text: string) => new Uint8Array(createHash('sha256').update(text).digest());
const CHILD = fileURLToPath(new URL('../support/store-child.js', import.meta.url));
const child = (...args: string[]): ChildProcess =>
  spawn(process.execPath, [CHILD, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });

/** Names and contents of everything in a directory. */
const snapshot = (dir: string) =>
  readdirSync(dir)
    .sort()
    .map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(dir, name)))
        .digest('hex'),
      statSync(join(dir, name)).mtimeMs,
    ]);

const refusal = (dir: string): VpndError => {
  try {
    openStore(dir, { role: 'exit' }).close();
  } catch (thrown) {
    if (thrown instanceof VpndError) return thrown;
    throw thrown;
  }
  throw new Error('the store opened');
};

/** A directory whose store has something in it and was closed. */
const filled = (dir: string): string => {
  const store = openStore(dir, { role: 'exit' });
  for (let n = 0; n < 200; n++) store.facts.put(`fact/${n}`, { n, text: 'x'.repeat(200) });
  store.close();
  return join(dir, 'vpnd.db');
};

t.test('a closed store is one private file, marked as ours', async (t) => {
  const path = filled(t.testdir());
  t.same(readdirSync(join(path, '..')), ['vpnd.db']);
  t.equal(statSync(path).mode & 0o777, 0o600);
  t.equal(readFileSync(path).readUInt32BE(68), 0x76706e64);
});

t.test('what a killed process acknowledged is there for the next one', async (t) => {
  const dir = t.testdir();
  const writer = child('write', dir);
  const { stdout } = writer;
  if (stdout === null) throw new Error('no stdout');
  let acknowledged = -1;
  const killed = new Promise((resolve) => writer.once('close', resolve));
  for await (const line of createInterface({ input: stdout })) {
    acknowledged = Number(line);
    if (acknowledged === 60) writer.kill('SIGKILL');
  }
  await killed;
  t.ok(existsSync(join(dir, 'vpnd.db-wal')), 'it was not closed cleanly');
  const store = openBaseStore(dir);
  t.teardown(() => store.close());
  for (let n = 0; n <= acknowledged; n++) {
    const id = commandIdOf(hash(`command ${n}`).slice(0, 16));
    if (!id.ok) throw new Error('id');
    t.strictSame(store.facts.get(`fact/${n}`), { n });
    t.strictSame(store.ledger.command(id.value)?.contentHash, hash(`content ${n}`));
  }
  const generations = store.ledger.sessions().map(({ generation }) => generation);
  t.equal(generations.length, 7);
  t.ok(Math.min(...generations) >= acknowledged - 6, 'every session is at its newest acknowledged generation');
});

t.test('two processes on one file: one use of a token, one owner of a block', async (t) => {
  const dir = t.testdir();
  const store = openBaseStore(dir);
  t.teardown(() => store.close());
  t.same(
    readdirSync(dir).filter((name) => name.includes('new')),
    [],
  );
  await store.directory.createToken({
    id: '0a1b2c3d',
    secretHash: hash('secret'),
    role: 'exit',
    egress: false,
    region: 'eu' as Region,
    pool: '',
    note: '',
    createdAt: instantOf(0),
    expiresAt: instantOf(1000),
    uses: 1,
    usesLeft: 1,
    revoked: false,
  });
  const results = await Promise.all(
    ['one', 'two'].map(async (name) => {
      const redeemer = child('redeem', dir, name);
      const { stdin, stdout } = redeemer;
      if (stdin === null || stdout === null) throw new Error('no pipes');
      const lines = createInterface({ input: stdout })[Symbol.asyncIterator]();
      await lines.next();
      return { go: () => stdin.end('go\n'), result: async () => JSON.parse(String((await lines.next()).value)) };
    }),
  );
  for (const { go } of results) go();
  const outcomes: { won: number; blocks: number[] }[] = await Promise.all(results.map(({ result }) => result()));
  t.equal(
    outcomes.reduce((sum, { won }) => sum + won, 0),
    1,
  );
  t.equal((await store.directory.members({ limit: 100 })).length, 1);
  const blocks = outcomes.flatMap((outcome) => outcome.blocks);
  t.equal(blocks.length, 120);
  t.equal(new Set(blocks).size, 120);
});

t.test('a damaged file is refused, said so, and left as it was', async (t) => {
  const damages: Record<string, (path: string) => void> = {
    'no database': (path) => writeFileSync(path, 'hello '.repeat(1000)),
    empty: (path) => writeFileSync(path, ''),
    'cut short': (path) => writeFileSync(path, readFileSync(path).subarray(0, statSync(path).size / 2)),
    'a page overwritten': (path) => {
      const bytes = readFileSync(path);
      bytes.fill(0xa5, 4096 * 5, 4096 * 6);
      writeFileSync(path, bytes);
    },
    "another program's": (path) => {
      const bytes = readFileSync(path);
      bytes.writeUInt32BE(1, 68);
      writeFileSync(path, bytes);
    },
    'lost, its log still there': (path) => {
      copyFileSync(path, `${path}-wal`);
      renameSync(path, `${path}.old`);
    },
  };
  for (const [what, damage] of Object.entries(damages)) {
    const dir = join(t.testdir(), what.replaceAll(/\W/g, ''));
    mkdirSync(dir);
    const path = filled(dir);
    damage(path);
    const before = snapshot(dir);
    const error = refusal(dir);
    t.equal(error.code, 'state-corrupt', what);
    t.match(error.message, /vpnd\.db is damaged \(.+\); restore it from a backup or move it away/, what);
    t.strictSame(snapshot(dir), before, `${what}: untouched`);
  }
});

t.test('a newer file is refused with both versions, and left as it was', async (t) => {
  const dir = t.testdir();
  const path = filled(dir);
  const db = new Database(path);
  db.pragma('user_version = 99');
  db.close();
  const before = snapshot(dir);
  const error = refusal(dir);
  t.equal(error.code, 'state-newer');
  t.match(error.message, /its format is 99, this vpnd knows \d+\); upgrade vpnd/);
  t.strictSame(snapshot(dir), before);
});

/** The database of an earlier version, whose tables are as they were then. */
function oldFormat(dir: string, version: number): Database.Database {
  const db = new Database(join(dir, 'vpnd.db'));
  db.pragma(`application_id = ${APPLICATION_ID}`);
  db.pragma('journal_mode = WAL');
  migrate(
    db,
    migrations.filter((one) => one.version <= version),
  );
  return db;
}

t.test('members of before are counted at the first start', async (t) => {
  const dir = t.testdir();
  const db = oldFormat(dir, 5);
  const put = db.prepare("INSERT INTO member VALUES (?, ?, ?, '', '0a1b2c3d', 1, NULL)");
  for (const [id, roles, region] of [
    ['a', 'exit', 'eu'],
    ['b', 'exit', 'eu'],
    ['c', 'supernode,exit', 'us'],
  ]) {
    put.run(id, roles, region);
  }
  db.close();
  const store = openBaseStore(dir);
  t.teardown(() => store.close());
  t.same(await store.directory.census(), [
    { roles: ['exit'], region: 'eu', members: 2 },
    { roles: ['supernode', 'exit'], region: 'us', members: 1 },
  ]);
});

t.test('what an earlier version deleted and left on spare pages is gone after the first start', async (t) => {
  const dir = t.testdir();
  const db = oldFormat(dir, 4);
  const put = db.prepare('INSERT INTO fact VALUES (?, ?)');
  for (let n = 0; n < 200; n++) put.run(`event/${n}`, JSON.stringify(`an old event ${'x'.repeat(200)}`));
  db.exec('DELETE FROM fact');
  db.close();
  const path = join(dir, 'vpnd.db');
  t.ok(readFileSync(path).includes('an old event'));
  openBaseStore(dir).close();
  t.notOk(readFileSync(path).includes('an old event'));
});

t.test('a directory of before there were egress tokens is brought up to date, and keeps its tokens', async (t) => {
  const dir = t.testdir();
  const db = oldFormat(dir, 2);
  db.prepare('INSERT INTO token VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)').run(
    ...['0a1b2c3d', Buffer.from(hash('secret')), 'supernode', 'eu', '', 'old', 0, 1000, 2, 1, 0],
  );
  db.close();
  const store = openBaseStore(dir);
  t.teardown(() => store.close());
  t.match(await store.directory.tokens(), [{ id: '0a1b2c3d', role: 'supernode', egress: false, note: 'old', uses: 2 }]);
});

t.test('newer or damaged pages that are only in the log count too', async (t) => {
  for (const kind of ['newer', 'damaged'] as const) {
    const live = join(t.testdir(), `live-${kind}`);
    const dir = join(t.testdir(), kind);
    mkdirSync(live);
    mkdirSync(dir);
    const path = filled(live);
    const db = new Database(path);
    if (kind === 'newer') db.pragma('user_version = 99');
    else {
      db.unsafeMode(true);
      db.pragma('writable_schema = ON');
      db.exec("UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'token'");
    }
    // As a crash leaves them: main file old, log newer.
    for (const name of ['vpnd.db', 'vpnd.db-wal']) copyFileSync(join(live, name), join(dir, name));
    db.close();
    const before = snapshot(dir);
    t.equal(refusal(dir).code, kind === 'newer' ? 'state-newer' : 'state-corrupt');
    t.strictSame(snapshot(dir), before);
  }
});

t.test('a log that a power cut tore is read up to its last whole commit', async (t) => {
  const live = join(t.testdir(), 'live');
  const dir = join(t.testdir(), 'crashed');
  mkdirSync(live);
  mkdirSync(dir);
  const store = openStore(live, { role: 'exit' });
  store.facts.put('kept', 1);
  const whole = statSync(join(live, 'vpnd.db-wal')).size;
  store.facts.put('torn', 2);
  copyFileSync(join(live, 'vpnd.db'), join(dir, 'vpnd.db'));
  const log = readFileSync(join(live, 'vpnd.db-wal'));
  store.close();
  log.fill(0xff, whole + 100, whole + 200);
  writeFileSync(join(dir, 'vpnd.db-wal'), log);
  const reopened = openStore(dir, { role: 'exit' });
  t.teardown(() => reopened.close());
  t.equal(reopened.facts.get('kept'), 1);
  t.equal(reopened.facts.get('torn'), undefined);
});

t.test('a full disk is disk-full, and what was there before is still there', async (t) => {
  const dir = t.testdir();
  filled(dir);
  const db = new Database(join(dir, 'vpnd.db'));
  t.teardown(() => db.close());
  db.pragma(`max_page_count = ${Number(db.pragma('page_count', { simple: true }))}`);
  try {
    for (let n = 0; n < 1000; n++) db.prepare('INSERT INTO fact VALUES (?, ?)').run(`more/${n}`, 'y'.repeat(4000));
    t.fail('the disk did not fill');
  } catch (thrown) {
    t.match(storeError('/var/lib/vpnd/vpnd.db', thrown), { code: 'disk-full', retryable: true });
  }
  const store = openStore(dir, { role: 'exit' });
  t.teardown(() => store.close());
  t.strictSame(store.facts.get('fact/7'), { n: 7, text: 'x'.repeat(200) });
});

t.test('file system refusals name the path and have their words', async (t) => {
  const failed = (code: string) => storeError('/s/vpnd.db', Object.assign(new Error(code), { code }));
  for (const code of ['EACCES', 'EROFS', 'EPERM', 'EIO', 'ENOTDIR'])
    t.match(failed(code), { code: 'state-unreadable', message: '/s/vpnd.db' });
  for (const code of ['ENOSPC', 'EDQUOT']) t.match(failed(code), { code: 'disk-full', message: '/s/vpnd.db' });
  const bug = new RangeError('a mistake of ours');
  t.equal(storeError('/s/vpnd.db', bug), bug, 'what is not about the file passes through');
  t.throws(() => openStore(join(t.testdir(), 'nowhere'), { role: 'exit' }), { code: 'state-unreadable' });
});

t.test("one role's state is not taken over by another", async (t) => {
  const dir = t.testdir();
  filled(dir);
  t.throws(() => openStore(dir, { role: 'client' }), { code: 'bad-config', message: /state of this machine's exit/ });
  openStore(dir, { role: 'exit' }).close();
});
