import type { Endpoint, IpAddress, Port } from '../src/model/address.js';
import type { RelayUnit } from '../src/model/dataplane.js';

/**
 * The blind relay, as text for nft. One table for each address family outside; all that tells sessions apart stands in
 * sets and maps, so that a session comes and goes as elements of one transaction and the rules never change.
 *
 * A packet to one of our ports is either from the next hop (`hop`: its exact address and port) and goes back to the
 * learned endpoint of the peer, or from an address that the control stream vouched for (`vouched`) and goes on, to the
 * next hop or out of the paired port to the other peer's learned endpoint. Everything else is dropped.
 */
export type RelayFamily = 'ip' | 'ip6';

export const RELAY_SETS = [
  'ours',
  'local',
  'out',
  'next_ip',
  'next_port',
  'hop',
  'vouched',
  'ep_ip',
  'ep_port',
] as const;
export type RelaySet = (typeof RELAY_SETS)[number];

export interface RelayElement {
  readonly set: RelaySet;
  /** As nft writes it. */
  readonly key: string;
  /** Empty in a set. */
  readonly value: string;
  readonly port: Port;
}

/** Which part of a key is the relay port. */
export const PORT_AT: Readonly<Record<RelaySet | 'current', number>> = {
  ours: 1,
  local: 0,
  out: 0,
  next_ip: 0,
  next_port: 0,
  hop: 2,
  vouched: 1,
  ep_ip: 0,
  ep_port: 0,
  current: 0,
};

/** The maps that packets write: what they hold is learned, not desired. */
export const isLearned = (set: RelaySet): boolean => set === 'ep_ip' || set === 'ep_port';

export const NOBODY: Readonly<Record<RelayFamily, string>> = { ip: '0.0.0.0', ip6: '::' };

/**
 * How long a tuple counts as known without being learned again. Also how long a peer that moves away and straight back
 * may have to wait, and how long anything wrong in the learned maps can last.
 */
const CURRENT = '2s';
/** Elements a set can hold. Learned maps need room for the elements that await the kernel's garbage collector. */
const PORTS = 65_536;
const ROOM = 262_144;

/** The whole table without its name's elements, or with them: `elements` is text for inside a set, by set. */
export function renderRelayTable(
  family: RelayFamily,
  name: string,
  elements: ReadonlyMap<RelaySet, readonly string[]> = new Map(),
  flags = '',
): string {
  const addr = family === 'ip' ? 'ipv4_addr' : 'ipv6_addr';
  const set = (kind: 'set' | 'map', id: RelaySet, type: string, size: number, more = '') => {
    const inside = elements.get(id) ?? [];
    const list = inside.length === 0 ? '' : ` elements = { ${inside.join(', ')} };`;
    return `  ${kind} ${id} { type ${type}; size ${size};${more}${list} }`;
  };
  const sets = [
    set('set', 'ours', `${addr} . inet_service`, PORTS),
    set('map', 'local', `inet_service : ${addr}`, PORTS),
    set('map', 'out', 'inet_service : inet_service', PORTS),
    set('map', 'next_ip', `inet_service : ${addr}`, PORTS),
    set('map', 'next_port', 'inet_service : inet_service', PORTS),
    set('set', 'hop', `${addr} . inet_service . inet_service`, PORTS),
    set('set', 'vouched', `${addr} . inet_service`, ROOM),
    set('map', 'ep_ip', `inet_service : ${addr}`, ROOM, ' flags dynamic;'),
    set('map', 'ep_port', 'inet_service : inet_service', ROOM, ' flags dynamic;'),
    `  set current { type inet_service . ${addr} . inet_service; size ${ROOM}; flags dynamic,timeout; }`,
    `  set learns { type inet_service; size ${ROOM}; flags dynamic,timeout; }`,
  ];
  return `table ${family} ${name} {\n${flags}${sets.join('\n')}\n${chains(family)}}\n`;
}

/**
 * WireGuard in user space sends datagrams that may not be cut (DF), and a router beyond whose line takes less says so to
 * us, not to whom it concerns: they would be gone without a word. So large ones may be cut from here on, as those of
 * WireGuard in the kernel may everywhere. Pieces are put together by the identification, which such datagrams lack
 * (RFC 6864, section 4). Of IPv6 no router cuts anything.
 */
const MAY_BE_CUT = 'ip length > 1280 ip frag-off 0x4000 ip frag-off set 0 ip id set numgen inc mod 65536';

/**
 * `update` refreshes an element's timeout but never its data, so a moved endpoint is deleted and added. That is dear
 * (a deleted element stays in its hash bucket until the kernel's collector comes by, and a full bucket refuses the
 * add), hence `current` in front of it, and no more than a few times a second for one port. `current` is not refreshed
 * by traffic: each endpoint is learned anew every 2 s, and whatever went wrong in learning heals by itself.
 *
 * The learned maps always have an element for a port of ours, 0.0.0.0 before anything is learned: a transaction that
 * deletes it then does not fail on one that never was.
 *
 * The source address is rewritten only after routing: earlier it would look like a martian.
 */
function chains(family: RelayFamily): string {
  const f = family;
  const back = `${f} daddr set udp dport map @ep_ip ${f} daddr != ${NOBODY[f]} udp dport set udp dport map @ep_port accept`;
  const across = `${f} daddr set udp sport map @ep_ip ${f} daddr != ${NOBODY[f]} udp dport set udp sport map @ep_port accept`;
  return `  chain pre {
    type filter hook prerouting priority raw; policy accept;
    ${f} daddr . udp dport @ours goto relay
  }
  chain relay {${family === 'ip' ? `\n    ${MAY_BE_CUT}` : ''}
    ${f} saddr . udp sport . udp dport @hop goto back
    ${f} saddr . udp dport @vouched goto front
    drop
  }
  chain back {
    notrack
    udp sport set udp dport map @out
    ${back}
    drop
  }
  chain front {
    notrack
    udp dport . ${f} saddr . udp sport != @current jump learn
    udp sport set udp dport map @out
    ${f} daddr set udp dport map @next_ip udp dport set udp dport map @next_port accept
    ${across}
    drop
  }
  chain learn {
    add @learns { udp dport timeout 10s limit rate over 8/second burst 8 packets } return
    delete @ep_ip { udp dport : ${f} saddr }
    delete @ep_port { udp dport : udp sport }
    add @ep_ip { udp dport : ${f} saddr }
    add @ep_port { udp dport : udp sport }
    add @current { udp dport . ${f} saddr . udp sport timeout ${CURRENT} }
  }
  chain post {
    type filter hook postrouting priority raw; policy accept;
    ct state untracked ${f} saddr set udp sport map @local
  }
`;
}

/** What a unit is in the sets. `local` is the address that its port is on as this machine sees it. */
export function relayElements(unit: RelayUnit, local: IpAddress): readonly RelayElement[] {
  const port = unit.port;
  const family: RelayFamily = local.includes(':') ? 'ip6' : 'ip';
  const element = (set: RelaySet, key: string, value = ''): RelayElement => ({ set, key, value, port });
  const known = unit.learned !== undefined && unit.vouched.includes(unit.learned.ip) ? unit.learned : undefined;
  const common = [
    element('ours', `${local} . ${port}`),
    element('local', `${port}`, local),
    ...unit.vouched.map((ip) => element('vouched', `${ip} . ${port}`)),
    element('ep_ip', `${port}`, known?.ip ?? NOBODY[family]),
    element('ep_port', `${port}`, `${known?.port ?? 0}`),
  ];
  if (unit.next.kind === 'pair') return [...common, element('out', `${port}`, `${unit.next.port}`)];
  const hop = unit.next.endpoint;
  return [
    ...common,
    element('out', `${port}`, `${port}`),
    element('next_ip', `${port}`, hop.ip),
    element('next_port', `${port}`, `${hop.port}`),
    element('hop', `${hop.ip} . ${hop.port} . ${port}`),
  ];
}

export const elementText = (element: Pick<RelayElement, 'key' | 'value'>): string =>
  element.value === '' ? element.key : `${element.key} : ${element.value}`;

/** One transaction on elements. Deletions first: a value changes by deleting its key and adding it. */
export function renderRelayChange(
  family: RelayFamily,
  name: string,
  remove: readonly { readonly set: RelaySet | 'current'; readonly key: string }[],
  add: readonly RelayElement[],
): string {
  const lines: string[] = [];
  // A known tuple may run out between reading and writing, and deleting what is absent fails: so it is added first.
  const known = remove.filter((e) => e.set === 'current').map((e) => e.key);
  if (known.length > 0) {
    lines.push(
      `add element ${family} ${name} current { ${known.map((key) => `${key} timeout ${CURRENT}`).join(', ')} }`,
    );
    lines.push(`delete element ${family} ${name} current { ${known.join(', ')} }`);
  }
  for (const set of RELAY_SETS) {
    const gone = remove.filter((e) => e.set === set).map((e) => e.key);
    if (gone.length > 0) lines.push(`delete element ${family} ${name} ${set} { ${gone.join(', ')} }`);
  }
  for (const set of RELAY_SETS) {
    const come = add.filter((e) => e.set === set).map(elementText);
    if (come.length > 0) lines.push(`add element ${family} ${name} ${set} { ${come.join(', ')} }`);
  }
  return lines.length === 0 ? '' : `${lines.join('\n')}\n`;
}

/** The endpoint that a port's packets have shown. */
export function learnedEndpoint(ip: string | undefined, port: string | undefined): Endpoint | undefined {
  if (ip === undefined || port === undefined || port === '0') return undefined;
  if (ip === NOBODY.ip || ip === NOBODY.ip6) return undefined;
  return { ip: ip as IpAddress, port: Number(port) as Port };
}
