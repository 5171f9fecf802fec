import type { NetworkState } from '../src/core/ports/network-watch.js';
import type { Family } from '../src/model/address.js';
import { parseList } from './routing.js';

/** What `ip -j` says of a machine's networks. */
export interface NetworkListing {
  /** `ip -4 -j route show default` and the same with -6: main only, so that tunnels' tables do not count. */
  readonly routes: Readonly<Record<Family, string>>;
  /** `ip -j -d addr show` */
  readonly addresses: string;
}

interface NextHopJson {
  readonly gateway?: string;
  readonly via?: { readonly host?: string };
  readonly dev?: string;
  readonly flags?: readonly string[];
}

interface DefaultRouteJson extends NextHopJson {
  readonly type?: string;
  readonly prefsrc?: string;
  readonly metric?: number;
  readonly nexthops?: readonly NextHopJson[];
}

interface LinkJson {
  readonly ifname?: string;
  readonly ifalias?: string;
  readonly addr_info?: readonly {
    readonly family?: string;
    readonly local?: string;
    readonly scope?: string;
    readonly temporary?: boolean;
    readonly deprecated?: boolean;
    readonly tentative?: boolean;
  }[];
}

/** How this family's packets leave at present. */
interface WayOut {
  readonly family: Family;
  readonly gateway: string;
  readonly device: string;
  readonly from: readonly string[];
}

/**
 * Of each family the default routes that are preferred to all others, unless their cable is out, and the addresses
 * of their devices. Routes in reserve do not count, nor do temporary addresses (RFC 8981), which change every day while
 * the network stays. `isOwn`: tunnels of this program; those with its alias are known anyway.
 */
export function networkStateOf(
  listing: NetworkListing,
  isOwn: (device: string) => boolean = () => false,
): NetworkState {
  const links = parseList<LinkJson>(listing.addresses).filter(
    (link) => !isOwn(link.ifname ?? '') && link.ifalias?.startsWith('vpnd:') !== true,
  );
  const ways = ([4, 6] as const).flatMap((family) => waysOut(family, listing.routes[family], links));
  const lines = ways.map(({ family, gateway, device, from }) => `IPv${family} ${gateway} ${device} ${from.join(' ')}`);
  return { fingerprint: lines.sort().join('; '), connected: lines.length > 0 };
}

function waysOut(family: Family, json: string, links: readonly LinkJson[]): readonly WayOut[] {
  const routes = parseList<DefaultRouteJson>(json)
    .filter((route) => route.type === undefined || route.type === 'unicast')
    .flatMap((route) =>
      (route.nexthops ?? [route]).map((hop) => ({ ...hop, prefsrc: route.prefsrc, metric: route.metric ?? 0 })),
    )
    .filter(({ dev, flags }) => links.some((link) => link.ifname === dev) && !flags?.some(isOut))
    .flatMap(({ dev = '', gateway, via, prefsrc, metric }) => {
      const from = prefsrc === undefined ? addressesOf(family, dev, links) : [prefsrc];
      return from.length === 0 ? [] : [{ family, device: dev, gateway: gateway ?? via?.host ?? '-', from, metric }];
    });
  const best = Math.min(...routes.map((route) => route.metric));
  return routes.filter((route) => route.metric === best);
}

const isOut = (flag: string): boolean => flag === 'linkdown' || flag === 'dead';

/** What the kernel may send from by a device: its own addresses, or any of the machine's where it has none. */
function addressesOf(family: Family, device: string, links: readonly LinkJson[]): readonly string[] {
  const name = family === 4 ? 'inet' : 'inet6';
  const on = (some: readonly LinkJson[]): readonly string[] =>
    some
      .flatMap((link) => link.addr_info ?? [])
      .filter((one) => one.family === name && one.scope === 'global' && !one.temporary && !one.deprecated)
      .flatMap((one) => (one.local === undefined || one.tentative ? [] : [one.local]))
      .sort();
  const own = on(links.filter((link) => link.ifname === device));
  return own.length > 0 ? own : on(links);
}
