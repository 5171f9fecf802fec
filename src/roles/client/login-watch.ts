import type { Clock } from '../../core/ports/clock.js';
import type { FindLoginPage } from '../../core/ports/login-page.js';
import { parseIp } from '../../model/address.js';
import type { SupernodeInfo } from '../../model/directory.js';
import type { EventCode } from '../../model/event.js';
import { type Millis, seconds } from '../../model/time.js';

export interface LoginWatchDeps {
  readonly clock: Clock;
  /** Undefined where nothing can be asked. */
  readonly find: FindLoginPage | undefined;
  readonly isUp: () => boolean;
  readonly supernodes: () => readonly SupernodeInfo[];
  readonly happened: (code: EventCode, text: string) => void;
  readonly changed: () => void;
}

/** A stream is down for so long before the network is suspected, */
const FIRST: Millis = seconds(3);
/** and looked at again. */
const AGAIN: Millis = seconds(20);

/**
 * While no supernode is reached: does this network want a log-in page first? While a tunnel holds all traffic, one of the
 * two questions still leaves: the one to nobody.
 */
export class LoginWatch {
  #cancel: (() => void) | undefined;
  #problem: string | undefined;
  #stopped = false;

  constructor(private readonly deps: LoginWatchDeps) {}

  /** What a person should act on; undefined where there is nothing. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Something about the stream changed. */
  look(): void {
    if (this.deps.find === undefined || this.#stopped) return;
    if (this.deps.isUp()) {
      this.#cancel?.();
      this.#cancel = undefined;
      this.#problem = undefined;
    } else this.#cancel ??= this.deps.clock.after(FIRST, () => void this.#ask());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  async #ask(): Promise<void> {
    const { find, clock, happened, changed } = this.deps;
    const [first] = this.deps.supernodes();
    const ip = first?.relayIps[0];
    const names = first?.addresses.map(({ host }) => host).filter((host) => !parseIp(host).ok) ?? [];
    const page = ip === undefined ? undefined : await find?.(ip, [...names, ...(first?.relayIps ?? [])]);
    if (this.#stopped || this.deps.isUp()) {
      this.#cancel = undefined;
      return;
    }
    this.#cancel = clock.after(AGAIN, () => void this.#ask());
    const at = page?.url === undefined ? '' : ` (${page.url})`;
    const text =
      page === undefined
        ? undefined
        : `this network asks for a log-in page first${at}: log in with a browser; where a tunnel holds all traffic, after vpnd down`;
    if (text === this.#problem) return;
    this.#problem = text;
    if (text !== undefined) happened('portal', text);
    changed();
  }
}
