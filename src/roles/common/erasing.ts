import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Store } from '../../core/ports/store.js';
import { type Millis, seconds } from '../../model/time.js';

/** Many sessions may end at once: one look at the disk does for all of them. */
const WAIT: Millis = seconds(5);

/** Has keys that were taken off the record leave the disk too, soon. */
export class Erasing {
  #cancel: (() => void) | undefined;

  constructor(
    private readonly ports: { readonly clock: Clock; readonly log: Log; readonly store: Pick<Store, 'purge'> },
  ) {}

  soon(): void {
    this.#cancel ??= this.ports.clock.after(WAIT, () => {
      this.#cancel = undefined;
      this.#erase();
    });
  }

  /** What is left is erased when the store is closed. */
  stop(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  #erase(): void {
    try {
      if (!this.ports.store.purge()) this.soon();
    } catch (err) {
      this.ports.log.warn('a key that is not needed any more may still be on the disk', { err });
    }
  }
}
