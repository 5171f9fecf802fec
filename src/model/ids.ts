import { type Bytes, fromBase32, fromHex, toBase32, toHex } from './bytes.js';
import { err, ok, type Result } from './result.js';

declare const peerId: unique symbol;
declare const sessionId: unique symbol;
declare const commandId: unique symbol;

/**
 * Who a node is: its whole Ed25519 public key (32 bytes) in RFC 4648 base32, lower case, unpadded: 52 characters.
 * Nothing is hashed away, so two nodes with one id hold one key.
 */
export type PeerId = string & { readonly [peerId]: true };
/** 16 random bytes as 32 hexadecimal digits. */
export type SessionId = string & { readonly [sessionId]: true };
/** 16 random bytes as 32 hexadecimal digits. */
export type CommandId = string & { readonly [commandId]: true };

export const KEY_LENGTH = 32;

export function parsePeerId(text: string): Result<PeerId, 'bad-peer-id'> {
  return fromBase32(text)?.length === KEY_LENGTH ? ok(text as PeerId) : err('bad-peer-id');
}

export function peerIdOf(key: Bytes): Result<PeerId, 'bad-peer-id'> {
  return key.length === KEY_LENGTH ? ok(toBase32(key) as PeerId) : err('bad-peer-id');
}

/** The Ed25519 public key that an id stands for, 32 bytes. */
export function keyOf(id: PeerId): Bytes {
  return fromBase32(id) as Bytes;
}

/** For people and logs: enough to tell the nodes of one overlay apart. */
export const shortId = (id: string): string => id.slice(0, 10);

function parse16<T extends string>(bytes: Bytes): Result<T, 'bad-id'> {
  return bytes.length === 16 ? ok(toHex(bytes) as T) : err('bad-id');
}
export const sessionIdOf = (bytes: Bytes): Result<SessionId, 'bad-id'> => parse16<SessionId>(bytes);
export const commandIdOf = (bytes: Bytes): Result<CommandId, 'bad-id'> => parse16<CommandId>(bytes);
export const idBytes = (id: SessionId | CommandId): Bytes => fromHex(id) as Bytes;
