import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import { type PeerId, shortId } from '../../model/ids.js';
import { type Millis, minutes, ms, seconds } from '../../model/time.js';
import type { Upstream } from './upstream.js';

/** While the own supernode stays away each look costs a moment without a stream, so they become rarer. */
const FIRST_LOOK: Millis = seconds(20);
const RAREST_LOOK: Millis = minutes(10);

/**
 * Brings a node back to the supernode that its sessions belong to: only that one renews their leases and ends them.
 * After a restart of it the node may have gone to another in the meantime.
 */
export class Homing {
  #cancel: () => void = () => {};
  #wait = FIRST_LOOK;

  constructor(
    private readonly deps: {
      readonly home: () => PeerId | undefined;
      readonly upstream: Upstream;
      readonly clock: Clock;
      readonly log: Log;
    },
  ) {}

  start(): void {
    this.#cancel = this.deps.clock.after(this.#wait, () => {
      this.#look();
      this.start();
    });
  }

  stop(): void {
    this.#cancel();
  }

  #look(): void {
    const { home, upstream, log } = this.deps;
    const wanted = home();
    const { state, supervisor } = upstream.status();
    const at = supervisor?.expect.kind === 'supernode' ? supervisor.expect.id : undefined;
    if (wanted === undefined || at === wanted) {
      this.#wait = FIRST_LOOK;
      return;
    }
    if (state !== 'up') return;
    this.#wait = ms(Math.min(this.#wait * 2, RAREST_LOOK));
    log.info('looking whether the own supernode is back', { supernode_id: shortId(wanted) });
    upstream.redial();
  }
}
