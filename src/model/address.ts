import ipaddr from 'ipaddr.js';
import { err, ok, type Result } from './result.js';

declare const ip: unique symbol;
declare const cidr: unique symbol;
declare const port: unique symbol;

/** An IPv4 or IPv6 address in canonical text (RFC 5952 for IPv6). */
export type IpAddress = string & { readonly [ip]: true };
/** An address and a prefix length, `10.200.0.2/32`. Host bits may be set: it is also an interface's address. */
export type Cidr = string & { readonly [cidr]: true };
/** 1 to 65535. */
export type Port = number & { readonly [port]: true };
export type Family = 4 | 6;

export interface Endpoint {
  readonly ip: IpAddress;
  readonly port: Port;
}

/** What is dialled: a name or an address, and a TCP port. */
export interface HostPort {
  readonly host: string;
  readonly port: Port;
}

export function parseIp(text: string): Result<IpAddress, 'bad-address'> {
  // A zone ("fe80::1%eth0") has no meaning beyond the machine it was written on.
  if (text.includes('%')) return err('bad-address');
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ok(ipaddr.IPv4.parse(text).toString() as IpAddress);
  if (!ipaddr.IPv6.isValid(text)) return err('bad-address');
  const parsed = ipaddr.IPv6.parse(text);
  // ::ffff:1.2.3.4 is how a dual-stack socket reports IPv4; it must not count as another address than 1.2.3.4.
  if (parsed.isIPv4MappedAddress()) return ok(parsed.toIPv4Address().toString() as IpAddress);
  return ok(parsed.toRFC5952String() as IpAddress);
}

export function parseCidr(text: string): Result<Cidr, 'bad-cidr'> {
  const [address, length, ...rest] = text.split('/');
  if (address === undefined || length === undefined || rest.length > 0 || !/^\d{1,3}$/.test(length))
    return err('bad-cidr');
  const parsed = parseIp(address);
  if (!parsed.ok) return err('bad-cidr');
  const bits = Number(length);
  return bits <= (familyOf(parsed.value) === 4 ? 32 : 128) ? ok(`${parsed.value}/${bits}` as Cidr) : err('bad-cidr');
}

export function parsePort(value: number): Result<Port, 'bad-port'> {
  return Number.isInteger(value) && value > 0 && value < 65536 ? ok(value as Port) : err('bad-port');
}

/** `203.0.113.7:443`, `[2001:db8::1]:443`, `vpn.example.org:443`; without a port only when a default is given. */
export function parseHostPort(text: string, defaultPort?: Port): Result<HostPort, 'bad-host-port'> {
  const bracketed = /^\[([^\]]+)\](?::(\d+))?$/.exec(text);
  const bare = parseIp(text);
  const plain = /^([^:[\]\s/]+)(?::(\d+))?$/.exec(text);
  let host: string | undefined;
  let digits: string | undefined;
  if (bracketed) {
    const inner = parseIp(bracketed[1] as string);
    if (!inner.ok || familyOf(inner.value) !== 6) return err('bad-host-port');
    [host, digits] = [inner.value, bracketed[2]];
  } else if (bare.ok) {
    host = bare.value;
  } else if (plain) {
    [host, digits] = [(plain[1] as string).toLowerCase(), plain[2]];
    if (!/^[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?$/.test(host) || /^[\d.]+$/.test(host) !== parseIp(host).ok)
      return err('bad-host-port');
  }
  if (host === undefined) return err('bad-host-port');
  if (digits === undefined) return defaultPort === undefined ? err('bad-host-port') : ok({ host, port: defaultPort });
  const parsed = parsePort(Number(digits));
  return parsed.ok ? ok({ host, port: parsed.value }) : err('bad-host-port');
}

export function parseEndpoint(text: string): Result<Endpoint, 'bad-endpoint'> {
  const parsed = parseHostPort(text);
  if (!parsed.ok) return err('bad-endpoint');
  const address = parseIp(parsed.value.host);
  return address.ok ? ok({ ip: address.value, port: parsed.value.port }) : err('bad-endpoint');
}

export const formatHostPort = (at: HostPort | Endpoint): string => {
  const host = 'host' in at ? at.host : at.ip;
  return host.includes(':') ? `[${host}]:${at.port}` : `${host}:${at.port}`;
};

export const familyOf = (address: IpAddress | Cidr): Family => (address.includes(':') ? 6 : 4);
export const sameEndpoint = (a: Endpoint | undefined, b: Endpoint | undefined): boolean =>
  a === b || (a !== undefined && b !== undefined && a.ip === b.ip && a.port === b.port);

/** The single-address network of an address: /32 or /128. */
export const hostCidr = (address: IpAddress): Cidr => `${address}/${familyOf(address) === 4 ? 32 : 128}` as Cidr;
export const cidrAddress = (network: Cidr): IpAddress => network.slice(0, network.indexOf('/')) as IpAddress;
export const prefixLength = (network: Cidr): number => Number(network.slice(network.indexOf('/') + 1));

export function contains(network: Cidr, address: IpAddress): boolean {
  if (familyOf(network) !== familyOf(address)) return false;
  return ipaddr.parse(address).match(ipaddr.parse(cidrAddress(network)), prefixLength(network));
}

const toBigInt = (address: IpAddress): bigint =>
  ipaddr
    .parse(address)
    .toByteArray()
    .reduce((n, byte) => (n << 8n) | BigInt(byte), 0n);

/** The address `offset` places after a network's first one. Throws RangeError when it lies outside the network. */
export function nthAddress(network: Cidr, offset: number): IpAddress {
  const bits = familyOf(network) === 4 ? 32 : 128;
  const hostBits = BigInt(bits - prefixLength(network));
  if (offset < 0 || BigInt(offset) >= 1n << hostBits) throw new RangeError(`${network} has no address ${offset}`);
  const value = ((toBigInt(cidrAddress(network)) >> hostBits) << hostBits) + BigInt(offset);
  const bytes = Array.from({ length: bits / 8 }, (_, i) => Number((value >> BigInt(bits - 8 * (i + 1))) & 255n));
  const parsed = ipaddr.fromByteArray(bytes);
  return (parsed.kind() === 'ipv6' ? (parsed as ipaddr.IPv6).toRFC5952String() : parsed.toString()) as IpAddress;
}

/** The `index`-th subnetwork of length `length` inside a network. Throws RangeError when there is none. */
export function subnet(network: Cidr, length: number, index: number): Cidr {
  const bits = familyOf(network) === 4 ? 32 : 128;
  const outer = prefixLength(network);
  if (length < outer || length > bits || BigInt(index) >= 1n << BigInt(length - outer)) {
    throw new RangeError(`${network} has no /${length} number ${index}`);
  }
  const value =
    ((toBigInt(cidrAddress(network)) >> BigInt(bits - outer)) << BigInt(bits - outer)) +
    (BigInt(index) << BigInt(bits - length));
  const bytes = Array.from({ length: bits / 8 }, (_, i) => Number((value >> BigInt(bits - 8 * (i + 1))) & 255n));
  const parsed = ipaddr.fromByteArray(bytes);
  const text = parsed.kind() === 'ipv6' ? (parsed as ipaddr.IPv6).toRFC5952String() : parsed.toString();
  return `${text}/${length}` as Cidr;
}

/** How many addresses a network holds, at most 2^31 (nobody counts further). */
export function networkSize(network: Cidr): number {
  return 2 ** Math.min(31, (familyOf(network) === 4 ? 32 : 128) - prefixLength(network));
}
