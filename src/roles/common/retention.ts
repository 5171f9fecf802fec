import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Store } from '../../core/ports/store.js';
import { type Millis, minutes, ms, plus } from '../../model/time.js';
import type { History } from './history.js';
import { Periodic } from './periodic.js';

/** What is kept is at most this much older than it may be. */
export const LOOK_EVERY: Millis = minutes(10);

/**
 * Forgets what a node need not know any longer: answers and tombstones of sessions that ended, and events. What is
 * removed is gone from the disk as far as a database can see to it, when `look` has returned.
 */
export class Retention {
  readonly #regularly: Periodic;

  constructor(
    private readonly limits: { readonly retainSessions: Millis; readonly retainEvents: Millis },
    private readonly deps: {
      readonly store: Pick<Store, 'ledger' | 'purge'>;
      readonly history: Pick<History, 'forget'>;
      readonly clock: Clock;
      readonly log: Log;
    },
  ) {
    this.#regularly = new Periodic('forgetting what is old', LOOK_EVERY, () => this.look(), deps);
  }

  /** Looks at once: much may have come of age while the daemon was stopped. */
  start(): void {
    try {
      this.look();
    } catch (err) {
      this.deps.log.warn('what is old could not be forgotten yet', { err });
    }
    this.#regularly.start();
  }

  stop(): Promise<void> {
    return this.#regularly.stop();
  }

  /** Throws what the store does. */
  look(): void {
    const { store, history, clock } = this.deps;
    const now = clock.now();
    store.ledger.prune(plus(now, ms(-this.limits.retainSessions)));
    history.forget(plus(now, ms(-this.limits.retainEvents)));
    store.purge();
  }
}
