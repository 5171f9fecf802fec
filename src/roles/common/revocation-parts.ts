import { equalConstantTime } from '../../model/bytes.js';
import type { PeerId } from '../../model/ids.js';
import { MAX_REVOCATIONS, type RevocationChange } from '../../model/revocation.js';

/** Whom something came from; undefined for base. */
export type Sender = PeerId | undefined;

/** Puts changes that travel in parts together again. Parts come one after the other; anything else begins anew. */
export class RevocationParts {
  readonly #parts = new Map<Sender, readonly RevocationChange[]>();

  /** The whole change; undefined while parts of it are missing, and for a part of nothing. */
  join(from: Sender, change: RevocationChange): RevocationChange | undefined {
    const before = change.part === 0 ? [] : (this.#parts.get(from) ?? []);
    this.#parts.delete(from);
    if (before.length !== change.part || !before.every((one) => isOf(one, change))) return undefined;
    const parts = [...before, change];
    const size = parts.reduce((sum, one) => sum + one.added.length + one.removed.length, 0);
    if (size > 2 * MAX_REVOCATIONS) return undefined;
    if (parts.length < change.parts) {
      this.#parts.set(from, parts);
      return undefined;
    }
    return {
      ...change,
      added: parts.flatMap((one) => one.added),
      removed: parts.flatMap((one) => one.removed),
    };
  }

  /** The rest of what it was sending does not come. */
  forget(from: Sender): void {
    this.#parts.delete(from);
  }
}

const isOf = (first: RevocationChange, part: RevocationChange): boolean =>
  first.from === part.from && first.parts === part.parts && equalConstantTime(first.head.body, part.head.body);
