import { type Cidr, cidrAddress, familyOf, type IpAddress, prefixLength } from '../src/model/address.js';
import type { InterfaceName, ShaperUnit } from '../src/model/dataplane.js';
import type { WireGuardPublicKey } from '../src/model/keys.js';

/**
 * One direction of an exit's tunnels: an interface of its own with an HTB queue, to which packets are turned aside on their
 * way out of a WireGuard device (`dst` is the client) or in (`src`), so that several devices share one limit.
 */
export interface ShaperSide {
  readonly device: InterfaceName;
  readonly match: 'dst' | 'src';
}

/** `vpnd-exit-down`, what clients receive, and `vpnd-exit-up`. */
export const sidesOf = (owner: string): readonly [ShaperSide, ShaperSide] => [
  { device: `vpnd-${owner.slice(0, 5)}-down` as InterfaceName, match: 'dst' },
  { device: `vpnd-${owner.slice(0, 5)}-up` as InterfaceName, match: 'src' },
];

/** What a limit is: bits a second, 0 for none. */
export type Rates = Pick<ShaperUnit, 'rate' | 'sessionRate'>;

/** A session, which is a peer with the addresses that are its own. */
export interface ShapedSession {
  readonly key: WireGuardPublicKey;
  readonly addresses: readonly IpAddress[];
}

/** A session's class at both sides. */
export type ClassId = number;
/** What carries a class' packets while they wait. */
export type Leaf = 'fq_codel' | 'bfifo';

/** What is in the kernel of a side, or is to be: rates in kbit/s, filters by address. */
export interface SideState {
  readonly classes: ReadonlyMap<ClassId, { readonly rate: number; readonly ceil: number }>;
  readonly filters: ReadonlyMap<IpAddress, { readonly node: string; readonly classId: ClassId }>;
}

/** All sessions together, and what belongs to none of them, such as the gateway's answers to probes. */
export const WHOLE: ClassId = 0xfffe;
export const OTHERS: ClassId = 1;
export const FIRST_SESSION: ClassId = 0x10;
export const LAST_SESSION: ClassId = 0xfff0;

/** Guaranteed to a class; what is left, which is nearly all, goes round among those that want it, a quantum each. */
const GUARANTEED = 1;
const QUANTUM = 6_000;
/** Milliseconds of the rate that may leave at once, and that wait at most where the kernel has no fq_codel. */
const BURST_MS = 5;
const WAIT_MS = 50;
/** One packet as network cards put them together. */
const LEAST_BYTES = 65_536;

const kbit = (bits: number): number => Math.max(8, Math.round(bits / 1000));

/** Rates of the classes that are there without any session, and of a session's. */
export function ratesOf({ rate, sessionRate }: Rates): {
  readonly whole: number | undefined;
  readonly each: { readonly rate: number; readonly ceil: number };
} {
  const whole = rate > 0 ? kbit(rate) : undefined;
  const each = sessionRate > 0 ? kbit(sessionRate) : undefined;
  const ceil = Math.min(whole ?? Number.POSITIVE_INFINITY, each ?? Number.POSITIVE_INFINITY);
  return { whole, each: { rate: whole === undefined ? ceil : GUARANTEED, ceil } };
}

const hex = (n: number): string => n.toString(16);

/** Lines for `tc -batch` that make a side with no session on it. */
export function renderSide(rates: Rates, { device, match }: ShaperSide, leaf: Leaf): readonly string[] {
  const { whole } = ratesOf(rates);
  return [
    `qdisc add dev ${device} root handle 1: htb default ${hex(OTHERS)}`,
    ...(whole === undefined
      ? []
      : [`class add dev ${device} parent 1: classid 1:${hex(WHOLE)} htb ${rateWords(whole, whole)}`]),
    ...renderClass(rates, { device, match }, leaf, OTHERS),
    // A table of 256 by the last byte of the address, so that a packet meets its filter at once.
    ...([4, 6] as const).flatMap((family) => [
      `filter add dev ${device} ${table(family)} handle ${handle(family)}: u32 divisor 256`,
      `filter add dev ${device} ${table(family)} u32 ht ${family === 4 ? '800' : '801'}:: match ${
        family === 4 ? `ip ${match} 0.0.0.0/0` : `ip6 ${match} ::/0`
      } hashkey mask 0x000000ff at ${lastByte(family, match)} link ${handle(family)}:`,
    ]),
  ];
}

/** What leaves and enters a device goes by way of the sides. */
export const renderRedirects = (
  from: InterfaceName,
  [down, up]: readonly [ShaperSide, ShaperSide],
): readonly string[] => [
  `qdisc add dev ${from} clsact`,
  ...[['egress', down] as const, ['ingress', up] as const].map(
    ([way, side]) =>
      `filter add dev ${from} ${way} protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev ${side.device}`,
  ),
];

export function renderClass(rates: Rates, { device }: ShaperSide, leaf: Leaf, id: ClassId): readonly string[] {
  const { whole, each } = ratesOf(rates);
  const parent = whole === undefined ? '1:' : `1:${hex(WHOLE)}`;
  const limit = Math.max(LEAST_BYTES, Math.round((each.ceil * WAIT_MS) / 8));
  return [
    `class add dev ${device} parent ${parent} classid 1:${hex(id)} htb ${rateWords(each.rate, each.ceil)} quantum ${QUANTUM}`,
    `qdisc add dev ${device} parent 1:${hex(id)} ${leaf === 'bfifo' ? `bfifo limit ${limit}` : 'fq_codel'}`,
  ];
}

const rateWords = (rate: number, ceil: number): string => {
  const burst = (of: number) => Math.max(3_000, Math.round((of * BURST_MS) / 8));
  return `rate ${rate}kbit ceil ${ceil}kbit burst ${burst(rate)} cburst ${burst(ceil)}`;
};

export const renderFilter = ({ device, match }: ShaperSide, address: IpAddress, node: string, id: ClassId): string => {
  const family = familyOf(address);
  const [, bucket = ''] = node.split(':');
  const what = family === 4 ? `ip ${match} ${address}/32` : `ip6 ${match} ${address}/128`;
  return `filter add dev ${device} ${table(family)} handle ${node} u32 ht ${handle(family)}:${bucket}: match ${what} flowid 1:${hex(id)}`;
};

export const renderFilterRemoval = ({ device }: ShaperSide, address: IpAddress, node: string): string =>
  `filter del dev ${device} ${table(familyOf(address))} handle ${node} u32`;

export const renderClassRemoval = ({ device }: ShaperSide, id: ClassId): string =>
  `class del dev ${device} classid 1:${hex(id)}`;

const handle = (family: 4 | 6): string => (family === 4 ? '10' : '11');
const table = (family: 4 | 6): string => `parent 1: protocol ${family === 4 ? 'ip' : 'ipv6'} prio ${handle(family)}`;
/** Where the 32 bits that end in an address' last byte stand in the header (RFC 791, RFC 8200). */
const lastByte = (family: 4 | 6, match: 'dst' | 'src'): number =>
  family === 4 ? (match === 'src' ? 12 : 16) : match === 'src' ? 20 : 36;

/** A free place for an address among the filters of a side: `10:5:1`, table, bucket and number. */
export function nodeFor(address: IpAddress, taken: Iterable<string>): string {
  const bucket = hex(lastByteOf(address));
  const used = new Set(taken);
  for (let n = 1; ; n++) {
    const node = `${handle(familyOf(address))}:${bucket}:${hex(n)}`;
    if (!used.has(node)) return node;
  }
}

function lastByteOf(address: IpAddress): number {
  if (familyOf(address) === 4) return Number(address.slice(address.lastIndexOf('.') + 1));
  const tail = address.slice(address.lastIndexOf(':') + 1);
  return tail.includes('.') ? Number(tail.slice(tail.lastIndexOf('.') + 1)) : Number.parseInt(tail || '0', 16) & 0xff;
}

/** The addresses of a peer that stand for one host each. */
export const hostsOf = (allowedIps: readonly Cidr[]): readonly IpAddress[] =>
  allowedIps
    .filter((network) => prefixLength(network) === (familyOf(network) === 4 ? 32 : 128))
    .map((network) => cidrAddress(network))
    .filter((address, i, all) => all.indexOf(address) === i);
