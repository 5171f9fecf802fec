import { createHash } from 'node:crypto';
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
  return { crypto: sodiumCrypto, random: sodiumRandom };
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

  wireGuardKeyPair() {
    const privateKey = toBase64(sodium.randombytes_buf(PUBLIC_KEY_LENGTH)) as WireGuardPrivateKey;
    return sodiumCrypto.wireGuardFromPrivate(privateKey);
  },

  wireGuardFromPrivate(privateKey) {
    const publicKey = wireGuardPublicKeyOf(sodium.crypto_scalarmult_base(wireGuardKeyBytes(privateKey)));
    if (!publicKey.ok) throw new RangeError('libsodium gave an X25519 public key that is not 32 bytes long');
    return { privateKey, publicKey: publicKey.value };
  },

  newIdentity() {
    const seed = sodium.randombytes_buf(SEED_LENGTH);
    return { identity: identityOf(seed), seed };
  },

  identityFromSeed: identityOf,
};

const sodiumRandom: Random = {
  bytes: (length) => (length === 0 ? new Uint8Array() : sodium.randombytes_buf(length)),
  // 52 bits, so that every value is exact and 1 is never reached.
  fraction() {
    const b = sodium.randombytes_buf(8);
    const view = new DataView(b.buffer, b.byteOffset, 8);
    return ((view.getUint32(0) & 0xfffff) * 2 ** 32 + view.getUint32(4)) / 2 ** 52;
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
