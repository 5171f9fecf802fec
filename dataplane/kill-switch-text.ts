import { type Cidr, cidrAddress, contains, type Endpoint, familyOf, prefixLength } from '../src/model/address.js';
import { type KillSwitchUnit, TUNNEL_MARK } from '../src/model/dataplane.js';
import { DHCP_SERVERS, LAN_DISCOVERY_IPV4, LAN_DISCOVERY_IPV6, LAN_IPV4, LAN_IPV6 } from './special-addresses.js';

/** Of packets that programs outside the tunnels send (`vpnd exclude`). */
export const EXCLUDED_MARK = 0x76706e02;

/** Of names that a program of `vpnd portal` asks the network's own resolver, while it may (portal-text.ts). */
export const PORTAL_NAMES_MARK = 0x76706e03;

/** Behind every other table that rewrites, marks or redirects: what is judged is what would leave. */
const LAST = 300;

/**
 * Plain, encrypted and link-local names (RFC 1035, RFC 7858, RFC 4795): never outside a tunnel, whatever else may be. A
 * name asked on the network one is in tells it where one goes.
 */
export const NAME_PORTS = '{ 53, 853, 5355 }';

/** Sets whose elements come and go with sessions: the rules stay. */
export const KILL_SWITCH_SETS = ['endpoints4', 'endpoints6', 'tcp4', 'tcp6', 'udp4', 'udp6'] as const;
export type KillSwitchSet = (typeof KILL_SWITCH_SETS)[number];

/** Keys by set, as nft writes them: `203.0.113.7 . 40001`. */
export type KillSwitchElements = ReadonlyMap<KillSwitchSet, ReadonlySet<string>>;

export function killSwitchElements(unit: Pick<KillSwitchUnit, 'endpoints' | 'own'>): KillSwitchElements {
  const sets = new Map(KILL_SWITCH_SETS.map((set) => [set, new Set<string>()]));
  const add = (kind: 'endpoints' | 'tcp' | 'udp', endpoint: Endpoint) =>
    sets.get(`${kind}${familyOf(endpoint.ip)}`)?.add(`${endpoint.ip} . ${endpoint.port}`);
  for (const endpoint of unit.endpoints) add('endpoints', endpoint);
  for (const { protocol, endpoint } of unit.own) add(protocol, endpoint);
  return sets;
}

/** What of a unit is in the rules, and not in the sets. */
export type KillSwitchRules = Pick<KillSwitchUnit, 'devices' | 'lan' | 'exclude'> & {
  /** User of the daemon, whose own streams may leave. */
  readonly uid: number;
};

/**
 * `pass` says what may leave. It is asked twice: in `out`, where whoever sends is told at once that he may not, and in
 * `last`, which sees what other machines send through this one, and by which device a packet leaves in the end. Nothing
 * here looks at routes: deleting them lets nothing out.
 */
export function renderKillSwitch(
  name: string,
  rules: KillSwitchRules,
  elements: KillSwitchElements = new Map(),
  flags = '',
): string {
  const chain = (of: string, hook: string, lines: readonly string[]) =>
    `  chain ${of} {\n${hook}${lines.map((line) => `    ${line}\n`).join('')}  }\n`;
  const hook = (at: string) => `    type filter hook ${at} priority ${LAST}; policy drop;\n`;
  return [
    `table inet ${name} {\n${flags}`,
    ...KILL_SWITCH_SETS.map((set) => renderSet(set, elements.get(set))),
    chain('pass', '', passRules(rules)),
    chain('out', hook('output'), ['jump pass', 'reject with icmpx type admin-prohibited']),
    chain('last', hook('postrouting'), ['jump pass']),
    '}\n',
  ].join('');
}

function renderSet(set: KillSwitchSet, keys: ReadonlySet<string> = new Set()): string {
  const type = `type ipv${set.at(-1)}_addr . inet_service`;
  const elements = keys.size === 0 ? '' : `    elements = { ${[...keys].sort().join(', ')} }\n`;
  return `  set ${set} {\n    ${type}\n${elements}  }\n`;
}

function passRules({ devices, lan, exclude, uid }: KillSwitchRules): readonly string[] {
  const own = `meta skuid ${uid}`;
  return [
    `oifname { ${['lo', ...devices].map((name) => `"${name}"`).join(', ')} } accept`,
    `meta mark ${TUNNEL_MARK} ip daddr . udp dport @endpoints4 accept`,
    `meta mark ${TUNNEL_MARK} ip6 daddr . udp dport @endpoints6 accept`,
    `${own} ip daddr . tcp dport @tcp4 accept`,
    `${own} ip6 daddr . tcp dport @tcp6 accept`,
    `${own} ip daddr . udp dport @udp4 accept`,
    `${own} ip6 daddr . udp dport @udp6 accept`,
    // What the link itself needs: addresses by DHCP, neighbours, routers, and the groups that neighbours are asked in.
    `udp sport 68 udp dport 67 ip daddr { ${DHCP_SERVERS.join(', ')} } accept`,
    'udp sport 546 udp dport 547 ip6 daddr { fe80::/10, ff02::1:2 } accept',
    'icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept',
    'icmpv6 type { mld-listener-report, mld-listener-done, mld2-listener-report } ip6 daddr ff02::/16 accept',
    `meta mark ${PORTAL_NAMES_MARK} accept`,
    `meta l4proto { tcp, udp } th dport ${NAME_PORTS} return`,
    `meta mark ${EXCLUDED_MARK} accept`,
    ...to(exclude),
    ...(lan ? to([...LAN_IPV4, ...LAN_IPV6, ...LAN_DISCOVERY_IPV4, ...LAN_DISCOVERY_IPV6]) : []),
  ];
}

function to(networks: readonly Cidr[]): readonly string[] {
  const widest = withoutOverlap(networks);
  const rule = (family: 4 | 6, name: string) => {
    const own = widest.filter((network) => familyOf(network) === family);
    return own.length === 0 ? [] : [`${name} daddr { ${own.join(', ')} } accept`];
  };
  return [...rule(4, 'ip'), ...rule(6, 'ip6')];
}

/** nft refuses networks within each other in one set. */
export function withoutOverlap(networks: readonly Cidr[]): readonly Cidr[] {
  const distinct = [...new Set(networks)];
  return distinct.filter(
    (one) =>
      !distinct.some(
        (other) => other !== one && prefixLength(other) < prefixLength(one) && contains(other, cidrAddress(one)),
      ),
  );
}

/** Elements that come and go, as one transaction; '' where there is nothing to change. */
export function renderKillSwitchChange(name: string, before: KillSwitchElements, after: KillSwitchElements): string {
  const lines: string[] = [];
  for (const set of KILL_SWITCH_SETS) {
    const [old, wanted] = [before.get(set) ?? new Set<string>(), after.get(set) ?? new Set<string>()];
    const line = (verb: 'add' | 'delete', keys: readonly string[]) =>
      keys.length === 0 ? [] : [`${verb} element inet ${name} ${set} { ${[...keys].sort().join(', ')} }\n`];
    lines.push(
      ...line(
        'delete',
        [...old].filter((key) => !wanted.has(key)),
      ),
    );
    lines.push(
      ...line(
        'add',
        [...wanted].filter((key) => !old.has(key)),
      ),
    );
  }
  return lines.join('');
}

/**
 * What programs in the cgroup send gets a mark, by which it is routed past the tunnels; the address it began with may be a
 * tunnel's, and is replaced. Names are still asked in the tunnel: the mark is not for them. Answers are marked as well,
 * so that a strict reverse path filter takes them.
 */
export function renderExcludedPrograms(name: string, cgroup: { readonly path: string }, flags = ''): string {
  return `table inet ${name} {
${flags}  set programs {
    type cgroupsv2
    elements = { "${cgroup.path}" }
  }
  chain leave {
    type route hook output priority mangle; policy accept;
    oifname "lo" return
    meta l4proto { tcp, udp } th dport ${NAME_PORTS} return
    socket cgroupv2 level 1 @programs ct mark set ${EXCLUDED_MARK}
    ct mark ${EXCLUDED_MARK} meta mark set ${EXCLUDED_MARK}
  }
  chain answers {
    type filter hook prerouting priority mangle; policy accept;
    ct mark ${EXCLUDED_MARK} meta mark set ${EXCLUDED_MARK}
  }
  chain address {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark ${EXCLUDED_MARK} oifname != "lo" masquerade
  }
}
`;
}
