import { type Cidr, cidrAddress, familyOf, parseCidr, prefixLength, subnet } from '../src/model/address.js';
import { parseList } from './routing.js';
import type { Runner } from './run.js';
import { isNotPublic } from './special-addresses.js';

interface RouteJson {
  readonly type?: string;
  readonly dst?: string;
  readonly gateway?: string;
  readonly via?: unknown;
  readonly nexthops?: unknown;
  readonly nhid?: unknown;
  readonly dev?: string;
}

interface LinkJson {
  readonly ifname?: string;
  readonly ifalias?: string;
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number; readonly address?: string }[];
}

/** What `ip -j` says: routes of `main` by family, and all links with their addresses. */
export interface OnLinkListing {
  readonly routes: Readonly<Record<4 | 6, string>>;
  readonly addresses: string;
}

/**
 * Routes without a gateway may also lead into somebody's tunnel to half of the internet (0.0.0.0/1, 2000::/3): only what
 * is narrower can be a network that this machine is a neighbour in.
 */
const WIDEST = { 4: 8, 6: 32 } as const;
/** What a provider gives to one household (RFC 6177); the machine itself sees a /64 of it. */
const HOUSEHOLD = 56;

/**
 * Public networks that this machine is connected to, and its household's other ones as far as IPv6 shows them. Private
 * ones need no mention: they are never reached anyway. Sorted.
 */
export function onLinkNetworks(listing: OnLinkListing): readonly Cidr[] {
  const links = parseList<LinkJson>(listing.addresses);
  const ours = new Set(links.filter((link) => link.ifalias?.startsWith('vpnd:')).map((link) => link.ifname));
  const found = new Set<Cidr>();
  const take = (text: string) => {
    const network = networkOf(text);
    if (network !== undefined) found.add(network);
  };
  for (const family of [4, 6] as const) {
    for (const route of parseList<RouteJson>(listing.routes[family])) {
      const { type, dst = '', gateway, via, nexthops, nhid, dev = 'lo' } = route;
      if (type !== undefined && type !== 'unicast') continue;
      if (gateway !== undefined || via !== undefined || nexthops !== undefined || nhid !== undefined) continue;
      if (dev === 'lo' || ours.has(dev) || dst === 'default') continue;
      take(dst.includes('/') ? dst : `${dst}/${family === 4 ? 32 : 128}`);
    }
  }
  for (const link of links) {
    if (link.ifname === 'lo' || ours.has(link.ifname)) continue;
    for (const { local, prefixlen } of link.addr_info ?? []) take(`${local}/${prefixlen}`);
  }
  return [...found].sort();
}

/** The network of an address with its length, widened to the household's; undefined for what needs no mention. */
function networkOf(text: string): Cidr | undefined {
  const parsed = parseCidr(text);
  if (!parsed.ok) return undefined;
  const family = familyOf(parsed.value);
  const length = prefixLength(parsed.value);
  if (length < WIDEST[family] || isNotPublic(cidrAddress(parsed.value))) return undefined;
  const wide = family === 6 && length > HOUSEHOLD ? HOUSEHOLD : length;
  return subnet(`${cidrAddress(parsed.value)}/${wide}` as Cidr, wide, 0);
}

/** Asks the kernel. Rejects with what `ip` is refused with. */
export async function readOnLink(runner: Runner): Promise<readonly Cidr[]> {
  const [ipv4, ipv6, addresses] = await Promise.all([
    runner.run('ip', ['-4', '-j', 'route', 'show', 'table', 'main']),
    // A kernel may have no IPv6 at all.
    runner.run('ip', ['-6', '-j', 'route', 'show', 'table', 'main']).catch(() => ''),
    runner.run('ip', ['-j', 'addr', 'show']),
  ]);
  return onLinkNetworks({ routes: { 4: ipv4, 6: ipv6 }, addresses });
}
