import type { Crypto, KemKeyPair } from '../../core/ports/crypto.js';
import type { PostQuantum } from '../../model/role.js';
import { warmUp } from '../common/kem-warm-up.js';

/**
 * ML-KEM pairs, each for one exchange. One is made ahead, while nobody waits: it belongs to nothing yet. Whoever takes one
 * drops it when its exchange is over.
 */
export class KemPairs {
  #ready: KemKeyPair | undefined;
  #isWarm = false;

  constructor(
    private readonly pq: PostQuantum,
    private readonly crypto: Pick<Crypto, 'kemKeyPair' | 'kemEncapsulate' | 'kemDecapsulate'>,
  ) {}

  /** Have one ready. */
  prepare(): void {
    if (this.pq === 'off') return;
    if (!this.#isWarm) warmUp(this.crypto, this.pq);
    this.#isWarm = true;
    this.#ready ??= this.crypto.kemKeyPair();
  }

  /** Undefined where nothing is to be offered. */
  take(): KemKeyPair | undefined {
    if (this.pq === 'off') return undefined;
    const pair = this.#ready ?? this.crypto.kemKeyPair();
    this.#ready = undefined;
    return pair;
  }
}
