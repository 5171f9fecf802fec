import type { Crypto, KemKeyPair } from '../../core/ports/crypto.js';
import type { PostQuantum } from '../../model/role.js';

/**
 * ML-KEM pairs, each for one exchange. One is made ahead, while nobody waits: it belongs to nothing yet. Whoever takes one
 * drops it when its exchange is over.
 */
export class KemPairs {
  #ready: KemKeyPair | undefined;

  constructor(
    private readonly pq: PostQuantum,
    private readonly crypto: Pick<Crypto, 'kemKeyPair' | 'kemEncapsulate' | 'kemDecapsulate'>,
  ) {}

  /** Have one ready. The first exchange of a process takes twenty times as long as the others: done here, too. */
  prepare(): void {
    if (this.pq === 'off' || this.#ready !== undefined) return;
    const { crypto } = this;
    const pair = crypto.kemKeyPair();
    const made = crypto.kemEncapsulate(pair.publicKey);
    if (made !== undefined) crypto.kemDecapsulate(pair.secretKey, made.ciphertext);
    this.#ready = crypto.kemKeyPair();
  }

  /** Undefined where nothing is to be offered. */
  take(): KemKeyPair | undefined {
    if (this.pq === 'off') return undefined;
    const pair = this.#ready ?? this.crypto.kemKeyPair();
    this.#ready = undefined;
    return pair;
  }
}
