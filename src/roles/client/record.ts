import type { Log } from '../../core/ports/log.js';
import type { FactStore } from '../../core/ports/store.js';
import type { TunnelUse } from '../../model/dataplane.js';
import type { ExitWish } from '../../model/session.js';
import * as kept from '../common/kept.js';
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

const WISH = kept.record({
  region: kept.optional(kept.text),
  country: kept.optional(kept.text),
  pool: kept.optional(kept.text),
  exit: kept.optional(kept.peer),
  minMbps: kept.optional(kept.count),
  maxLatency: kept.optional(kept.count),
  privacy: kept.optional(kept.oneOf('auto', 'private', 'direct')),
});
const HELD = kept.record({
  session: kept.session,
  generation: kept.count,
  keys: kept.record({ publicKey: kept.wireGuardKey, privateKey: kept.text }),
  supervisor: kept.optional(kept.peer),
  exit: kept.peer,
  exitKey: kept.wireGuardKey,
  exitRegion: kept.text,
  exitCountry: kept.optional(kept.text),
  path: kept.path,
  via: kept.list(kept.peer),
  endpoint: kept.endpoint,
  relay: kept.optional(kept.record({ endpoint: kept.endpoint, path: kept.path })),
  keepalive: kept.count,
  inner: kept.innerAddresses,
  ipv6: kept.flag,
  leaseUntil: kept.count,
  openedAt: kept.count,
  reasons: kept.list(kept.text),
  connectedAfter: kept.optional(kept.count),
  preshared: kept.optional(kept.record({ key: kept.text, since: kept.count })),
});
const TUNNELS = kept.list(
  kept.record({ slot: kept.count, use: kept.oneOf('active', 'standby', 'retiring', 'dead'), held: HELD }),
);

/** What the client keeps on disk: what its user wished for, and the tunnels it has for it. */
export class ClientRecord {
  /** Facts that could not be removed: the disk was full. Tried again until they are. */
  readonly #unforgotten = new Set<string>();

  constructor(
    private readonly facts: FactStore,
    private readonly log: Log,
  ) {}

  wish(): ExitWish | undefined {
    return kept.keptFact<ExitWish>(this.facts, WISH_FACT, WISH);
  }

  tunnels(): readonly RecordedTunnel[] {
    const single = kept.keptFact<HeldSession>(this.facts, SESSION_FACT, HELD);
    if (single === undefined) return kept.keptFact<readonly RecordedTunnel[]>(this.facts, TUNNELS_FACT, TUNNELS) ?? [];
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
