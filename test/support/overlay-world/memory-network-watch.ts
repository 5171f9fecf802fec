import type { Clock } from '../../../src/core/ports/clock.js';
import type { NetworkState, NetworkWatch } from '../../../src/core/ports/network-watch.js';
import { type Millis, ms } from '../../../src/model/time.js';

/** A daemon hears of a change once things have been quiet for so long. */
const QUIET: Millis = ms(250);

/** The networks a machine is on, as its daemon watches them. The world says `changed` after every change of them. */
export class MemoryNetworkWatch {
  readonly #listeners = new Set<() => void>();

  constructor(private readonly state: () => NetworkState) {}

  changed(): void {
    for (const hear of this.#listeners) hear();
  }

  /** As one process sees them: its listeners die with its clock, and are called late where it sleeps. */
  of(clock: Clock): NetworkWatch {
    return {
      current: () => this.state(),
      listen: (listener) => {
        let told = this.state().fingerprint;
        let cancel = () => {};
        const hear = () => {
          cancel();
          cancel = clock.after(QUIET, () => {
            const now = this.state();
            if (now.fingerprint === told) return;
            told = now.fingerprint;
            listener(now);
          });
        };
        this.#listeners.add(hear);
        return () => {
          cancel();
          this.#listeners.delete(hear);
        };
      },
    };
  }
}
