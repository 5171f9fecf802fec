import type { Crypto } from '../core/ports/crypto.js';
import type { Random } from '../core/ports/random.js';
import { type Bytes, toHex } from '../model/bytes.js';

export const TOKEN_SECRET_LENGTH = 32;

/** The secret of a join token: 32 random bytes, shown once inside the token's text. */
export const newTokenSecret = (random: Random): Bytes => random.bytes(TOKEN_SECRET_LENGTH);

/**
 * What is stored of a secret. Plain SHA-256 suffices: 256 random bits cannot be guessed, so there is nothing a slow
 * hash would protect. Looked up by equality in an index, which tells an attacker nothing about a preimage.
 */
export const hashTokenSecret = (crypto: Crypto, secret: Bytes): Bytes => crypto.sha256(secret);

/** The public handle of a token: 8 hexadecimal digits. */
export const newTokenId = (random: Random): string => toHex(random.bytes(4));
