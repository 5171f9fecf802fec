import type { Log } from '../../core/ports/log.js';
import type { FactStore } from '../../core/ports/store.js';
import type { TunnelUse } from '../../model/dataplane.js';
import type { ExitWish } from '../../model/session.js';
import type { HeldSession } from './held-session.js';
import { isInForce } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

/** A tunnel as it stands on disk, so that a restarted daemon finds it again. */
export interface RecordedTunnel {
  readonly slot: number;
  readonly use: TunnelUse;
  readonly held: HeldSession;
}

const TUNNELS_FACT = 'tunnels';
const WISH_FACT = 'wish';
/** What versions with a single tunnel wrote. */
const SESSION_FACT = 'session';

/** What the client keeps on disk: what its user wished for, and the tunnels it has for it. */
export class ClientRecord {
  /** Facts that could not be removed: the disk was full. Tried again until they are. */
  readonly #unforgotten = new Set<string>();

  constructor(
    private readonly facts: FactStore,
    private readonly log: Log,
  ) {}

  wish(): ExitWish | undefined {
    return this.facts.get<ExitWish>(WISH_FACT);
  }

  tunnels(): readonly RecordedTunnel[] {
    const single = this.facts.get<HeldSession>(SESSION_FACT);
    if (single === undefined) return this.facts.get<readonly RecordedTunnel[]>(TUNNELS_FACT) ?? [];
    const { endpoint, path } = single;
    return [{ slot: 0, use: 'active', held: { ...single, relay: path === 'direct' ? undefined : { endpoint, path } } }];
  }

  /** Throws VpndError `disk-full`. */
  keepWish(wish: ExitWish): void {
    this.#put(WISH_FACT, wish);
  }

  /** Throws VpndError `disk-full`. A tunnel that only holds traffic is on record as one whose lease is over. */
  keepTunnels(tunnels: Tunnels): void {
    const recorded: RecordedTunnel[] = tunnels.held().map((tunnel) => {
      const { slot, use, held } = tunnel;
      return { slot, use, held: isInForce(tunnel) ? held : { ...held, leaseUntil: held.openedAt } };
    });
    if (recorded.length === 0) this.#forget(TUNNELS_FACT);
    else this.#put(TUNNELS_FACT, recorded);
    this.#forget(SESSION_FACT);
  }

  /** Where the disk is full the kernel is still right, and a restart finds the older record. */
  tryKeepTunnels(tunnels: Tunnels): void {
    try {
      this.keepTunnels(tunnels);
    } catch (err) {
      this.log.warn('the tunnels cannot be put on record', { err });
    }
  }

  /** Never throws: a full disk is no reason to stay in a tunnel that is not wanted any more. */
  forgetWish(): void {
    this.#forget(WISH_FACT);
  }

  forgetTunnels(): void {
    this.#forget(TUNNELS_FACT);
    this.#forget(SESSION_FACT);
  }

  /** Once in a while: what could not be forgotten would come back at the next start. */
  tidy(): void {
    for (const name of [...this.#unforgotten]) this.#forget(name);
  }

  #put(name: string, value: unknown): void {
    this.facts.put(name, value);
    this.#unforgotten.delete(name);
  }

  #forget(name: string): void {
    try {
      if (this.#unforgotten.has(name) || this.facts.get(name) !== undefined) this.facts.remove(name);
      this.#unforgotten.delete(name);
    } catch (err) {
      if (!this.#unforgotten.has(name)) this.log.warn(`the ${name} cannot be taken off the record yet`, { err });
      this.#unforgotten.add(name);
    }
  }
}
