import { type Bytes, signingInput, toBase64 } from '../model/bytes.js';
import { idBytes, type SessionId } from '../model/ids.js';
import { type WireGuardPublicKey, wireGuardKeyBytes } from '../model/keys.js';
import type { Crypto } from './ports/crypto.js';

const TAG = 'vpnd/psk/v1';
const LENGTH = 32;
const NO_SALT = new Uint8Array(0);

/** What both ends of a tunnel know of an exchange. */
export interface Exchange {
  readonly session: SessionId;
  /** The client's WireGuard key of this session. */
  readonly clientKey: WireGuardPublicKey;
  readonly exitKey: WireGuardPublicKey;
  readonly kemKey: Bytes;
  readonly ciphertext: Bytes;
}

/**
 * A tunnel's WireGuard pre-shared key, 32 bytes in base64: HKDF-SHA256 (RFC 5869) without salt over the secret of the
 * ML-KEM-768 exchange, with `signingInput("vpnd/psk/v1", [session id, client key, exit key, SHA-256 of the encapsulation
 * key, SHA-256 of the ciphertext])` as info. So two sessions never have the same key, and who took part under another
 * name, with another key or another ciphertext, has another one.
 */
export function presharedKeyOf(
  crypto: Pick<Crypto, 'hkdfSha256' | 'sha256'>,
  secret: Bytes,
  { session, clientKey, exitKey, kemKey, ciphertext }: Exchange,
): string {
  const info = signingInput(TAG, [
    idBytes(session),
    wireGuardKeyBytes(clientKey),
    wireGuardKeyBytes(exitKey),
    crypto.sha256(kemKey),
    crypto.sha256(ciphertext),
  ]);
  return toBase64(crypto.hkdfSha256(secret, NO_SALT, info, LENGTH));
}
