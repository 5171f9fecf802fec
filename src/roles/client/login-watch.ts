import type { Clock } from '../../core/ports/clock.js';
import type { FindLoginPage, LoginPage } from '../../core/ports/login-page.js';
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
  #url: string | undefined;
  #stopped = false;

  constructor(private readonly deps: LoginWatchDeps) {}

  /** What a person should act on; undefined where there is nothing. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Where it is, as far as it says. */
  get url(): string | undefined {
    return this.#url;
  }

  /** Something about the stream changed. */
  look(): void {
    if (this.deps.find === undefined || this.#stopped) return;
    if (this.deps.isUp()) {
      this.#cancel?.();
      this.#cancel = undefined;
      this.#problem = undefined;
      this.#url = undefined;
    } else this.#cancel ??= this.deps.clock.after(FIRST, () => void this.#ask());
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel?.();
  }

  /** Asks now; undefined where there is nobody to ask. Never rejects. */
  async isInTheWay(): Promise<boolean | undefined> {
    const ip = this.deps.supernodes()[0]?.relayIps[0];
    return ip === undefined || this.deps.find === undefined ? undefined : (await this.#find()) !== undefined;
  }

  async #find(): Promise<LoginPage | undefined> {
    const [first] = this.deps.supernodes();
    const ip = first?.relayIps[0];
    const names = first?.addresses.map(({ host }) => host).filter((host) => !parseIp(host).ok) ?? [];
    return ip === undefined ? undefined : this.deps.find?.(ip, [...names, ...(first?.relayIps ?? [])]);
  }

  async #ask(): Promise<void> {
    const { clock, happened, changed } = this.deps;
    const page = await this.#find();
    if (this.#stopped || this.deps.isUp()) {
      this.#cancel = undefined;
      return;
    }
    this.#cancel = clock.after(AGAIN, () => void this.#ask());
    this.#url = page?.url;
    const at = page?.url === undefined ? '' : ` (${page.url})`;
    const text =
      page === undefined
        ? undefined
        : `this network asks for a log-in page first${at}: log in with a browser; where all traffic is held, with one that sudo vpnd portal starts`;
    if (text === this.#problem) return;
    this.#problem = text;
    if (text !== undefined) happened('portal', text);
    changed();
  }
}
