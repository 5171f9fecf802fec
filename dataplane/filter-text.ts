import { type Cidr, familyOf, type IpAddress } from '../src/model/address.js';
import type { EgressUnit, FullTunnelUnit } from '../src/model/dataplane.js';
import { NEVER_REACHED_IPV4, NEVER_REACHED_IPV6 } from './special-addresses.js';

/** Units that are rules of the owner's inet table. */
export type FilterUnit = EgressUnit | FullTunnelUnit;

/**
 * Source ports that clients' connections leave from. Above what Linux gives to its own sockets (32768-60999) and to
 * forwarded services, so that no client can take the place of one in the router's eyes (port shadow, CVE-2021-3773).
 */
const CLIENT_PORTS = '61000-65535';

/** The owner's whole inet table: an exit's contract for each egress, a client's guard for each tunnel. */
export function renderFilterTable(name: string, units: readonly FilterUnit[], flags = ''): string {
  const egresses = units.filter((unit) => unit.kind === 'egress');
  const tunnels = units.filter((unit) => unit.kind === 'full-tunnel');
  const chains = [
    ...(egresses.length > 0 ? egressChains(egresses) : []),
    ...(tunnels.length > 0 ? guardChains(tunnels) : []),
  ];
  return `table inet ${name} {\n${flags}${chains.join('')}}\n`;
}

/**
 * `strict`: a device's packets carry the inner addresses of its peers and nothing else.
 * `input`: of the exit itself peers reach the gateway address only, and there an echo and a refused connection, which
 * are how a client tells a living exit from a dead one. `forward`: to the internet, never to each other, the owner's
 * networks or port 25; nobody out there opens a connection to a peer.
 */
function egressChains(units: readonly EgressUnit[]): string[] {
  return [
    base('strict', 'type filter hook prerouting priority raw', units.flatMap(strictRules)),
    base('input', 'type filter hook input priority filter', units.flatMap(inputRules)),
    base('forward', 'type filter hook forward priority filter', units.flatMap(forwardRules)),
    base('leave', 'type nat hook postrouting priority srcnat', units.flatMap(leaveRules)),
  ];
}

function strictRules(unit: EgressUnit): string[] {
  const from = `iifname "${unit.device}"`;
  const v4 = networks(unit.sources, 4);
  const v6 = networks(unit.sources, 6);
  const gateways = networks(unit.gateways, 6);
  return [
    v4 === '' ? `${from} meta nfproto ipv4 drop` : `${from} ip saddr != ${v4} drop`,
    v6 === '' ? `${from} meta nfproto ipv6 drop` : `${from} ip6 saddr != ${v6} drop`,
    // Refused, not dropped: programs then turn to IPv4 at once. Here, since without a route no packet gets to forward.
    ...(unit.ipv6
      ? []
      : [
          `${from} meta nfproto ipv6${gateways === '' ? '' : ` ip6 daddr != ${gateways}`} reject with icmpv6 type no-route`,
        ]),
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
    `${from} drop`,
  ];
}

function forwardRules(unit: EgressUnit): string[] {
  const from = `iifname "${unit.device}"`;
  const to = `oifname "${unit.device}"`;
  return [
    `${from} ${to} drop`,
    `${from} ip daddr { ${NEVER_REACHED_IPV4.join(', ')} } drop`,
    `${from} ip6 daddr { ${NEVER_REACHED_IPV6.join(', ')} } drop`,
    `${from} tcp dport 25 drop`,
    `${from} ct state invalid drop`,
    `${to} ct state != { established, related } drop`,
    // Path MTU discovery is broken in enough places that TCP has to be told what fits through the tunnel.
    `${from} tcp flags syn tcp option maxseg size set rt mtu`,
    `${to} tcp flags syn tcp option maxseg size set rt mtu`,
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

/**
 * `guard`: packets for a tunnel's inner address are taken from that tunnel and from this machine only: a neighbour who
 * guesses the address cannot slip packets into its connections, nor find out by ARP that it is here.
 * `dead`: what this machine sends from the addresses of a dead tunnel is refused at once, so that programs turn to the
 * tunnel that took its place instead of waiting for an answer.
 */
function guardChains(units: readonly FullTunnelUnit[]): string[] {
  const dead = units.flatMap(deadRules);
  return [
    base(
      'guard',
      'type filter hook prerouting priority raw',
      units.flatMap((unit) =>
        unit.sources.map((ip) => {
          const family = familyOf(ip) === 4 ? 'ip' : 'ip6';
          return `iifname != { "lo", "${unit.device}" } ${family} daddr ${ip} drop`;
        }),
      ),
    ),
    ...(dead.length > 0 ? [base('dead', 'type filter hook output priority filter', dead)] : []),
  ];
}

function deadRules(unit: FullTunnelUnit): string[] {
  if (unit.use !== 'dead') return [];
  return unit.sources.flatMap((ip) => {
    const from = `oifname != "lo" ${familyOf(ip) === 4 ? 'ip' : 'ip6'} saddr ${ip}`;
    return [`${from} meta l4proto tcp reject with tcp reset`, `${from} reject with icmpx type host-unreachable`];
  });
}

/** A client's inner addresses are nobody's business on the networks it is on: no answer to who-has. */
export function renderArpTable(name: string, units: readonly FullTunnelUnit[], flags = ''): string {
  const addresses = units.flatMap((unit) => unit.sources).filter((ip) => familyOf(ip) === 4);
  const rules = addresses.map((ip) => `arp daddr ip ${ip} drop`);
  return `table arp ${name} {\n${flags}${base('guard', 'type filter hook input priority filter', rules)}}\n`;
}

const base = (name: string, hook: string, rules: readonly string[]): string =>
  `  chain ${name} {\n    ${hook}; policy accept;\n${rules.map((rule) => `    ${rule}\n`).join('')}  }\n`;

/** `{ a, b }` of one family, masked to the networks they name; empty where there is none. */
function networks(list: readonly (Cidr | IpAddress)[], family: 4 | 6): string {
  const own = list.filter((network) => familyOf(network) === family);
  return own.length === 0 ? '' : `{ ${own.join(', ')} }`;
}
