import type { SupernodeInfo } from '../../model/directory.js';

/**
 * What peers go by in a list of supernodes: who there is, where, and who drains. Loads and the order that follows from them
 * change all the time, and so does the place of a supernode whose stream to base broke; every stream that comes up brings
 * those anyway. Equal texts mean that there is nothing to tell thousands of peers.
 */
export function whatPeersGoBy(supernodes: readonly SupernodeInfo[]): string {
  return JSON.stringify(
    supernodes
      .map(({ id, region, addresses, relayIps, probePort, draining }) => [
        id,
        region,
        addresses,
        relayIps,
        probePort ?? 0,
        draining,
      ])
      .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1)),
  );
}
