import type { SupernodeInfo } from '../../model/directory.js';
import type { PeerId } from '../../model/ids.js';
import { type Millis, ms } from '../../model/time.js';

/** A round trip, `none` where no answer came, undefined where nobody has measured. */
export type Measured = Millis | 'none' | undefined;

/** As many as are measured, and as a client keeps reachable outside its tunnel. */
export const NEARBY = 8;
/** Another region's supernode is much closer when it takes less than half as long… */
const MUCH_CLOSER = 0.5;
/** …and saves so much: a few milliseconds are noise, and no reason to leave the region. */
const WORTH_LEAVING: Millis = ms(20);

/**
 * The few that a node has an eye on: where its sessions and lines are, those of its own region, then one of each other region in
 * turn, so that somebody is left when a whole region is not. In published order within a region. Pure.
 */
export function nearby(
  supernodes: readonly SupernodeInfo[],
  region: string,
  held: readonly PeerId[],
): readonly SupernodeInfo[] {
  const owners = supernodes.filter((one) => held.includes(one.id));
  const rest = supernodes.filter((one) => !held.includes(one.id));
  const own = rest.filter((one) => one.region === region);
  const turns = new Map<string, number>();
  const others = rest
    .filter((one) => one.region !== region)
    .map((one) => {
      const turn = turns.get(one.region) ?? 0;
      turns.set(one.region, turn + 1);
      return { one, turn };
    })
    .sort((a, b) => a.turn - b.turn)
    .map(({ one }) => one);
  const room = NEARBY - owners.length;
  // Other regions get three places where they can fill them.
  const fromOwn = Math.max(room - Math.min(others.length, 3), 0);
  return [...owners, ...own.slice(0, fromOwn), ...others, ...own.slice(fromOwn)].slice(0, NEARBY);
}

/**
 * Supernodes as a node turns to them, best first. Pure. Draining ones last; then those that did not answer; else by
 * round trip within the own region, which comes before every other: an exit is looked for there, and a client's traffic
 * is meant to enter there. For a client, one of another region comes first where it is much closer than the closest of
 * the own. Unmeasured ones follow the measured of their kind, in published order.
 */
export function rankSupernodes(
  supernodes: readonly SupernodeInfo[],
  node: { readonly region: string; readonly mayLeave: boolean },
  measured: (id: PeerId) => Measured,
): readonly SupernodeInfo[] {
  const took = (one: SupernodeInfo): number => {
    const result = measured(one.id);
    return typeof result === 'number' ? result : Number.POSITIVE_INFINITY;
  };
  const own = supernodes.filter((one) => one.region === node.region && !one.draining).map(took);
  const closest = Math.min(...own);
  const kind = (one: SupernodeInfo): number => {
    if (one.draining) return 4;
    if (measured(one.id) === 'none') return 3;
    if (one.region === node.region) return 1;
    const isMuchCloser = took(one) < closest * MUCH_CLOSER && took(one) + WORTH_LEAVING <= closest;
    return node.mayLeave && Number.isFinite(closest) && isMuchCloser ? 0 : 2;
  };
  return supernodes
    .map((one, published) => ({ one, kind: kind(one), took: took(one), published }))
    .sort((a, b) => a.kind - b.kind || compare(a.took, b.took) || a.published - b.published)
    .map(({ one }) => one);
}

/** Two infinities are equal here, which subtracting them would not say. */
const compare = (a: number, b: number): number => (a < b ? -1 : a > b ? 1 : 0);
