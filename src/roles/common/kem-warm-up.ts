import type { Crypto } from '../../core/ports/crypto.js';
import type { PostQuantum } from '../../model/role.js';

const EXCHANGES = 5;

/** The first exchanges of a process take up to forty times as long as later ones, until they are compiled: some for nobody. */
export function warmUp(
  crypto: Pick<Crypto, 'kemKeyPair' | 'kemEncapsulate' | 'kemDecapsulate'>,
  pq: PostQuantum,
): void {
  if (pq === 'off') return;
  for (let n = 0; n < EXCHANGES; n++) {
    const { publicKey, secretKey } = crypto.kemKeyPair();
    const made = crypto.kemEncapsulate(publicKey);
    if (made !== undefined) crypto.kemDecapsulate(secretKey, made.ciphertext);
  }
}
