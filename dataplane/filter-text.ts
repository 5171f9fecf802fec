import { type Cidr, familyOf } from '../src/model/address.js';
import type { EgressUnit, FullTunnelUnit } from '../src/model/dataplane.js';
import { egressChains, egressObjects } from './egress-text.js';

/** Units that are rules of the owner's inet table. */
export type FilterUnit = EgressUnit | FullTunnelUnit;

/**
 * The owner's whole inet table: an exit's contract for each egress, a client's guard for each tunnel. `onLink`: networks
 * that this machine is connected to.
 */
export function renderFilterTable(
  name: string,
  units: readonly FilterUnit[],
  flags = '',
  onLink: readonly Cidr[] = [],
): string {
  const egresses = units.filter((unit) => unit.kind === 'egress');
  const tunnels = units.filter((unit) => unit.kind === 'full-tunnel');
  const chains = [
    ...(egresses.length > 0 ? egressObjects(egresses) : []),
    ...(egresses.length > 0 ? egressChains(egresses, onLink).map((chain) => base(...chain)) : []),
    ...(tunnels.length > 0 ? guardChains(tunnels) : []),
  ];
  return `table inet ${name} {\n${flags}${chains.join('')}}\n`;
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
