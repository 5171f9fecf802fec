import type { Bytes } from '../../model/bytes.js';
import type { PeerId } from '../../model/ids.js';
import type { WireGuardKeyPair } from '../../model/keys.js';

/** A node's Ed25519 identity. The secret stays inside. */
export interface Identity {
  readonly id: PeerId;
  /** Ed25519 (RFC 8032), 64 bytes. */
  sign(input: Bytes): Bytes;
}

/** Primitives that decisions use; all synchronous. Real: src/identity/sodium.ts. */
export interface Crypto {
  /** False for any malformed input; never throws. */
  verify(publicKey: Bytes, input: Bytes, signature: Bytes): boolean;
  /** SHA-256, 32 bytes. */
  sha256(input: Bytes): Bytes;
  /** A fresh X25519 pair. */
  wireGuardKeyPair(): WireGuardKeyPair;
  /** A fresh Ed25519 identity and its 32-byte seed. */
  newIdentity(): { readonly identity: Identity; readonly seed: Bytes };
  identityFromSeed(seed: Bytes): Identity;
}
