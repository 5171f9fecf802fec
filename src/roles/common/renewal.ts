import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import { toVpndError } from '../../model/errors.js';
import { type Instant, type Millis, minutes, ms } from '../../model/time.js';

/** Something that ends and is renewed before it does: a membership, a certificate. */
export interface Renewable {
  readonly what: string;
  validity(): { readonly notBefore: Instant; readonly notAfter: Instant };
  /** Part of its life after which it is renewed, e.g. 2/3. */
  readonly after: number;
  /** Rejects when it could not be renewed; tried again soon. */
  renew(): Promise<void>;
}

const RETRY: Millis = minutes(1);
/** Timers overflow beyond 2^31 ms, and a clock may be set meanwhile. */
const LOOK_AGAIN: Millis = minutes(60);

/** When a renewable is due, by its own dates. Pure. */
export function renewalDue(validity: { notBefore: Instant; notAfter: Instant }, after: number): Instant {
  return (validity.notBefore + (validity.notAfter - validity.notBefore) * after) as Instant;
}

/** Renews while running. */
export class Renewer {
  #cancel: () => void = () => {};
  #stopped = false;

  constructor(
    private readonly one: Renewable,
    private readonly ports: { readonly clock: Clock; readonly log: Log },
  ) {}

  start(): void {
    this.#schedule(ms(0));
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  #schedule(atLeast: Millis): void {
    if (this.#stopped) return;
    this.#cancel();
    const wait = renewalDue(this.one.validity(), this.one.after) - this.ports.clock.now();
    this.#cancel = this.ports.clock.after(ms(Math.max(atLeast, Math.min(wait, LOOK_AGAIN))), () => void this.#look());
  }

  async #look(): Promise<void> {
    if (renewalDue(this.one.validity(), this.one.after) > this.ports.clock.now()) return this.#schedule(ms(0));
    try {
      await this.one.renew();
      this.ports.log.info(`${this.one.what} renewed`);
      this.#schedule(ms(0));
    } catch (thrown) {
      const error = toVpndError(thrown);
      this.ports.log.warn(`${this.one.what} could not be renewed yet`, { code: error.code, reason: error.message });
      this.#schedule(RETRY);
    }
  }
}
