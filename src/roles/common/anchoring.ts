import type { Statements } from '../../core/ports/authority.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Network } from '../../core/ports/network.js';
import type { Random } from '../../core/ports/random.js';
import { toVpndError } from '../../model/errors.js';
import type { Signed } from '../../model/membership.js';
import { type Millis, minutes, seconds } from '../../model/time.js';
import { type Enrolment, reanchored } from './enrol.js';
import type { Line, PeerLine } from './line.js';
import { Periodic } from './periodic.js';
import { followed } from './trust-anchors.js';

const LOOK_EVERY: Millis = seconds(30);
/** base is not asked more often by a node that finds no supervisor it can believe. */
const ASK_EVERY: Millis = minutes(2);
/** Of those whose papers are by the key or the CA before, so many renew at each look: not all at once. */
const SHARE = 0.25;

export interface AnchoringDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly network: Network;
  readonly statements: Statements;
  readonly enrolment: () => Enrolment;
  /** Durable when it returns. */
  readonly keep: (next: Enrolment) => void;
  readonly lines: readonly PeerLine[];
  readonly main: () => Line;
  /** A fresh membership, and certificate where the node has one. */
  readonly renew: () => Promise<void>;
  readonly changed: () => void;
}

/**
 * Follows base to other keys and CAs: by what the supervisor passes on, or by asking base itself where no supervisor has a
 * certificate that this node can check.
 */
export class Anchoring {
  readonly #looking: Periodic;
  #askedAt: Millis | undefined;
  #stopped = false;

  constructor(private readonly deps: AnchoringDeps) {
    this.#looking = new Periodic('following base to other keys', LOOK_EVERY, () => this.#look(), deps);
  }

  start(): void {
    this.#looking.start();
  }

  /** Whatever base still answers is not waited for, and not kept. */
  stop(): void {
    this.#stopped = true;
    void this.#looking.stop();
  }

  /** What somebody passes on; whoever it is, base has signed it or it counts for nothing. */
  take(chain: readonly Signed[]): void {
    const { statements, enrolment } = this.deps;
    const anchors = followed(statements, enrolment().anchors, chain);
    if (anchors !== undefined) this.#become({ ...enrolment(), anchors });
  }

  #become(next: Enrolment): void {
    if (this.#stopped) return;
    const { keep, log, changed } = this.deps;
    const { serial, baseKeys, authorities } = next.anchors.trust;
    try {
      keep(next);
    } catch (err) {
      // In force for now; a restart follows base again.
      log.warn('what base goes by now cannot be kept on disk', { err });
    }
    log.info(`base goes by other keys or CAs (statement ${serial})`, { count: baseKeys.length + authorities.length });
    changed();
  }

  async #look(): Promise<void> {
    const { main, random, renew, log } = this.deps;
    const { state, lastError } = main().upstream.status();
    if (state !== 'up') {
      if (lastError?.code === 'wrong-ca') await this.#askBase();
      // Signed by a key that does not count any more: base gives another one.
      if (lastError?.code === 'bad-membership') await this.#askBase(renew);
      return;
    }
    if (!this.#isStale() || random.fraction() >= SHARE) return;
    await renew().catch((thrown: unknown) => {
      const { code, message } = toVpndError(thrown);
      log.info('papers by the key or CA before could not be renewed yet', { code, reason: message });
    });
  }

  /** Its certificate is not by the CA that issues now, or its membership not by the key that signs now. */
  #isStale(): boolean {
    const { statements, enrolment, clock } = this.deps;
    const { anchors, certificate, membership } = enrolment();
    const [key, another] = anchors.trust.baseKeys;
    const [ca] = anchors.trust.authorities;
    if (certificate !== undefined && ca !== undefined && !certificate.includes(ca.trim())) return true;
    return another !== undefined && key !== undefined && !statements.checkMembership(key, membership, clock.now()).ok;
  }

  async #askBase(ask = async () => this.#become(await reanchored(this.deps.enrolment(), this.deps))): Promise<void> {
    const { clock, lines, log } = this.deps;
    const now = clock.monotonic();
    if (this.#askedAt !== undefined && now - this.#askedAt < ASK_EVERY) return;
    this.#askedAt = now;
    try {
      await ask();
    } catch (thrown) {
      const { code, message } = toVpndError(thrown);
      log.warn('base could not say what it goes by now', { code, reason: message });
      return;
    }
    for (const line of lines) if (line.running) line.upstream.redial();
  }
}
