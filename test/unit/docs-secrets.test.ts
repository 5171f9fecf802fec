import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { openSodium } from '../../src/identity/sodium.js';
import { openAudit } from '../../src/obs/audit.js';
import { openBaseStore } from '../../src/store/sqlite/open.js';
import { anEvent } from '../support/audited.js';
import { vpnd } from '../support/command-line.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

/** The table of docs/errors.md about secrets and the audit log: what it says is what one gets. */
const TOKEN = `vpnd1${'abcdefgh'.repeat(8)}`;
const dir = mkdtempSync(join(tmpdir(), 'vpnd-docs-secrets-'));
t.teardown(() => rmSync(dir, { recursive: true, force: true }));

const path = join(dir, 'token');
const withFile = async (text: string, mode: number, more: readonly string[] = []) => {
  writeFileSync(path, text);
  chmodSync(path, mode);
  return vpnd(['exit', '--check', '--join-file', path, ...more]);
};

const CASES: Record<string, () => Promise<{ readonly status: number | null; readonly err: string }>> = {
  'a token file that others can change': () => withFile(TOKEN, 0o666),
  'a token file that is empty': () => withFile('\n', 0o600),
  'a token file that is no file': () => vpnd(['exit', '--check', '--join-file', '/dev/null']),
  'a token and a file of one source': () => withFile(TOKEN, 0o600, ['--join', TOKEN]),
  'a token, with the audit log on a full disk': async () => {
    // The device that is always full stands for a disk that is: the refusal is worded by the same two functions.
    const { storeError } = await import('../../src/store/sqlite/errors.js');
    const { crypto } = await openSodium();
    const store = openBaseStore(dir);
    const full = storeError('/var/lib/vpnd/base/vpnd.db', Object.assign(new Error('full'), { code: 'ENOSPC' }));
    const audit = openAudit({
      store: {
        ...store.audit,
        append: () => {
          throw full;
        },
      },
      facts: store.facts,
      identity: crypto.newIdentity().identity,
      crypto,
      clock: new VirtualClock(),
      log: testLog(),
    });
    const refused = await audit.record(anEvent(1)).catch((thrown: Error) => thrown.message);
    store.close();
    return { status: 1, err: `vpnd: ${refused}\n` };
  },
  'an audit log where there is none': () => vpnd(['audit', '--state-dir', '/var/lib/vpnd/nothing']),
  'an exported audit log without its author': async () => {
    const exported = join(dir, 'audit.jsonl');
    writeFileSync(exported, `${JSON.stringify({ format: 'vpnd-audit-1', node: 'a'.repeat(52), checkpoints: [] })}\n`);
    return vpnd(['audit', 'verify', '--file', exported]);
  },
};
if (process.geteuid?.() === 0)
  CASES["a token file of another user's"] = async () => {
    writeFileSync(path, TOKEN);
    chmodSync(path, 0o600);
    chownSync(path, 1001, 1001);
    const ran = await vpnd(['exit', '--check', '--join-file', path]);
    chownSync(path, 0, 0);
    return ran;
  };

const text = readFileSync(join(process.cwd(), 'docs/errors.md'), 'utf8');
const section = text.split('\n## Secrets in files, and the audit log\n')[1]?.split('\n## ')[0] ?? '';
const rows = new Map(
  [...section.matchAll(/^\| ([^|]+?) \| (\d) \| `([^\n]+)` \|$/gm)].map(([, input = '', status, line = '']) => [
    input,
    { status: Number(status), line },
  ]),
);

t.test('every row is tried, and none is missing', async (t) => {
  t.same(
    [...rows.keys()].filter((input) => CASES[input] === undefined && input !== "a token file of another user's"),
    [],
  );
  t.same(
    Object.keys(CASES).filter((input) => !rows.has(input)),
    [],
  );
});

for (const [input, run] of Object.entries(CASES))
  t.test(input, async (t) => {
    const { status, err } = await run();
    const line = err
      .split('\n')
      .filter((one) => one !== '' && !one.startsWith('vpnd: warning'))
      .join('\n')
      .replace(path, '/etc/vpnd/join-token')
      .replace('/dev/null', '/etc/vpnd/join-token')
      .replace(/a{52}/, '7dpk4x…');
    t.same({ status, line }, rows.get(input));
  });
