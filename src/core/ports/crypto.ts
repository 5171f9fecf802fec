import type { Bytes } from '../../model/bytes.js';
import type { PeerId } from '../../model/ids.js';
import type { WireGuardKeyPair } from '../../model/keys.js';

/** A node's Ed25519 identity. The secret stays inside. */
export interface Identity {
  readonly id: PeerId;
  /** Ed25519 (RFC 8032), 64 bytes. */
  sign(input: Bytes): Bytes;
}

/** An ML-KEM-768 key pair (FIPS 203). */
export interface KemKeyPair {
  /** Encapsulation key, 1184 bytes. */
  readonly publicKey: Bytes;
  /** Decapsulation key, 2400 bytes. Never in a log, an argument vector or an error text. */
  readonly secretKey: Bytes;
}

/** Primitives that decisions use; all synchronous. Real: src/identity/sodium.ts. */
export interface Crypto {
  /** False for any malformed input; never throws. */
  verify(publicKey: Bytes, input: Bytes, signature: Bytes): boolean;
  /** SHA-256, 32 bytes. */
  sha256(input: Bytes): Bytes;
  /** HKDF-SHA256 (RFC 5869), `length` bytes, 8160 at most. An empty salt stands for none. */
  hkdfSha256(inputKey: Bytes, salt: Bytes, info: Bytes, length: number): Bytes;
  /** A fresh ML-KEM-768 pair (FIPS 203, algorithm 19). */
  kemKeyPair(): KemKeyPair;
  /** A fresh secret for who has the key's other half (algorithm 20). Undefined for what is no encapsulation key. */
  kemEncapsulate(publicKey: Bytes): { readonly ciphertext: Bytes; readonly sharedSecret: Bytes } | undefined;
  /**
   * The secret inside (algorithm 21), 32 bytes. Undefined for a malformed key or ciphertext; for a ciphertext that was
   * made for another key a secret that nobody else has, as FIPS 203 wants it.
   */
  kemDecapsulate(secretKey: Bytes, ciphertext: Bytes): Bytes | undefined;
  /** A fresh X25519 pair. */
  wireGuardKeyPair(): WireGuardKeyPair;
  /** A fresh Ed25519 identity and its 32-byte seed. */
  newIdentity(): { readonly identity: Identity; readonly seed: Bytes };
  identityFromSeed(seed: Bytes): Identity;
}
