import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Portal } from '../../core/ports/portal.js';
import { KeyedQueue } from '../../core/serial.js';
import type { IpAddress } from '../../model/address.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import { type Instant, type Millis, ms, plus, seconds } from '../../model/time.js';

export interface PortalKeeperDeps {
  readonly clock: Clock;
  readonly log: Log;
  /** Undefined where this machine has none. */
  readonly portal: Portal | undefined;
  /** Whether anything is held at all: where not, any program may log in. */
  readonly isHeld: () => boolean;
  /** A supernode is reached. */
  readonly isUp: () => boolean;
  /** Where the log-in page is, as far as it is known. */
  readonly page: () => string | undefined;
  /** Asks anew whether one is in the way; undefined where there is nobody to ask. Never rejects. */
  readonly isInTheWay: () => Promise<boolean | undefined>;
  readonly happened: (code: EventCode, text: string) => void;
  readonly changed: () => void;
}

/** While it is open. */
export interface OpenPortal {
  readonly until: Instant;
  readonly resolvers: readonly IpAddress[];
  readonly url: string | undefined;
}

const LOOK_EVERY: Millis = seconds(1);
/** The page is asked for once in a while: its network may count. */
const ASK_EVERY: Millis = seconds(3);
/** So many times in a row without one are a log-in; once may be a network that stumbles. */
const GONE_AFTER = 2;

/**
 * For a few minutes the programs of `vpnd portal` may log in to the network this machine is on. Closed as soon as a
 * supernode is reached, when the time is over, and when it is asked for; by the kernel alone where this process is gone.
 */
export class PortalKeeper {
  #open: OpenPortal | undefined;
  #closeAt: Millis = ms(0);
  #cancel: () => void = () => {};
  readonly #turns = new KeyedQueue<'portal'>();
  /** Whether the page was ever seen while it is open, and how often in a row it was not since. */
  #wasSeen = false;
  #missed = 0;
  #asking = false;
  #askAt: Millis = ms(0);

  constructor(private readonly deps: PortalKeeperDeps) {}

  /** For status; undefined while it is closed. */
  get text(): string | undefined {
    if (this.#open === undefined) return undefined;
    const left = Math.max(0, Math.ceil((this.#closeAt - this.deps.clock.monotonic()) / 1_000));
    return `open for the programs of vpnd portal, for ${left} s at most`;
  }

  /** A process before this one may have left it open. Never rejects. */
  async start(): Promise<void> {
    await this.deps.portal?.close().catch((thrown: unknown) => this.#complain(thrown));
  }

  /**
   * Rejects with VpndError: `not-supported`; `not-found` where there is nothing to log in to; `dataplane`. Once more while it is
   * open begins its time anew.
   */
  open(duration: Millis): Promise<OpenPortal> {
    return this.#turns.run('portal', async () => {
      const { portal, clock } = this.deps;
      if (portal === undefined) throw new VpndError('not-supported', 'this client changes nothing on its machine');
      if (!this.deps.isHeld()) throw new VpndError('not-found', 'nothing is held here: log in with any browser');
      if (this.deps.isUp()) throw new VpndError('not-found', 'a supernode is reached: no log-in page is in the way');
      const resolvers = await portal.resolvers();
      await portal.open({ resolvers, duration });
      const isNew = this.#open === undefined;
      this.#open = { until: plus(clock.now(), duration), resolvers, url: this.deps.page() };
      this.#closeAt = ms(clock.monotonic() + duration);
      if (isNew)
        this.deps.happened('portal', `open for a log-in: web pages and names, for the programs of vpnd portal alone`);
      this.#wasSeen = this.#open.url !== undefined;
      this.#missed = 0;
      this.deps.changed();
      this.#watch();
      return this.#open;
    });
  }

  /** Nothing happens where it is closed. Never rejects. */
  close(why: string): Promise<void> {
    return this.#turns.run('portal', async () => {
      if (this.#open === undefined) return;
      try {
        await this.deps.portal?.close();
      } catch (thrown) {
        // The kernel ends it in time; until then it is tried again.
        this.#complain(thrown);
        return;
      }
      this.#cancel();
      this.#open = undefined;
      this.deps.happened('portal', `closed again: ${why}`);
      this.deps.changed();
    });
  }

  async stop(): Promise<void> {
    this.#cancel();
    await this.close('the client is stopping');
  }

  #watch(): void {
    this.#cancel();
    this.#cancel = this.deps.clock.after(LOOK_EVERY, () => {
      this.#watch();
      if (this.deps.isUp()) void this.close('a supernode is reached');
      else if (this.deps.clock.monotonic() >= this.#closeAt) void this.close('the time is over');
      else void this.#ask();
    });
  }

  /** Supernodes are dialled with growing patience; the page itself is gone at once. */
  async #ask(): Promise<void> {
    const { clock } = this.deps;
    if (this.#asking || clock.monotonic() < this.#askAt) return;
    this.#asking = true;
    const isInTheWay = await this.deps.isInTheWay();
    this.#asking = false;
    this.#askAt = ms(clock.monotonic() + ASK_EVERY);
    if (isInTheWay === undefined) return;
    this.#wasSeen ||= isInTheWay;
    this.#missed = isInTheWay ? 0 : this.#missed + 1;
    if (this.#wasSeen && this.#missed >= GONE_AFTER) await this.close('the log-in page is gone');
  }

  #complain(thrown: unknown): void {
    this.deps.log.warn('the way to a log-in page could not be closed', { code: toVpndError(thrown).code, err: thrown });
  }
}
