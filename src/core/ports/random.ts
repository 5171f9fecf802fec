import type { Bytes } from '../../model/bytes.js';

/** The only source of chance. Real: the operating system's. Seeded in simulation. */
export interface Random {
  /** `length` unpredictable bytes. */
  bytes(length: number): Bytes;
  /** Uniform in [0, 1). For jitter and choice, not for keys. */
  fraction(): number;
}
