import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import t from 'tap';
import { renderKillSwitch } from '../../dataplane/kill-switch-text.js';
import { loadLockdown } from '../../dataplane/lockdown.js';
import { lockdownFileIn } from '../../dataplane/lockdown-file.js';
import { networkStateOf } from '../../dataplane/network-state.js';
import { listCounters, listElements } from '../../dataplane/nft.js';
import { parseRoutes, parseRules } from '../../dataplane/routing.js';
import type { Runner } from '../../dataplane/run.js';
import { entryLine } from '../../src/cli/audit.js';
import { parseExport } from '../../src/cli/audit-file.js';
import { duration, formatDuration } from '../../src/config/values.js';
import { packRevocations, unpackRevocations } from '../../src/core/revocations.js';
import { peerIdOf } from '../../src/model/ids.js';
import { days, instantOf, ms } from '../../src/model/time.js';
import { decodeJson } from '../../src/store/json-codec.js';
import { decodeDesired } from '../../src/store/records.js';
import { openStore, STORE_FILE } from '../../src/store/sqlite/open.js';
import { localClient } from '../../src/transport/local-api-client.js';
import { serveLocalApi } from '../../src/transport/local-api-server.js';
import { testLog } from '../support/test-log.js';

/** What `make fuzz` has found, one by one, in the words of whoever meets it. */

const answering = (text: string): Runner => ({ find: () => '/x', run: async () => text });
/** What has no text: String() of it throws. */
const NO_TEXT = { toString: 1, valueOf: 1 };

t.test('a request whose Host is no host is refused, and the daemon lives', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-findings-'));
  const socket = join(dir, 'vpnd.sock');
  const handlers = { status: async () => ({ peerId: 'alive' }) };
  const server = await serveLocalApi({ socket, role: 'client', handlers, log: testLog() });
  t.teardown(async () => {
    await server.close();
    rmSync(dir, { recursive: true });
  });
  const answer = await new Promise<string>((resolve) => {
    let text = '';
    const raw = connect(socket, () => raw.end('POST /vpnd.v1.LocalNode/GetStatus HTTP/1.1\r\nHost: a b\r\n\r\n'));
    raw.setEncoding('latin1').on('data', (part: string) => {
      text += part;
    });
    raw.on('close', () => resolve(text));
  });
  t.match(answer, /^HTTP\/1\.1 400 /);
  t.equal((await localClient(socket).status()).peerId, 'alive');
});

t.test('nft lists nothing, or things without names and numbers', async (t) => {
  for (const item of [null, 7, { set: { name: NO_TEXT, elem: [] } }, { map: null }]) {
    const elements = await listElements(answering(JSON.stringify({ nftables: [item] })), 'ip', 'x');
    t.equal(elements?.size, 0, JSON.stringify(item));
  }
  // Deeper than any stack.
  const deep = `${'{"elem":{"val":'.repeat(20_000)}1${'}}'.repeat(20_000)}`;
  const listed = listElements(answering(`{"nftables":[{"set":{"name":"a","elem":[${deep}]}}]}`), 'ip', 'x');
  await t.rejects(listed, { code: 'dataplane' });
  const counted = JSON.stringify({ nftables: [{ counter: { name: 'a', packets: NO_TEXT, bytes: 0 } }] });
  await t.rejects(listCounters(answering(counted), 'ip', 'x'), { code: 'dataplane' });
});

t.test('ip lists what is no rule, no route and no link', (t) => {
  const refused = { name: 'VpndError', code: 'dataplane' };
  for (const item of [null, 5, 'text', []]) t.throws(() => parseRoutes(JSON.stringify([item]), 4), refused);
  t.throws(() => parseRoutes('[{"dst":5}]', 4), refused);
  t.throws(() => parseRules('[{"priority":1,"protocol":"118","src":{}}]', 4, 118), refused);
  const state = (routes: string, addresses = '[]') => networkStateOf({ routes: { 4: routes, 6: '' }, addresses });
  t.throws(() => state('[{"dst":"default","nexthops":5}]'), refused);
  t.throws(() => state('[{"dst":"default","dev":"eth0","flags":"linkdown"}]'), refused);
  t.throws(() => state('[]', '[{"ifname":"eth0","ifalias":[]}]'), refused);
  t.throws(() => state('[]', '[{"ifname":"eth0","addr_info":[null]}]'), refused);
  t.end();
});

t.test('a stored session whose state is of no kind is corrupt, by whatever name the kind goes', (t) => {
  for (const kind of ['toString', ['disconnect'], NO_TEXT, null])
    t.throws(() => decodeDesired(JSON.stringify([{ kind }])), { code: 'state-corrupt' }, JSON.stringify(kind));
  t.end();
});

t.test('a list of revocations has one form: in order, and everybody once', (t) => {
  const one = (byte: number) => {
    const peer = peerIdOf(new Uint8Array(32).fill(byte));
    if (!peer.ok) throw new Error(peer.error);
    return { peer: peer.value, kind: 'peer' as const, at: instantOf(1) };
  };
  const [first, second] = [packRevocations([one(1)]), packRevocations([one(2)])];
  const packed = (...parts: readonly Uint8Array[]) => Buffer.concat(parts);
  t.equal(unpackRevocations(packed(first, second))?.length, 2);
  t.equal(unpackRevocations(packed(second, first)), undefined);
  t.equal(unpackRevocations(packed(first, first)), undefined);
  t.end();
});

t.test('an exported audit log with things in the place of texts and dates is refused, or shown', (t) => {
  const hash = '00'.repeat(32);
  const entry = { sequence: 1, at_ms: 1, by: 'a', code: 'b', on: 'c', detail: '{}', previous: hash, hash };
  const log = (change: object, top: object = {}) =>
    [
      { format: 'vpnd-audit-1', node: 'a'.repeat(52), checkpoints: [], ...top },
      { ...entry, ...change },
    ]
      .map((line) => JSON.stringify(line))
      .join('\n');
  const refused = { name: 'VpndError', code: 'bad-config' };
  for (const field of ['by', 'hash', 'detail', 'at_ms'])
    t.throws(() => parseExport(log({ [field]: NO_TEXT }), 'x'), refused);
  t.throws(() => parseExport(log({}, { node: NO_TEXT }), 'x'), refused);
  const [far] = parseExport(log({ at_ms: 9e15, detail: JSON.stringify({ a: NO_TEXT }) }), 'x').chain.entries;
  t.match(far && entryLine(far), /^9000000000000000 ms .*a=\{"toString":1,"valueOf":1\}/);
  t.end();
});

t.test('a stored value of no number, or deeper than a stack, is corrupt', (t) => {
  const corrupt = { name: 'VpndError', code: 'state-corrupt' };
  for (const text of ['1e999', '{"a":-1e999}', '[-0]', `${'['.repeat(50_000)}${']'.repeat(50_000)}`])
    t.throws(() => decodeJson(text), corrupt, text.slice(0, 20));
  t.end();
});

t.test('a long duration in milliseconds is written so that it can be read', (t) => {
  const written = formatDuration(ms(8_597_750_400));
  t.same(duration(ms(0), days(36_500))(written), { ok: true, value: 8_597_750_400 }, written);
  t.end();
});

t.test('a database whose description of a table is damaged is corrupt', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-findings-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  openStore(dir, { role: 'exit' }).close();
  const db = new Database(join(dir, STORE_FILE));
  db.exec('ALTER TABLE ledger_entry RENAME COLUMN session TO sess1on');
  db.close();
  t.throws(() => openStore(dir, { role: 'exit' }), { name: 'VpndError', code: 'state-corrupt' });
  t.end();
});

t.test('rules of lockdown that leave their table are not loaded, and everything is held', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-findings-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const table = 'vpnd_client_kill_switch';
  const rules = { devices: [], lan: true, exclude: [], uid: 998 };
  const whole = `table inet ${table} {}\ndelete table inet ${table}\n${renderKillSwitch(table, rules)}`;
  let told = '';
  const runner: Runner = {
    find: () => '/x',
    run: async (_, __, options) => {
      told = options?.input ?? '';
      return '';
    },
  };
  const load = async (text: string) => {
    writeFileSync(lockdownFileIn(dir), text);
    return (await loadLockdown(dir, runner)).kind;
  };
  t.equal(await load(whole), 'loaded');
  t.equal(told, whole);
  const end = '}\n';
  const body = whole.slice(0, -end.length);
  for (const more of [
    // Each line is indented, and no word of it is forbidden: the braces are what closes the table.
    '  }\n  flush ruleset\n  add chain inet filter x {\n',
    '  }\n  delete chain inet filter input\n  add set inet filter x {\n',
    '  chain x {\n  # }\n',
    '  chain x { log prefix "}" \n',
    '  } ; flush ruleset ; add chain inet filter x { \\\n',
  ]) {
    t.equal(await load(`${body}${more}${end}`), 'closed', more);
    t.notMatch(told, /flush|filter x|log prefix/);
  }
});
