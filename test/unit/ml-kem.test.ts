import { createHash, type Hash } from 'node:crypto';
import t from 'tap';
import { presharedKeyOf } from '../../src/core/preshared.js';
import { mlKem768 } from '../../src/identity/ml-kem.js';
import { openSodium } from '../../src/identity/sodium.js';
import { type Bytes, concat, fromBase64, fromHex, toHex } from '../../src/model/bytes.js';
import type { SessionId } from '../../src/model/ids.js';
import { wireGuardPublicKeyOf } from '../../src/model/keys.js';
import { ACCUMULATED_100, ENCAPSULATION_26, KEYGEN_26 } from '../support/ml-kem-vectors.js';

const { crypto } = await openSodium();
const hex = (text: string): Bytes => fromHex(text) ?? new Uint8Array(0);

/** The real thing with chance that says exactly this. */
function withChance(...said: readonly Bytes[]) {
  const left = said.map((bytes) => Uint8Array.from(bytes));
  return mlKem768((length) => {
    const next = left.shift();
    if (next?.length !== length) throw new Error(`asked for ${length} bytes`);
    return next;
  });
}

const NOTHING = { ciphertext: new Uint8Array(0), sharedSecret: new Uint8Array(0) };

/** SHAKE128 as a stream: Node gives the first `outputLength` bytes of it, so ask for all at once. */
const shake = (length: number): Hash => createHash('shake128', { outputLength: length });

t.test('key generation gives what NIST published', async (t) => {
  const { d, z, ekBegins, ekSha256, dkSha3 } = KEYGEN_26;
  const { publicKey, secretKey } = withChance(concat(hex(d), hex(z))).kemKeyPair();
  t.equal(publicKey.length, 1184);
  t.equal(secretKey.length, 2400);
  t.ok(toHex(publicKey).toUpperCase().startsWith(ekBegins));
  t.equal(createHash('sha256').update(publicKey).digest('hex'), ekSha256);
  t.equal(createHash('sha3-512').update(secretKey).digest('hex'), dkSha3);
});

t.test('encapsulation and decapsulation give what NIST published', async (t) => {
  const [dk, m, c, k] = [ENCAPSULATION_26.dk, ENCAPSULATION_26.m, ENCAPSULATION_26.c, ENCAPSULATION_26.k].map(hex) as [
    Bytes,
    Bytes,
    Bytes,
    Bytes,
  ];
  const made = withChance(m).kemEncapsulate(dk.subarray(1152, 1152 + 1184));
  t.equal(made && toHex(made.ciphertext), toHex(c));
  t.equal(made && toHex(made.sharedSecret), toHex(k));
  const opened = crypto.kemDecapsulate(dk, c);
  t.equal(opened && toHex(opened), toHex(k));
});

t.test('a hundred exchanges with their implicit rejections add up to the published hash', async (t) => {
  const round = 64 + 32 + 1088;
  const input = new Uint8Array(shake(100 * round).digest());
  const all = shake(32);
  for (let at = 0; at < input.length; at += round) {
    const part = (from: number, length: number) => input.subarray(at + from, at + from + length);
    const real = withChance(part(0, 64), part(64, 32));
    const { publicKey, secretKey } = real.kemKeyPair();
    const made = real.kemEncapsulate(publicKey) ?? NOTHING;
    t.same(real.kemDecapsulate(secretKey, made.ciphertext), made.sharedSecret);
    const rejected = real.kemDecapsulate(secretKey, part(96, 1088)) ?? new Uint8Array(0);
    for (const bytes of [publicKey, made.ciphertext, made.sharedSecret, rejected]) all.update(bytes);
  }
  t.equal(all.digest('hex'), ACCUMULATED_100);
});

t.test('malformed keys and ciphertexts are refused and throw nothing', async (t) => {
  const { publicKey, secretKey } = crypto.kemKeyPair();
  const ciphertext = crypto.kemEncapsulate(publicKey)?.ciphertext ?? new Uint8Array(0);
  for (const length of [0, 1, 32, 1088, 1183, 1185, 2400]) {
    t.equal(crypto.kemEncapsulate(new Uint8Array(length)), undefined, `a key of ${length} bytes`);
  }
  // The first coefficient is 4095, which is no number modulo 3329 (FIPS 203, section 7.2).
  t.equal(crypto.kemEncapsulate(concat(Uint8Array.of(0xff, 0xff), publicKey.subarray(2))), undefined);
  for (const length of [0, 1087, 1089]) {
    t.equal(crypto.kemDecapsulate(secretKey, new Uint8Array(length)), undefined, `a ciphertext of ${length} bytes`);
  }
  t.equal(crypto.kemDecapsulate(secretKey.subarray(1), ciphertext), undefined);
  const damaged = Uint8Array.from(secretKey);
  damaged[1200] = (damaged[1200] ?? 0) ^ 1;
  t.equal(crypto.kemDecapsulate(damaged, ciphertext), undefined, 'a key whose halves do not belong together');
});

t.test('two pairs, and two exchanges with one, have nothing in common', async (t) => {
  const [one, two] = [crypto.kemKeyPair(), crypto.kemKeyPair()];
  t.notSame(one.publicKey, two.publicKey);
  t.notSame(crypto.kemEncapsulate(one.publicKey), crypto.kemEncapsulate(one.publicKey));
});

t.test('HKDF-SHA256 gives what RFC 5869, appendix A, says', async (t) => {
  const ascending = (from: number, to: number) => Uint8Array.from({ length: to - from }, (_, i) => from + i);
  const one = crypto.hkdfSha256(new Uint8Array(22).fill(0x0b), ascending(0, 13), ascending(0xf0, 0xfa), 42);
  t.equal(toHex(one), '3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865');
  const two = crypto.hkdfSha256(ascending(0, 0x50), ascending(0x60, 0xb0), ascending(0xb0, 0x100), 82);
  t.equal(
    toHex(two),
    'b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87',
  );
  const three = crypto.hkdfSha256(new Uint8Array(22).fill(0x0b), new Uint8Array(0), new Uint8Array(0), 42);
  t.equal(toHex(three), '8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8');
});

t.test('a pre-shared key hangs on everything that both ends know', async (t) => {
  const key = (n: number) => {
    const parsed = wireGuardPublicKeyOf(new Uint8Array(32).fill(n));
    if (!parsed.ok) throw new Error(parsed.error);
    return parsed.value;
  };
  const secret = new Uint8Array(32).fill(7);
  const exchange = {
    session: '00112233445566778899aabbccddeeff' as SessionId,
    clientKey: key(1),
    exitKey: key(2),
    kemKey: new Uint8Array(1184).fill(3),
    ciphertext: new Uint8Array(1088).fill(4),
  };
  const made = presharedKeyOf(crypto, secret, exchange);
  t.equal(made, EXAMPLE, 'the example of docs/protocol.md');
  t.equal(fromBase64(made)?.length, 32);
  const others = [
    presharedKeyOf(crypto, new Uint8Array(32).fill(8), exchange),
    presharedKeyOf(crypto, secret, { ...exchange, session: 'ff112233445566778899aabbccddeeff' as SessionId }),
    presharedKeyOf(crypto, secret, { ...exchange, clientKey: key(2), exitKey: key(1) }),
    presharedKeyOf(crypto, secret, { ...exchange, exitKey: key(5) }),
    presharedKeyOf(crypto, secret, { ...exchange, kemKey: new Uint8Array(1184).fill(5) }),
    presharedKeyOf(crypto, secret, { ...exchange, ciphertext: new Uint8Array(1088).fill(5) }),
  ];
  t.equal(new Set([made, ...others]).size, others.length + 1);
});

const EXAMPLE = 'FFF/EJiyZsnW2PY/6a7MjhG7OMvqBABlmEkuek8W2FY=';
