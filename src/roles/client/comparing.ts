import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { EventCode } from '../../model/event.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import type { ForwardingPorts } from '../ports.js';
import type { Tunnels } from './tunnels.js';

export interface ComparingDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Pick<ForwardingPorts['metrics'], 'repairs'>;
  readonly tunnels: Pick<Tunnels, 'commit' | 'reconcile'>;
  readonly happened: (code: EventCode, text: string) => void;
}

const EVERY: Millis = seconds(10);

/** Finds what somebody else has changed in the kernel of a client, and puts it right. */
export class Comparing {
  #at: Millis = ms(0);

  constructor(private readonly deps: ComparingDeps) {}

  /** Rejects with what the data plane rejects with. */
  async look(): Promise<void> {
    const { clock, log, metrics, tunnels, happened } = this.deps;
    if (clock.monotonic() - this.#at < EVERY) return;
    this.#at = clock.monotonic();
    // What this daemon itself has changed its mind about is no repair.
    await tunnels.commit();
    for (const unit of (await tunnels.reconcile()).repaired) {
      metrics.repairs.inc({ what: unit.slice(0, unit.indexOf('/')) });
      log.warn('repaired what somebody else had changed', { unit });
      happened('repaired', `${unit} had been changed by somebody else`);
    }
  }
}
