import { createHash, hkdfSync, randomBytes } from 'node:crypto';
import sodium from 'libsodium-wrappers';
import type { Crypto, Identity } from '../core/ports/crypto.js';
import type { Random } from '../core/ports/random.js';
import type { Bytes } from '../model/bytes.js';
import { toBase64 } from '../model/bytes.js';
import { peerIdOf } from '../model/ids.js';
import {
  type WireGuardKeyPair,
  type WireGuardPrivateKey,
  wireGuardKeyBytes,
  wireGuardPublicKeyOf,
} from '../model/keys.js';
import { mlKem768 } from './ml-kem.js';

/** The port's primitives, and the one that reading a stored WireGuard key needs besides. */
export interface SodiumCrypto extends Crypto {
  /** The pair that a stored private key belongs to. */
  wireGuardFromPrivate(privateKey: WireGuardPrivateKey): WireGuardKeyPair;
}

const SEED_LENGTH = 32;
const SIGNATURE_LENGTH = 64;
const PUBLIC_KEY_LENGTH = 32;

/** Loads libsodium (WebAssembly) once; everything it gives is synchronous afterwards. */
export async function openSodium(): Promise<{ readonly crypto: SodiumCrypto; readonly random: Random }> {
  await sodium.ready;
  return { crypto: sodiumCrypto, random: systemRandom };
}

/**
 * A private key as WireGuard keeps and shows it (RFC 7748, section 5). Any other spelling of the same key would look like
 * a changed one at every comparison with the device, and a key that is set anew ends the sessions of all its peers.
 */
function clamped(key: Bytes): Bytes {
  const scalar = Uint8Array.from(key);
  scalar[0] = (scalar[0] ?? 0) & 248;
  scalar[31] = ((scalar[31] ?? 0) & 127) | 64;
  return scalar;
}

const sodiumCrypto: SodiumCrypto = {
  verify(publicKey, input, signature) {
    if (publicKey.length !== PUBLIC_KEY_LENGTH || signature.length !== SIGNATURE_LENGTH) return false;
    try {
      return sodium.crypto_sign_verify_detached(signature, input, publicKey);
    } catch {
      return false;
    }
  },

  // The plain build of libsodium-wrappers has no crypto_hash_sha256.
  sha256: (input) => new Uint8Array(createHash('sha256').update(input).digest()),

  hkdfSha256: (inputKey, salt, info, length) => new Uint8Array(hkdfSync('sha256', inputKey, salt, info, length)),

  ...mlKem768((length) => sodium.randombytes_buf(length)),

  wireGuardKeyPair() {
    const privateKey = toBase64(sodium.randombytes_buf(PUBLIC_KEY_LENGTH)) as WireGuardPrivateKey;
    return sodiumCrypto.wireGuardFromPrivate(privateKey);
  },

  wireGuardFromPrivate(given) {
    const scalar = clamped(wireGuardKeyBytes(given));
    const publicKey = wireGuardPublicKeyOf(sodium.crypto_scalarmult_base(scalar));
    if (!publicKey.ok) throw new RangeError('libsodium gave an X25519 public key that is not 32 bytes long');
    return { privateKey: toBase64(scalar) as WireGuardPrivateKey, publicKey: publicKey.value };
  },

  newIdentity() {
    const seed = sodium.randombytes_buf(SEED_LENGTH);
    return { identity: identityOf(seed), seed };
  },

  identityFromSeed: identityOf,
};

/** The same source as libsodium's, which asks for four bytes at a time: 98 microseconds for 32 bytes, against 3. */
const systemRandom: Random = {
  bytes: (length) => new Uint8Array(randomBytes(length)),
  // 52 bits, so that every value is exact and 1 is never reached.
  fraction() {
    const b = randomBytes(8);
    return ((b.readUInt32BE(0) & 0xfffff) * 2 ** 32 + b.readUInt32BE(4)) / 2 ** 52;
  },
};

function identityOf(seed: Bytes): Identity {
  if (seed.length !== SEED_LENGTH) throw new RangeError(`an Ed25519 seed has ${SEED_LENGTH} bytes, not ${seed.length}`);
  const pair = sodium.crypto_sign_seed_keypair(seed);
  const id = peerIdOf(pair.publicKey);
  if (!id.ok) throw new RangeError('libsodium gave an Ed25519 public key that is not 32 bytes long');
  return Object.freeze({
    id: id.value,
    sign: (input: Bytes) => sodium.crypto_sign_detached(input, pair.privateKey),
  });
}
