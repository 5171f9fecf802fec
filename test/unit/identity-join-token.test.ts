import t from 'tap';
import { formatJoinToken, parseJoinToken } from '../../src/identity/join-token.js';
import { openSodium } from '../../src/identity/sodium.js';
import type { Port } from '../../src/model/address.js';
import type { JoinToken } from '../../src/model/messages.js';
import type { Region } from '../../src/model/role.js';

const {
  crypto: { sha256 },
  random,
} = await openSodium();

const token: JoinToken = {
  base: [
    { host: 'vpn.example.org', port: 8443 as Port },
    { host: '2001:db8::1', port: 443 as Port },
    { host: '203.0.113.7', port: 443 as Port },
  ],
  caKeyHash: random.bytes(32),
  secret: random.bytes(32),
  role: 'exit',
  region: 'eu' as Region,
};
const text = formatJoinToken(token, sha256);
const refusal = (damaged: string): string => {
  const parsed = parseJoinToken(damaged, sha256);
  if (parsed.ok) throw new Error(`accepted: ${damaged}`);
  if (parsed.error.code !== 'bad-token') throw parsed.error;
  return parsed.error.message;
};

t.test('a token is one word, and says the same again when it is read', async (t) => {
  t.match(text, /^vpnd1[a-z2-7]+$/);
  for (const role of ['supernode', 'exit', 'client'] as const) {
    const one = { ...token, role };
    t.strictSame(parseJoinToken(formatJoinToken(one, sha256), sha256), { ok: true, value: one });
  }
});

t.test('a token is read as people paste it', async (t) => {
  for (const pasted of [
    `  ${text}\n`,
    text.replace(/(.{20})/g, '$1\r\n   '),
    text.toUpperCase(),
    `\ufeff${text}\t`,
    text.replace(/(.{30})/g, '$1\u200b'),
  ])
    t.strictSame(parseJoinToken(pasted, sha256), { ok: true, value: token });
});

t.test('a damaged token is told from a wrong one, and none of it is repeated', async (t) => {
  t.match(refusal(''), /empty/);
  t.match(refusal('hello'), /a join token begins with "vpnd1"/);
  t.match(refusal(`vpnd2${text.slice(5)}`), /newer vpnd/);
  t.match(refusal(`${text.slice(0, 40)}1${text.slice(41)}`), /damaged: characters are missing or foreign/);
  const other = text[60] === 'a' ? 'b' : 'a';
  const damaged = text.slice(0, 60) + other + text.slice(61);
  t.match(refusal(damaged), 'this join token is damaged: its checksum does not fit; copy it again whole');
  for (let length = 1; length < text.length; length++) t.notMatch(refusal(text.slice(0, length)), text.slice(20, 40));
});

t.test('every single wrong character is noticed', async (t) => {
  for (let i = 5; i < text.length; i++) {
    const wrong = text[i] === 'q' ? 'r' : 'q';
    refusal(text.slice(0, i) + wrong + text.slice(i + 1));
  }
  t.pass();
});

t.test('a token that lacks something says what', async (t) => {
  const without = (change: Partial<JoinToken>) => refusal(formatJoinToken({ ...token, ...change }, sha256));
  t.match(without({ base: [] }), /where base is/);
  t.match(without({ caKeyHash: new Uint8Array(31) }), /hash of base's CA/);
  t.match(without({ secret: new Uint8Array() }), /secret/);
  t.match(without({ region: '' as Region }), /region/);
  t.match(without({ base: [{ host: 'a b', port: 1 as Port }] }), /address/);
  t.match(without({ base: [{ host: 'a', port: 0 as Port }] }), /address/);
});
