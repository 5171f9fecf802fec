import {
  type Cidr,
  cidrAddress,
  type Family,
  familyOf,
  hostCidr,
  nthAddress,
  prefixLength,
} from '../src/model/address.js';
import {
  type EgressUnit,
  type FullTunnelUnit,
  type KillSwitchUnit,
  type UnitId,
  unitIdOf,
} from '../src/model/dataplane.js';
import { EXCLUDED_MARK } from './kill-switch-text.js';
import { LAN_DISCOVERY_IPV4, LAN_IPV4, LAN_IPV6 } from './special-addresses.js';

export type RoutingUnit = EgressUnit | FullTunnelUnit | KillSwitchUnit;

/**
 * Rules and routes, as arguments of `ip rule` and `ip route`. They carry a protocol number of their own, so that after
 * a crash vpnd finds exactly what it made.
 *
 * A client's rules come before `main` (32766), whatever its table's number, and in this order:
 */
export const PRIORITY = {
  /** Programs outside the tunnels, by the mark of their packets. Where there is no way, they have none: not the tunnel. */
  program: 6090,
  noWayForProgram: 6091,
  /** Exact endpoints of supernodes and relays, which must not go through the tunnel that they carry. */
  exempt: 6100,
  /** Leases of addresses are renewed with whoever gave them. */
  dhcp: 6105,
  /** What is bound to a tunnel's inner address leaves by that tunnel or not at all, whichever is the default. */
  source: 6110,
  /** Networks that are not to be reached by a tunnel. */
  exclude: 6115,
  /**
   * The LAN: private destinations that `main` has more than a default route for (the router, printers). Where it is closed the
   * kill switch refuses them, at once and here: no exit would carry them, nor is it to know of them. Private only, and not all of `main`: routes that a DHCP server adds (option 121, TunnelVision) or a LAN that claims
   * public addresses (TunnelCrack) must not win here.
   */
  lan: 6120,
  /** Everything else: to the table of the active tunnel, or nowhere where there are tunnels and none is active. */
  all: 6130,
} as const;

/** `/etc/iproute2/rt_protos` has nothing here. One for each owner: each removes only its own residue. */
export const PROTOCOL = { client: 118, exit: 119, supernode: 120 } as const;
export type Owner = keyof typeof PROTOCOL;

/** Behind everything in a tunnel's table: where the device is gone, traffic is held, not leaked. */
const LAST_METRIC = 4_294_967_295;
/** Beside the route that a device's own address may bring along. */
const SOURCE_METRIC = 2000;
const TUNNEL_METRIC = 1024;

export interface RuleLine {
  readonly family: Family;
  readonly priority: number;
  /** Without priority and protocol: `to 203.0.113.7 ipproto udp dport 4500 lookup main`, or `unreachable`. */
  readonly text: string;
}

export interface RouteLine {
  readonly family: Family;
  readonly destination: Cidr;
  readonly table: string;
  readonly metric: number;
  /** Undefined for `unreachable`. */
  readonly device: string | undefined;
}

export interface Routing {
  /** By `ruleKey`, in the order they are to be added in. */
  readonly rules: ReadonlyMap<string, RuleLine>;
  /** By `routeKey`. */
  readonly routes: ReadonlyMap<string, RouteLine>;
  /** Which unit a key belongs to. A rule that several tunnels share belongs to the first. */
  readonly owners: ReadonlyMap<string, UnitId>;
}

export const ruleKey = (rule: RuleLine): string => `rule ${rule.family} ${rule.priority} ${rule.text}`;
/** What the kernel tells routes apart by: the device is not part of it. */
export const routeKey = (route: RouteLine): string =>
  `route ${route.family} ${route.destination} table ${route.table} metric ${route.metric}`;

const ANY: Readonly<Record<Family, Cidr>> = { 4: '0.0.0.0/0' as Cidr, 6: '::/0' as Cidr };

/**
 * What these units mean in rules and routes. `families`: those that this kernel has. Where a unit's device is gone, its
 * rules and the `unreachable` route behind them stay: traffic is held. Each tunnel has its table and the rules for its
 * own addresses; which of them carries everything else is one rule in each family, and moves by adding the new one
 * before the old one goes: of rules with one priority the older counts, so there is no moment without one.
 */
export function renderRouting(
  units: readonly RoutingUnit[],
  families: readonly Family[],
  isThere: (device: string) => boolean = () => true,
): Routing {
  const rules = new Map<string, RuleLine>();
  const routes = new Map<string, RouteLine>();
  const owners = new Map<string, UnitId>();
  const tunnels = units.filter((unit) => unit.kind === 'full-tunnel').sort((a, b) => a.table - b.table);
  const rule = (unit: RoutingUnit, family: Family, priority: number, text: string) => {
    if (!families.includes(family)) return;
    const line = { family, priority, text };
    rules.set(ruleKey(line), line);
    if (!owners.has(ruleKey(line))) owners.set(ruleKey(line), unitIdOf(unit));
  };
  const route = (unit: RoutingUnit, line: RouteLine) => {
    if (!families.includes(line.family) || (line.device !== undefined && !isThere(line.device))) return;
    routes.set(routeKey(line), line);
    owners.set(routeKey(line), unitIdOf(unit));
  };
  for (const unit of tunnels) {
    for (const { protocol, endpoint } of [...unit.exempt, ...pinned(unit)]) {
      const text = `to ${endpoint.ip} ipproto ${protocol} dport ${endpoint.port} lookup main`;
      rule(unit, familyOf(endpoint.ip), PRIORITY.exempt, text);
    }
  }
  for (const unit of tunnels) {
    for (const ip of unit.sources) rule(unit, familyOf(ip), PRIORITY.source, `from ${ip} lookup ${unit.table}`);
  }
  const killSwitch = units.find((unit) => unit.kind === 'kill-switch');
  if (killSwitch !== undefined && tunnels.length > 0) besideTunnels(killSwitch, (...line) => rule(killSwitch, ...line));
  const active = tunnels.find((unit) => unit.use === 'active');
  for (const unit of tunnels) {
    for (const family of [4, 6] as const) {
      const table = String(unit.table);
      route(unit, { family, destination: ANY[family], table, metric: LAST_METRIC, device: undefined });
      if (family === 4 || unit.ipv6 === 'tunnel') {
        route(unit, { family, destination: ANY[family], table, metric: TUNNEL_METRIC, device: unit.device });
      }
      if (unit === active) rule(unit, family, PRIORITY.all, `lookup ${table}`);
      else if (active === undefined) rule(unit, family, PRIORITY.all, 'unreachable');
    }
  }
  for (const unit of units) {
    if (unit.kind !== 'egress') continue;
    for (const source of unit.routes ?? unit.sources) {
      const destination = networkOf(source);
      route(unit, { family: familyOf(source), destination, table: 'main', metric: SOURCE_METRIC, device: unit.device });
    }
  }
  return { rules, routes, owners };
}

/** What a kill switch lets out has to find its way past the tunnels. */
function besideTunnels(
  { exclude }: KillSwitchUnit,
  rule: (family: Family, priority: number, text: string) => void,
): void {
  const mark = `fwmark 0x${EXCLUDED_MARK.toString(16)}`;
  for (const family of [4, 6] as const) {
    rule(family, PRIORITY.program, `${mark} lookup main`);
    rule(family, PRIORITY.noWayForProgram, `${mark} unreachable`);
  }
  rule(4, PRIORITY.dhcp, 'ipproto udp sport 68 dport 67 lookup main');
  rule(6, PRIORITY.dhcp, 'ipproto udp sport 546 dport 547 lookup main');
  for (const network of exclude) rule(familyOf(network), PRIORITY.exclude, `to ${named(network)} lookup main`);
  for (const network of [...LAN_IPV4, ...LAN_IPV6]) {
    rule(familyOf(network), PRIORITY.lan, `to ${network} lookup main suppress_prefixlength 0`);
  }
  // Nothing but a default route leads to groups; a router hands none of these on.
  for (const network of LAN_DISCOVERY_IPV4) rule(4, PRIORITY.lan, `to ${named(network)} lookup main`);
}

/** As `ip` shows it: a host is an address without a length. */
const named = (network: Cidr): string => (network === hostCidr(cidrAddress(network)) ? cidrAddress(network) : network);

/** A tunnel that moves between two ways needs both: packets come by either, and are checked for where they come from. */
const pinned = ({ pin }: FullTunnelUnit): FullTunnelUnit['exempt'] =>
  pin === undefined ? [] : [pin.from, pin.to].map((endpoint) => ({ protocol: 'udp', endpoint }));

/** Command lines for `ip -batch`, by family of the rules: `ip` takes a rule's family from its options alone. */
export interface RoutingBatch {
  /** Routes of both families, and IPv4 rules. */
  readonly main: readonly string[];
  readonly rules6: readonly string[];
}

/**
 * From what is there to what is wanted. What is new comes before what is old goes: at no moment is there less in the
 * tunnel than before and after, nor an endpoint without its exemption. Routes precede the rules that lead to them.
 */
export function planRouting(present: Routing, wanted: Routing, protocol: number): RoutingBatch {
  const main: string[] = [];
  const rules6: string[] = [];
  const put = (family: Family, line: string) => (family === 4 ? main : rules6).push(line);
  for (const [key, route] of wanted.routes) {
    if (present.routes.get(key)?.device === route.device && present.routes.has(key)) continue;
    main.push(`route replace ${routeText(route, protocol)}`);
  }
  for (const [key, rule] of wanted.rules) {
    if (!present.rules.has(key)) put(rule.family, ruleAddition(rule, protocol));
  }
  for (const [key, rule] of [...present.rules].reverse()) {
    if (!wanted.rules.has(key)) put(rule.family, `rule del ${ruleText(rule, protocol)}`);
  }
  for (const [key, route] of present.routes) {
    if (!wanted.routes.has(key)) main.push(`route del ${routeText(route, protocol)}`);
  }
  return { main, rules6 };
}

export const ruleAddition = (rule: RuleLine, protocol: number): string => `rule add ${ruleText(rule, protocol)}`;

const ruleText = (rule: RuleLine, protocol: number): string =>
  `${rule.text} priority ${rule.priority} protocol ${protocol}`;

function routeText(route: RouteLine, protocol: number): string {
  const target =
    route.device === undefined ? `unreachable ${route.destination}` : `${route.destination} dev ${route.device}`;
  return `${target} table ${route.table} metric ${route.metric} proto ${protocol}`;
}

/** The network of an address and a prefix length, host bits cleared, as routes are named. */
function networkOf(network: Cidr): Cidr {
  return `${nthAddress(network, 0)}/${prefixLength(network)}` as Cidr;
}

/** How `ip -j` names destinations: `default`, a bare address for a host, else as they are. */
export function destinationFrom(text: string, family: Family): Cidr {
  if (text === 'default') return ANY[family];
  return text.includes('/') ? (text as Cidr) : hostCidr(text as ReturnType<typeof cidrAddress>);
}
