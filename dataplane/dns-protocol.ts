import type { DnsReport, DnsWish } from '../src/core/ports/dns.js';
import { type IpAddress, parseIp } from '../src/model/address.js';
import { type InterfaceName, parseInterfaceName } from '../src/model/dataplane.js';
import type { ErrorCode } from '../src/model/errors.js';

/**
 * What a daemon may ask of the process that sets the resolver for it: a line of JSON each way. The helper is root and the
 * daemon is not, so this is all there is, and every word of it is checked.
 */
export type DnsRequest =
  | { readonly id: number; readonly kind: 'put'; readonly wish: DnsWish }
  | { readonly id: number; readonly kind: 'restore'; readonly devices: readonly InterfaceName[] }
  | { readonly id: number; readonly kind: 'way' };

export type DnsAnswer =
  | { readonly id: number; readonly report: DnsReport }
  | { readonly id: number; readonly restored: readonly string[] }
  | { readonly id: number; readonly way: string }
  | { readonly id: number; readonly failed: { readonly code: ErrorCode; readonly message: string } };

/** A longer line is no request. */
export const LONGEST_LINE = 2_000;
const MOST_SERVERS = 3;
const MOST_DEVICES = 8;

/** Undefined for whatever is not exactly a request. */
export function parseDnsRequest(line: string): DnsRequest | undefined {
  const given = parseObject(line);
  if (given === undefined || !Number.isSafeInteger(given.id)) return undefined;
  const id = given.id as number;
  if (given.kind === 'way') return { id, kind: 'way' };
  if (given.kind === 'restore') {
    const devices = listOf(given.devices, MOST_DEVICES, deviceOf);
    return devices === undefined ? undefined : { id, kind: 'restore', devices };
  }
  if (given.kind !== 'put' || typeof given.wish !== 'object' || given.wish === null) return undefined;
  const wish = given.wish as Readonly<Record<string, unknown>>;
  const device = deviceOf(wish.device);
  const servers = listOf(wish.servers, MOST_SERVERS, addressOf);
  const others = listOf(wish.others, MOST_DEVICES, deviceOf);
  if (device === undefined || servers === undefined || servers.length === 0 || others === undefined) return undefined;
  return { id, kind: 'put', wish: { device, servers, others } };
}

/** Undefined for what is no object of JSON. */
export function parseObject(line: string): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === 'object' && value !== null ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

function listOf<T>(given: unknown, most: number, parse: (one: unknown) => T | undefined): readonly T[] | undefined {
  if (!Array.isArray(given) || given.length > most) return undefined;
  const parsed = given.flatMap((one) => parse(one) ?? []);
  return parsed.length === given.length ? parsed : undefined;
}

function addressOf(given: unknown): IpAddress | undefined {
  const parsed = typeof given === 'string' ? parseIp(given) : undefined;
  return parsed?.ok ? parsed.value : undefined;
}

const deviceOf = (given: unknown): InterfaceName | undefined =>
  typeof given === 'string' ? parseInterfaceName(given) : undefined;
