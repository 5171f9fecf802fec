import { type Cidr, cidrAddress, contains, familyOf, type IpAddress, prefixLength } from '../src/model/address.js';
import { type ConnectionLimits, type EgressUnit, VIOLATIONS, type Violation } from '../src/model/dataplane.js';
import { NEVER_REACHED_IPV4, NEVER_REACHED_IPV6 } from './special-addresses.js';

/**
 * Source ports that clients' connections leave from. Above what Linux gives to its own sockets (32768-60999) and to
 * forwarded services, so that no client can take the place of one in the router's eyes (port shadow, CVE-2021-3773).
 */
const CLIENT_PORTS = '61000-65535';

/** How many seconds' worth of new connections may come at once: a page that is opened asks for dozens. */
const BURST_SECONDS = 10;
/** Inner addresses with limits of their own; rules for more are not met, and the limit for all still is. */
const ADDRESSES_AT_MOST = 65_535;

/** nft's names have no hyphens. */
const counterOf = (kind: Violation): string => kind.replaceAll('-', '_');
export const violationOf = (counter: string): Violation | undefined =>
  VIOLATIONS.find((kind) => counterOf(kind) === counter);

/** Counters of bytes that were carried, from a session's source check to the last rule of `forward`. */
export const FROM_CLIENTS = 'from_clients';
export const TO_CLIENTS = 'to_clients';

const refuse = (kind: Violation): string => `counter name ${counterOf(kind)} drop`;

/**
 * An exit's contract: named counters, sets for limits, and four chains.
 * `strict`, before anything is tracked: a device's packets carry the inner addresses of its peers and nothing else, and go
 * neither to special addresses, nor to this machine, its networks, or other peers.
 * `input`: of the exit itself peers reach the gateway address only, and there an echo and a refused connection, which
 * are how a client tells a living exit from a dead one. `forward`: the same as `strict` for where a packet is headed
 * after the owner's own rules have translated it; port 25; limits; nobody out there opens a connection to a peer.
 */
export function egressObjects(units: readonly EgressUnit[]): string[] {
  const limits = units.map((unit) => unit.limits);
  const counters = [...VIOLATIONS.map(counterOf), FROM_CLIENTS, TO_CLIENTS];
  return [
    ...counters.map((name) => `  counter ${name} {\n  }\n`),
    ...(limits.some((one) => one.newPerSession > 0) ? [meter('new4', 4, true), meter('new6', 6, true)] : []),
    // Elements of the other kind go by themselves, with the last connection that they count.
    ...(limits.some((one) => one.openPerSession > 0) ? [meter('open4', 4, false), meter('open6', 6, false)] : []),
  ];
}

const meter = (name: string, family: 4 | 6, timeout: boolean): string =>
  `  set ${name} {\n    type ipv${family}_addr\n    size ${ADDRESSES_AT_MOST}\n    flags dynamic${timeout ? ',timeout\n    timeout 1m' : ''}\n  }\n`;

/** The chains by name, with hook and rules. `onLink`: networks that this machine is connected to. */
export function egressChains(
  units: readonly EgressUnit[],
  onLink: readonly Cidr[],
): readonly (readonly [name: string, hook: string, rules: readonly string[]])[] {
  return [
    ['strict', 'type filter hook prerouting priority raw', units.flatMap((unit) => strictRules(unit, onLink))],
    ['input', 'type filter hook input priority filter', units.flatMap(inputRules)],
    [
      'forward',
      'type filter hook forward priority filter',
      [...answerRules(units), ...units.flatMap((unit) => forwardRules(unit, onLink))],
    ],
    ['leave', 'type nat hook postrouting priority srcnat', units.flatMap(leaveRules)],
  ];
}

function strictRules(unit: EgressUnit, onLink: readonly Cidr[]): string[] {
  const from = `iifname "${unit.device}"`;
  const v4 = networks(unit.sources, 4);
  const v6 = networks(unit.sources, 6);
  const gateways = { 4: networks(unit.gateways, 4), 6: networks(unit.gateways, 6) };
  const is = ([family, word]: readonly [4 | 6, string]) =>
    gateways[family] === '' ? [] : [`${from} ${word} daddr ${gateways[family]} return`];
  return [
    v4 === '' ? `${from} meta nfproto ipv4 ${refuse('source')}` : `${from} ip saddr != ${v4} ${refuse('source')}`,
    v6 === '' ? `${from} meta nfproto ipv6 ${refuse('source')}` : `${from} ip6 saddr != ${v6} ${refuse('source')}`,
    ...is([4, 'ip']),
    ...is([6, 'ip6']),
    // Refused, not dropped: programs then turn to IPv4 at once. Here, since without a route no packet gets to forward.
    ...(unit.ipv6 ? [] : [`${from} meta nfproto ipv6 reject with icmpv6 type no-route`]),
    ...headedWrong(unit, onLink, from),
    // Whatever address this machine has at this moment, before a rule of its owner's forwards it to somebody inside.
    `${from} fib daddr type { local, broadcast, anycast, multicast } ${refuse('own-network')}`,
  ];
}

/** Where no client's packet may go, most telling reason first. */
function headedWrong(unit: EgressUnit, onLink: readonly Cidr[], from: string): string[] {
  const own = [...unit.forbidden, ...(unit.forbidOnLink ? onLink : [])];
  const to = (kind: Violation, list: readonly Cidr[]) =>
    ([4, 6] as const).flatMap((family) => {
      const some = networks(list, family);
      return some === '' ? [] : [`${from} ${family === 4 ? 'ip' : 'ip6'} daddr ${some} ${refuse(kind)}`];
    });
  return [
    ...to('other-client', unit.sources),
    ...to('special-address', [...NEVER_REACHED_IPV4, ...NEVER_REACHED_IPV6]),
    ...to('own-network', own),
  ];
}

function inputRules(unit: EgressUnit): string[] {
  const from = `iifname "${unit.device}"`;
  const v4 = networks(unit.gateways, 4);
  const v6 = networks(unit.gateways, 6);
  return [
    ...(v4 === ''
      ? []
      : [
          `${from} ip daddr ${v4} icmp type echo-request accept`,
          `${from} ip daddr ${v4} meta l4proto tcp reject with tcp reset`,
        ]),
    ...(v6 === ''
      ? []
      : [
          `${from} ip6 daddr ${v6} icmpv6 type echo-request accept`,
          `${from} ip6 daddr ${v6} meta l4proto tcp reject with tcp reset`,
        ]),
    `${from} ${refuse('own-network')}`,
  ];
}

function forwardRules(unit: EgressUnit, onLink: readonly Cidr[]): string[] {
  const from = `iifname "${unit.device}"`;
  const to = `oifname "${unit.device}"`;
  return [
    `${from} ${to} ${refuse('other-client')}`,
    `${from} tcp dport 25 ${refuse('mail')}`,
    `${from} ct state invalid drop`,
    `${to} ct state != { established, related } drop`,
    // What is open has been looked at in `strict`, and where it goes is settled.
    ...headedWrong(unit, onLink, `${from} ct state != { established, related }`),
    ...limitRules(unit.limits, from),
    // Path MTU discovery is broken in enough places that TCP has to be told what fits through the tunnel.
    `${from} tcp flags syn tcp option maxseg size set rt mtu`,
    `${to} tcp flags syn tcp option maxseg size set rt mtu`,
    `${from} counter name ${FROM_CLIENTS}`,
    `${to} counter name ${TO_CLIENTS}`,
  ];
}

/**
 * Answers go back into a tunnel or nowhere: without its interface, as when WireGuard's process has died, routes would send
 * them to the next router, unencrypted and with a client's inner address on them.
 */
function answerRules(units: readonly EgressUnit[]): string[] {
  const devices = units.map(({ device }) => `"${device}"`).join(', ');
  const sources = units.flatMap((unit) => unit.sources);
  return ([4, 6] as const).flatMap((family) => {
    const some = networks(sources, family);
    const word = family === 4 ? 'ip' : 'ip6';
    return some === '' ? [] : [`oifname != { ${devices} } ct direction reply ct original ${word} saddr ${some} drop`];
  });
}

/**
 * A connection counts when it is made. A flow that nobody answers is "new" for all of its packets, and only the first of
 * them has an entry that is not confirmed yet.
 */
function limitRules({ newPerSession, newInAll, openPerSession }: ConnectionLimits, from: string): string[] {
  const first = `${from} ct state new ct status ! confirmed`;
  const rate = (number: number) => `limit rate over ${number}/second burst ${number * BURST_SECONDS} packets`;
  const each = (verb: string, set: string, limit: string, kind: Violation) => [
    `${first} ${verb} @${set}4 { ip saddr ${limit} } ${refuse(kind)}`,
    `${first} ${verb} @${set}6 { ip6 saddr ${limit} } ${refuse(kind)}`,
  ];
  return [
    ...(newPerSession > 0 ? each('update', 'new', rate(newPerSession), 'new-connections') : []),
    ...(openPerSession > 0 ? each('add', 'open', `ct count over ${openPerSession}`, 'open-connections') : []),
    ...(newInAll > 0 ? [`${first} ${rate(newInAll)} ${refuse('new-connections')}`] : []),
  ];
}

function leaveRules(unit: EgressUnit): string[] {
  const rules: string[] = [];
  const out = `iifname "${unit.device}" oifname != "${unit.device}"`;
  for (const family of [4, 6] as const) {
    const sources = networks(unit.sources, family);
    if (sources === '' || (family === 6 && !unit.ipv6)) continue;
    const from = `${out} ${family === 4 ? 'ip' : 'ip6'} saddr ${sources}`;
    rules.push(`${from} meta l4proto { tcp, udp } masquerade to :${CLIENT_PORTS} random`, `${from} masquerade`);
  }
  return rules;
}

/** `{ a, b }` of one family, none within another, which some versions of nft refuse; empty where there is none. */
function networks(list: readonly (Cidr | IpAddress)[], family: 4 | 6): string {
  const own = [...new Set(list)].filter((network) => familyOf(network) === family);
  const outer = own.filter((one) => !own.some((other) => isWithin(one, other)));
  return outer.length === 0 ? '' : `{ ${outer.join(', ')} }`;
}

const isCidr = (network: Cidr | IpAddress): network is Cidr => network.includes('/');

function isWithin(inner: Cidr | IpAddress, outer: Cidr | IpAddress): boolean {
  if (!isCidr(inner) || !isCidr(outer) || prefixLength(inner) <= prefixLength(outer)) return false;
  return contains(outer, cidrAddress(inner));
}
