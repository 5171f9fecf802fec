import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t, { type Test } from 'tap';
import { openSodium } from '../../src/identity/sodium.js';
import { openStateDir } from '../../src/identity/state-dir.js';
import { openAudit } from '../../src/obs/audit.js';
import { openBaseStore } from '../../src/store/sqlite/open.js';
import { anEvent } from '../support/audited.js';
import { oneLine, vpnd } from '../support/command-line.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

const { crypto } = await openSodium();
const COUNT = 70;

const aDir = (t: Test): string => {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-audit-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
};

/** base's state directory as a daemon leaves it that recorded so much and was stopped, or runs. */
async function stateDir(t: Test, end: 'stopped' | 'running' | 'crashed' = 'stopped', count = COUNT) {
  const dir = aDir(t);
  const state = openStateDir(dir, crypto, { lock: false });
  const store = openBaseStore(dir);
  const clock = new VirtualClock();
  const log = testLog();
  const options = { identity: state.identity(), crypto, clock, log };
  const audit = openAudit({ store: store.audit, facts: store.facts, ...options });
  for (let n = 1; n <= count; n++) {
    await audit.record(anEvent(n));
    await clock.advance(60_000);
  }
  if (end === 'stopped') {
    audit.close();
    store.close();
  } else t.teardown(() => store.close());
  /** What somebody does who can write to the database, with the triggers out of his way. */
  const tamper = (sql: string) => {
    const db = new Database(join(dir, 'vpnd.db'));
    db.exec(`DROP TRIGGER audit_entry_stays; DROP TRIGGER audit_entry_goes; ${sql}`);
    db.close();
  };
  /** The daemon starts again and records one more. */
  const startAgain = async () => {
    const again = openBaseStore(dir);
    const opened = openAudit({ store: again.audit, facts: again.facts, ...options });
    await opened.record(anEvent(99));
    opened.close();
    again.close();
  };
  return { dir, log, tamper, startAgain, id: options.identity.id };
}

t.test('the log of a stopped base, which stays as it was', async (t) => {
  const { dir } = await stateDir(t);
  const before = readdirSync(dir);
  t.same(await vpnd(['audit', '--state-dir', dir, '--limit', '2']), {
    status: 0,
    err: '',
    out: [
      '2026-01-01 01:08:00 UTC      69  token-made          operator  token:00000069  role=exit  uses=69\n',
      '2026-01-01 01:09:00 UTC      70  token-made          operator  token:00000070  role=exit  uses=70\n',
    ].join(''),
  });
  const { status, out } = await vpnd(['audit', 'verify', '--state-dir', dir]);
  t.match(
    out,
    /^70 entries \(1 to 70\) and 1 checkpoints checked\nthe log is whole; it ends with 70:[0-9a-f]{40}, signed 2026/,
  );
  t.equal(status, 0);
  t.same(readdirSync(dir), before, 'looking leaves nothing behind');
});

t.test('--since takes a duration or a date; --json prints all of an entry', async (t) => {
  const { dir } = await stateDir(t);
  const since = async (when: string) =>
    JSON.parse((await vpnd(['audit', '--state-dir', dir, '--since', when, '--json'])).out) as unknown[];
  t.equal((await since('2026-01-01T01:00Z')).length, 10);
  t.equal((await since('2026-01-01T01:09Z')).length, 1);
  t.equal((await since('1s')).length, 0);
  t.match(await since('2026-01-01T01:09:00Z'), [
    { sequence: 70, by: 'operator', code: 'token-made', detail: { role: 'exit', uses: 70 }, hash: /^[0-9a-f]{64}$/ },
  ]);
  const wrong = await vpnd(['audit', '--state-dir', dir, '--since', 'yesterday']);
  t.equal(wrong.status, 2);
  t.match(wrong.err, oneLine);
});

t.test('the log of a base that runs, and of one that was killed', async (t) => {
  for (const end of ['running', 'crashed'] as const) {
    const { dir } = await stateDir(t, end);
    const copy = end === 'running' ? dir : aDir(t);
    if (end === 'crashed') cpSync(dir, copy, { recursive: true });
    t.match(await vpnd(['audit', 'verify', '--state-dir', copy]), { status: 0, out: /^70 entries/ }, end);
  }
});

const TAMPERED: readonly (readonly [what: string, sql: string, sequence: number, why: RegExp])[] = [
  ['a changed word', "UPDATE audit_entry SET actor = 'stranger' WHERE sequence = 33", 33, /was changed/],
  ['one bit', "UPDATE audit_entry SET detail = replace(detail, '33', '32') WHERE sequence = 33", 33, /was changed/],
  ['a dropped entry', 'DELETE FROM audit_entry WHERE sequence = 12', 12, /entry 12 is missing/],
  [
    'a cut-off end',
    'DELETE FROM audit_entry WHERE sequence > 68',
    69,
    /entries 69 to 70 are missing: the log was cut off/,
  ],
  ['a cut-off beginning', 'DELETE FROM audit_entry WHERE sequence < 5', 1, /entries 1 to 4 are missing/],
  [
    'two that changed places',
    'UPDATE audit_entry SET sequence = sequence + 1000 WHERE sequence IN (20, 21); UPDATE audit_entry SET sequence = 20 WHERE sequence = 1021; UPDATE audit_entry SET sequence = 21 WHERE sequence > 1000',
    20,
    /was changed/,
  ],
  ['an emptied log', 'DELETE FROM audit_entry; DELETE FROM audit_seal', 1, /there is no entry at all/],
  ['an unsigned end', "DELETE FROM audit_seal WHERE kind = 'head'", 71, /the end of the log is not signed/],
  [
    'an older end in place of the newest',
    "DELETE FROM audit_entry WHERE sequence > 64; DELETE FROM audit_seal WHERE kind = 'head'; UPDATE audit_seal SET kind = 'head'",
    65,
    /the end of the log was not signed by this node/,
  ],
];

for (const [what, sql, sequence, why] of TAMPERED)
  t.test(`${what} is found, and a start of the daemon does not mend it`, async (t) => {
    const { dir, tamper, startAgain, log } = await stateDir(t);
    tamper(sql);
    const found = await vpnd(['audit', 'verify', '--state-dir', dir]);
    t.equal(found.status, 1);
    t.match(found.out, why);
    t.match(found.out, new RegExp(`^entry ${sequence}: `, 'm'));
    const { fault } = JSON.parse((await vpnd(['audit', 'verify', '--state-dir', dir, '--json'])).out);
    t.equal(fault.sequence, sequence);
    await startAgain();
    t.equal((await vpnd(['audit', 'verify', '--state-dir', dir])).status, 1, 'after a start');
    const isAtTheEnd = sequence > 64;
    const wasSaid = log.lines.some(({ text }) => /not as this node left it/.test(text));
    if (isAtTheEnd || what === 'an emptied log') t.ok(wasSaid, 'the daemon notices what concerns the end');
  });

t.test('a checkpoint that was kept elsewhere finds a whole database put back', async (t) => {
  const { dir } = await stateDir(t, 'stopped', 20);
  const older = aDir(t);
  cpSync(dir, older, { recursive: true });
  const { out } = await vpnd(['audit', 'verify', '--state-dir', dir]);
  const [, kept] = /it ends with (\S+),/.exec(out) ?? [];
  t.equal((await vpnd(['audit', 'verify', '--state-dir', dir, '--checkpoint', kept ?? ''])).status, 0);
  const later = await vpnd(['audit', 'verify', '--state-dir', older, '--checkpoint', `21:${'0'.repeat(32)}`]);
  t.match(later, { status: 1, out: /^entry 21: entry 21 is missing: one was written down elsewhere$/m });
  const bad = await vpnd(['audit', 'verify', '--state-dir', dir, '--checkpoint', 'x']);
  t.match(bad, { status: 2, err: oneLine });
});

t.test('an exported log is verified anywhere, against the id of its node', async (t) => {
  const { dir, id } = await stateDir(t);
  const file = join(aDir(t), 'audit.jsonl');
  const { out, status } = await vpnd(['audit', 'export', '--state-dir', dir]);
  t.equal(status, 0);
  writeFileSync(file, out);
  rmSync(dir, { recursive: true });
  t.match(await vpnd(['audit', 'verify', '--file', file, '--node', id]), { status: 0, out: /^70 entries/ });
  t.match(await vpnd(['audit', 'verify', '--file', file]), { status: 2, err: /say with --node whose log it must be/ });
  const other = crypto.newIdentity().identity.id;
  t.match(await vpnd(['audit', 'verify', '--file', file, '--node', other]), {
    status: 1,
    out: /not signed by this node/,
  });
  writeFileSync(file, readFileSync(file, 'utf8').replace('token:00000041', 'token:00000014'));
  t.match(await vpnd(['audit', 'verify', '--file', file, '--node', id]), {
    status: 1,
    out: /^entry 41: it was changed/m,
  });
  writeFileSync(file, 'hello\n');
  t.match(await vpnd(['audit', 'verify', '--file', file, '--node', id]), { status: 2, err: oneLine });
});

t.test('where there is no log, it says so', async (t) => {
  t.match(await vpnd(['audit', '--state-dir', aDir(t)]), { status: 1, err: oneLine });
  t.match(await vpnd(['audit', '--role', 'client']), { status: 2, err: oneLine });
});
