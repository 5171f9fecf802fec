import type { Clock } from '../../core/ports/clock.js';
import type { SupernodeInfo } from '../../model/directory.js';
import type { PeerId } from '../../model/ids.js';
import type { MemberRole } from '../../model/role.js';
import { type Millis, minutes, ms } from '../../model/time.js';
import { type Measured, nearby, rankSupernodes } from './latency-rank.js';

/** What a supernode says of its own draining holds so long against lists of others, which hear of it later. */
const OWN_WORD: Millis = minutes(2);

export interface KnownSupernodesDeps {
  readonly role: MemberRole;
  readonly region: string;
  readonly clock: Clock;
  readonly homes: () => readonly PeerId[];
  /** Homes, and where lines are. */
  readonly held: () => readonly PeerId[];
  /** As kept, in published order. */
  readonly published: () => readonly SupernodeInfo[];
  readonly measured: (id: PeerId) => Measured;
  /** Published anew. */
  readonly keep: (supernodes: readonly SupernodeInfo[]) => void;
}

/** The supernodes that a node knows of, and in which order it turns to them. */
export class KnownSupernodes {
  readonly #draining = new Map<PeerId, { readonly until: Millis; published: boolean }>();

  constructor(private readonly deps: KnownSupernodesDeps) {}

  /** A supervisor's list; of itself it knows better than anybody. */
  told(from: PeerId | undefined, supernodes: readonly SupernodeInfo[]): void {
    const own = supernodes.find((one) => one.id === from);
    if (own?.draining) {
      this.#draining.set(own.id, { until: ms(this.deps.clock.monotonic() + OWN_WORD), published: false });
    } else if (own !== undefined) this.#draining.delete(own.id);
    for (const one of supernodes) {
      const said = one.id === from ? undefined : this.#draining.get(one.id);
      if (said === undefined) continue;
      // Lists that have heard of it know of its end, too: it was started again.
      if (one.draining) said.published = true;
      else if (said.published) this.#draining.delete(one.id);
    }
    if (supernodes.length > 0) this.deps.keep(supernodes);
  }

  /** Best first, by what they are to this node at present: draining ones last. */
  ranked(): readonly SupernodeInfo[] {
    const { role, region, held, measured } = this.deps;
    const known = this.#current();
    const rank = (some: readonly SupernodeInfo[]) =>
      rankSupernodes(some, { region, mayLeave: role === 'client' }, measured);
    if (role !== 'client') return rank(known);
    // While its traffic is held, a client reaches those few only.
    const near = nearby(known, region, held());
    return [...rank(near), ...rank(known.filter((one) => !near.includes(one)))];
  }

  /** As `ranked`, after those that own sessions of this node. */
  ordered(): readonly SupernodeInfo[] {
    const homes = this.deps.homes();
    const ranked = this.ranked();
    return [
      ...homes.flatMap((id) => ranked.find((one) => one.id === id) ?? []),
      ...ranked.filter((one) => !homes.includes(one.id)),
    ];
  }

  #current(): readonly SupernodeInfo[] {
    const now = this.deps.clock.monotonic();
    return this.deps.published().map((one) => {
      const until = this.#draining.get(one.id)?.until;
      return until === undefined || until <= now ? one : { ...one, draining: true };
    });
  }
}
