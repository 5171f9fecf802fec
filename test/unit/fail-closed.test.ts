import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { parseConfig } from '../../src/config/parse.js';
import { formatJoinToken, parseJoinToken } from '../../src/identity/join-token.js';
import { openSodium } from '../../src/identity/sodium.js';
import { openStateDir } from '../../src/identity/state-dir.js';
import { statements as openStatements } from '../../src/identity/statements.js';
import type { Port } from '../../src/model/address.js';
import { keyOf } from '../../src/model/ids.js';
import type { Region } from '../../src/model/role.js';
import { instantOf, minutes } from '../../src/model/time.js';

const { crypto } = await openSodium();
const statements = openStatements(crypto);

t.test('a key file that holds no key, or one that is nobody’s, stops the daemon and is left alone', async (t) => {
  const bad = {
    empty: '',
    blank: '\n',
    'cut short': `${Buffer.alloc(31, 7).toString('base64')}\n`,
    'of zeros': `${Buffer.alloc(32).toString('base64')}\n`,
    'of another kind': 'changeme\n',
  };
  for (const [what, text] of Object.entries(bad))
    for (const name of ['identity.key', 'wireguard.key'] as const) {
      const dir = t.testdir();
      writeFileSync(join(dir, name), text, { mode: 0o600 });
      const state = openStateDir(dir, crypto);
      t.teardown(() => state.close());
      const read = () => (name === 'identity.key' ? state.identity() : state.wireGuardKeys());
      t.throws(read, { code: 'state-unreadable' }, `${name} ${what}`);
      t.throws(read, { code: 'state-unreadable' }, 'and no other key takes its place');
      state.close();
    }
});

t.test('without base’s key nothing is taken for signed by base', async (t) => {
  const { identity } = crypto.newIdentity();
  const now = instantOf(minutes(1));
  const membership = {
    peer: identity.id,
    roles: ['exit'] as const,
    region: 'eu' as Region,
    pool: '',
    notBefore: instantOf(0),
    notAfter: instantOf(minutes(60)),
    epoch: 1,
  };
  const signed = statements.signMembership(identity, membership);
  const unsigned = [new Uint8Array(64), new Uint8Array(0), Uint8Array.of(1, ...new Uint8Array(63)), signed.signature];
  const noKeys = {
    'an empty key': new Uint8Array(0),
    'a key of zeros': new Uint8Array(32),
    'the neutral element': Uint8Array.of(1, ...new Uint8Array(31)),
    'half a key': keyOf(identity.id).slice(0, 16),
  };
  for (const [what, key] of Object.entries(noKeys))
    for (const signature of unsigned) {
      t.match(statements.checkMembership(key, { ...signed, signature }, now), { ok: false }, what);
      t.match(statements.checkRevocations(key, { ...signed, signature }), { ok: false }, what);
    }
});

t.test('a token that names no base, no CA or no secret is none', async (t) => {
  for (const text of ['', 'vpnd1', 'vpnd1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'none', '0'])
    t.match(parseJoinToken(text, crypto.sha256), { ok: false, error: { code: 'bad-token' } }, text);
  const whole = {
    base: [{ host: 'base.example.org', port: 443 as Port }],
    caKeyHash: crypto.sha256(new Uint8Array(1)),
    secret: new Uint8Array(32).fill(1),
    role: 'client',
    region: 'eu' as Region,
  } as const;
  t.match(parseJoinToken(formatJoinToken(whole, crypto.sha256), crypto.sha256), { ok: true });
  const none = new Uint8Array(0);
  for (const lack of [{ base: [] }, { caKeyHash: none }, { secret: none }, { caKeyHash: none, secret: none }])
    t.match(parseJoinToken(formatJoinToken({ ...whole, ...lack }, crypto.sha256), crypto.sha256), { ok: false });
  const of = (env: Record<string, string>, flags = {}) =>
    parseConfig('client', { flags, env, file: undefined, read: () => '' });
  for (const text of [' ', 'vpnd1', 'changeme'])
    t.match(of({ VPND_JOIN: text }), { ok: false }, 'said at once, not taken for no token at all');
  t.match(of({}, { 'join-file': '/run/empty' }), { ok: false }, 'nor is an empty file');
});
