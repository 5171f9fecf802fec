import { ml_kem768 as kem } from '@noble/post-quantum/ml-kem.js';
import type { Crypto } from '../core/ports/crypto.js';
import type { Bytes } from '../model/bytes.js';

/** d and z of FIPS 203, algorithm 19. */
const SEED_LENGTH = 64;
/** m of algorithm 20. */
const MESSAGE_LENGTH = 32;

/**
 * ML-KEM-768 (FIPS 203) with chance from `random`. Node has an implementation of its own only from 24.7 on, and not in
 * every build: one and the same code everywhere is worth more than the millisecond it would save.
 */
export function mlKem768(
  random: (length: number) => Bytes,
): Pick<Crypto, 'kemKeyPair' | 'kemEncapsulate' | 'kemDecapsulate'> {
  return {
    kemKeyPair() {
      const seed = random(SEED_LENGTH);
      try {
        const { publicKey, secretKey } = kem.keygen(seed);
        return { publicKey, secretKey };
      } finally {
        seed.fill(0);
      }
    },

    kemEncapsulate(publicKey) {
      const message = random(MESSAGE_LENGTH);
      // What it throws is about a key that a stranger sent: its length, or coefficients out of range.
      const made = orUndefined(() => kem.encapsulate(publicKey, message));
      message.fill(0);
      return made && { ciphertext: made.cipherText, sharedSecret: made.sharedSecret };
    },

    kemDecapsulate: (secretKey, ciphertext) => orUndefined(() => kem.decapsulate(ciphertext, secretKey)),
  };
}

function orUndefined<T>(compute: () => T): T | undefined {
  try {
    return compute();
  } catch {
    return undefined;
  }
}
