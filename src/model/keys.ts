import { type Bytes, fromBase64, toBase64 } from './bytes.js';
import { err, ok, type Result } from './result.js';

declare const wgPublic: unique symbol;
declare const wgPrivate: unique symbol;

/** An X25519 public key as `wg` writes it: 32 bytes in padded base64, 44 characters. */
export type WireGuardPublicKey = string & { readonly [wgPublic]: true };
/** The private half. Never in a log, an argument vector or an error text. */
export type WireGuardPrivateKey = string & { readonly [wgPrivate]: true };

/** A WireGuard key pair. */
export interface WireGuardKeyPair {
  readonly publicKey: WireGuardPublicKey;
  readonly privateKey: WireGuardPrivateKey;
}

export function parseWireGuardPublicKey(text: string): Result<WireGuardPublicKey, 'bad-wireguard-key'> {
  return fromBase64(text)?.length === 32 ? ok(text as WireGuardPublicKey) : err('bad-wireguard-key');
}

export function wireGuardPublicKeyOf(bytes: Bytes): Result<WireGuardPublicKey, 'bad-wireguard-key'> {
  return bytes.length === 32 ? ok(toBase64(bytes) as WireGuardPublicKey) : err('bad-wireguard-key');
}

export function parseWireGuardPrivateKey(text: string): Result<WireGuardPrivateKey, 'bad-wireguard-key'> {
  return fromBase64(text)?.length === 32 ? ok(text as WireGuardPrivateKey) : err('bad-wireguard-key');
}

export const wireGuardKeyBytes = (key: WireGuardPublicKey | WireGuardPrivateKey): Bytes => fromBase64(key) as Bytes;
