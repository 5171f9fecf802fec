import { isTimeZone, type OpeningHours, parseHours } from '../core/hours.js';
import {
  type Cidr,
  cidrAddress,
  contains,
  type Endpoint,
  familyOf,
  type HostPort,
  hostCidr,
  type IpAddress,
  nthAddress,
  type Port,
  parseCidr,
  parseEndpoint,
  parseHostPort,
  parseIp,
  parsePort,
  prefixLength,
} from '../model/address.js';
import { type InterfaceName, parseInterfaceName } from '../model/dataplane.js';
import { err, ok, type Result } from '../model/result.js';
import { type Country, parseCountry, parseRegion, type Region } from '../model/role.js';
import { type Millis, ms } from '../model/time.js';

/**
 * A text as a value, or what is wrong with it: the end of a sentence that begins with the text itself
 * ("'10.0.0.0/33' is not a CIDR like 10.200.0.0/13").
 */
export type Parse<T> = (text: string) => Result<T, string>;

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** `500ms`, `30s`, `10m`, `24h`, `30d`; a unit is needed. */
export const duration =
  (least: Millis, most: Millis): Parse<Millis> =>
  (text) => {
    const match = /^(\d{1,9}(?:\.\d{1,3})?)(ms|s|m|h|d)$/.exec(text);
    if (!match) return err('is not a duration like 30s, 10m, 24h or 30d');
    const value = Math.round(Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? Number.NaN));
    if (value < least || value > most) {
      return err(`must lie between ${formatDuration(least)} and ${formatDuration(most)}`);
    }
    return ok(ms(value));
  };

/** The shortest text that `duration` reads back, `90000` -> `90s`. */
export function formatDuration(value: Millis): string {
  for (const unit of ['d', 'h', 'm', 's']) {
    const size = UNIT_MS[unit] ?? 1;
    if (value > 0 && value % size === 0) return `${value / size}${unit}`;
  }
  // Nine digits are the most that are read.
  return value < 1e9 ? `${value}ms` : `${value / 1_000}s`;
}

export const integer =
  (least: number, most: number): Parse<number> =>
  (text) => {
    const value = Number(text);
    return /^\d{1,10}$/.test(text) && value >= least && value <= most
      ? ok(value)
      : err(`is not a whole number from ${least} to ${most}`);
  };

/** Zero or a positive number, decimals allowed. */
export const amount: Parse<number> = (text) =>
  /^\d{1,9}(\.\d{1,6})?$/.test(text) ? ok(Number(text)) : err('is not a number like 100 or 12.5');

/** When an exit is lent. */
export const openingHours: Parse<OpeningHours> = (text) => parseHours(text);

export const timeZone: Parse<string> = (text) =>
  isTimeZone(text) ? ok(text) : err('is not a time zone like Europe/Berlin or UTC');

/** A network of either family, or an address; not everything at once. */
export const forbidden: Parse<Cidr> = (text) => {
  const host = parseIp(text);
  if (host.ok) return ok(hostCidr(host.value));
  const parsed = parseCidr(text);
  if (!parsed.ok) return err('is not a network like 203.0.113.0/24 or 2001:db8:5::/48');
  return network(familyOf(parsed.value), 1, 128, '203.0.113.0/24')(text);
};

export const port: Parse<Port> = (text) => {
  const parsed = parsePort(/^\d{1,5}$/.test(text) ? Number(text) : Number.NaN);
  return parsed.ok ? parsed : err('is not a port from 1 to 65535');
};

export const portRange: Parse<{ readonly from: Port; readonly to: Port }> = (text) => {
  const match = /^(\d{1,5})-(\d{1,5})$/.exec(text);
  const from = parsePort(Number(match?.[1]));
  const to = parsePort(Number(match?.[2]));
  if (!from.ok || !to.ok) return err('is not a range of ports like 40000-49999');
  if (from.value < 1024) return err('reaches below 1024, where other services live');
  if (from.value >= to.value) return err('does not go upwards: write the lower port first, 40000-49999');
  return ok({ from: from.value, to: to.value });
};

export const ip: Parse<IpAddress> = (text) => {
  const parsed = parseIp(text);
  return parsed.ok ? parsed : err('is not an IP address like 203.0.113.7 or 2001:db8::1');
};

/** A network of one family, host bits zero, with a prefix length in a range. */
export const network =
  (family: 4 | 6, shortest: number, longest: number, example: string): Parse<Cidr> =>
  (text) => {
    const parsed = parseCidr(text);
    if (!parsed.ok) return err(`is not a CIDR like ${example}`);
    if (familyOf(parsed.value) !== family) return err(`is not an IPv${family} network like ${example}`);
    const length = prefixLength(parsed.value);
    if (length < shortest || length > longest) return err(`must be a /${shortest} to /${longest}`);
    const first = nthAddress(parsed.value, 0);
    if (first !== cidrAddress(parsed.value)) return err(`has host bits set; the network is ${first}/${length}`);
    return parsed;
  };

/** A network of either family, host bits zero; a bare address is a network of one. All addresses at once are none. */
export const anyNetwork: Parse<Cidr> = (text) => {
  const host = parseIp(text);
  if (host.ok) return ok(hostCidr(host.value));
  const parsed = parseCidr(text);
  if (!parsed.ok) return err('is not a network like 203.0.113.0/24 or 2001:db8:5::/48');
  if (prefixLength(parsed.value) === 0) return err('is the whole internet: then vpnd down is what you want');
  return network(familyOf(parsed.value), 1, 128, '203.0.113.0/24')(text);
};

/** Where to listen; a port is needed. */
export const listenAddress: Parse<HostPort> = (text) => {
  const parsed = parseHostPort(text);
  return parsed.ok ? parsed : err('is not an address and port like 0.0.0.0:443 or [::]:443');
};

/** A TCP service of somebody else's. */
export const service: Parse<HostPort> = (text) => {
  const parsed = parseHostPort(text);
  if (!parsed.ok) return err('is not a host and port like www.example.net:443 or [2001:db8::1]:443');
  return isUnspecified(parsed.value.host) ? err('is no address that others can reach') : parsed;
};

/** Host without a port takes port 0 here; whoever knows the default fills it in. */
export interface AdvertisedHost {
  readonly host: string;
  readonly port: Port | undefined;
}

export const advertised: Parse<AdvertisedHost> = (text) => {
  const full = parseHostPort(text);
  const parsed = full.ok ? full : parseHostPort(text, 1 as Port);
  if (!parsed.ok) return err('is not a host like vpn.example.org, 203.0.113.7:443 or [2001:db8::1]:443');
  const address = parseIp(parsed.value.host);
  if (address.ok && isUnspecified(address.value)) return err('is no address that others can reach');
  return ok({ host: parsed.value.host, port: full.ok ? parsed.value.port : undefined });
};

export const isUnspecified = (host: string): boolean => host === '0.0.0.0' || host === '::';

export const endpoint: Parse<Endpoint> = (text) => {
  const parsed = parseEndpoint(text);
  if (!parsed.ok) return err('is not an IP address and port like 203.0.113.7:51820');
  return isUnspecified(parsed.value.ip) ? err('is no address that others can reach') : parsed;
};

export const region: Parse<Region> = (text) => {
  const parsed = parseRegion(text);
  return parsed.ok ? parsed : err('is not a region like eu or us-east-1 (a-z, 0-9 and hyphens, at most 32)');
};

export const country: Parse<Country> = (text) => {
  const parsed = parseCountry(text);
  return parsed.ok ? parsed : err('is not a country code of two letters like DE');
};

export const interfaceName: Parse<InterfaceName> = (text) => {
  const parsed = parseInterfaceName(text);
  return parsed === undefined ? err('is not an interface name like wg-exit (at most 15 characters)') : ok(parsed);
};

export const absolutePath: Parse<string> = (text) =>
  /^\/[^\0]*$/.test(text) ? ok(text.replace(/(?<=.)\/+$/, '')) : err('is not an absolute path like /var/lib/vpnd');

/** A login name as useradd(8) takes it, or a number. */
export const userName: Parse<string> = (text) =>
  /^(?:[a-z_][a-z0-9_-]{0,31}|\d{1,10})$/.test(text) && !(Number(text) > MOST_UID)
    ? ok(text)
    : err('is not a user name like vpnd, nor a user id');
/** 2^32-1 means nobody in particular, and -1 to setuid(2). */
const MOST_UID = 4_294_967_294;

/** Any path, relative ones to the working directory. */
export const filePath: Parse<string> = (text) =>
  text !== '' && !text.includes('\0') ? ok(text) : err('is not a path');

export const oneOf =
  <T extends string>(...words: readonly T[]): Parse<T> =>
  (text) => {
    const word = words.find((candidate) => candidate === text);
    return word === undefined ? err(`is not one of ${words.join(', ')}`) : ok(word);
  };

const SWITCH: Readonly<Record<string, boolean>> = {
  on: true,
  true: true,
  yes: true,
  off: false,
  false: false,
  no: false,
};
export const onOff: Parse<boolean> = (text) => {
  const value = Object.hasOwn(SWITCH, text) ? SWITCH[text] : undefined;
  return value === undefined ? err('is not on or off') : ok(value);
};

/** `off` is undefined. */
export const unlessOff =
  <T>(parse: Parse<T>): Parse<T | undefined> =>
  (text) => {
    if (text === 'off') return ok(undefined);
    const parsed = parse(text);
    return parsed.ok ? parsed : err(`${parsed.error}, nor off`);
  };

/** What no exit carries anything to, and no resolver is at. Loopback is this machine's own. */
const NO_RESOLVER: readonly string[] = [
  ...['0.0.0.0/8', '10.0.0.0/8', '100.64.0.0/10', '169.254.0.0/16', '172.16.0.0/12', '192.168.0.0/16', '224.0.0.0/3'],
  ...['::/128', '::ffff:0:0/96', 'fc00::/7', 'fe80::/10', 'ff00::/8'],
];
/** The C library asks no more than three (resolv.conf(5)). */
const MOST_RESOLVERS = 3;

/** Resolvers that are reached through an exit, or on this machine. */
export const resolvers: Parse<readonly IpAddress[]> = (text) => {
  const parsed = listOf(ip)(text);
  if (!parsed.ok) return parsed;
  if (parsed.value.length > MOST_RESOLVERS) return err(`names more than ${MOST_RESOLVERS}`);
  const closed = parsed.value.find((one) => NO_RESOLVER.some((range) => contains(range as Cidr, one)));
  if (closed === undefined) return parsed;
  return err(`names ${closed}, where no exit reaches anybody: give a public resolver, or off to keep this network's`);
};

/** Comma-separated, at least one. */
export const listOf =
  <T>(parse: Parse<T>): Parse<readonly T[]> =>
  (text) => {
    const values: T[] = [];
    const parts = text.split(',').map((part) => part.trim());
    for (const part of parts) {
      const parsed = parse(part);
      if (!parsed.ok) return err(parts.length > 1 ? `contains '${part}', which ${parsed.error}` : parsed.error);
      values.push(parsed.value);
    }
    return ok(values);
  };

/**
 * "vpnd1" and base32, as people paste it: white space anywhere, upper case. Whether it is whole, and opens anything, is
 * for those who decode it to say.
 */
export const joinToken: Parse<string> = (text) => {
  const compact = text.replace(/\s+/g, '').toLowerCase();
  return /^vpnd1[a-z2-7]{20,8192}$/.test(compact)
    ? ok(compact)
    : err('is not a join token (vpnd1… as `vpnd token create` prints it)');
};
