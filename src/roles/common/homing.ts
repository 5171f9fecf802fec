import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { SupernodeInfo } from '../../model/directory.js';
import { shortId } from '../../model/ids.js';
import { type Millis, minutes, ms, seconds } from '../../model/time.js';
import type { PeerLine } from './line.js';
import type { Move } from './lines.js';

/** Each look may cost a moment without a stream, so they become rarer. */
const FIRST_LOOK: Millis = seconds(20);
const RAREST_LOOK: Millis = minutes(10);

/**
 * Brings a line back to where it is missed: to a supernode that owns sessions of this node, since only that one renews
 * their leases and ends them, or to the node's own region. After a restart of it the node may have gone elsewhere.
 */
export class Homing {
  #cancel: () => void = () => {};
  #wait = FIRST_LOOK;
  #stopped = false;

  constructor(
    private readonly deps: {
      readonly better: () => Move<PeerLine> | undefined;
      /** Whether it answers at all, where that can be told without a stream. */
      readonly answers: (supernode: SupernodeInfo) => Promise<boolean>;
      readonly clock: Clock;
      readonly log: Log;
    },
  ) {}

  start(): void {
    if (this.#stopped) return;
    this.#cancel = this.deps.clock.after(this.#wait, () => void this.#look().finally(() => this.start()));
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  async #look(): Promise<void> {
    const { better, answers, log } = this.deps;
    const move = better();
    if (move === undefined) {
      this.#wait = FIRST_LOOK;
      return;
    }
    if (!(await answers(move.to)) || this.#stopped) return;
    // It took a while, in which everything may have become another.
    const now = better();
    if (now?.line !== move.line || now.to.id !== move.to.id || !now.wouldGo) return;
    this.#wait = ms(Math.min(this.#wait * 2, RAREST_LOOK));
    log.info('looking whether the own supernode is back', { supernode_id: shortId(move.to.id) });
    move.line.upstream.redial();
  }
}
