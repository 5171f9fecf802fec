import { type IpAddress, type Port, parseIp, parsePort } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import { type PeerId, peerIdOf, type SessionId, sessionIdOf } from '../../model/ids.js';
import { type WireGuardPublicKey, wireGuardPublicKeyOf } from '../../model/keys.js';
import { err, ok, type Result } from '../../model/result.js';
import { type Instant, instantOf, type Millis, ms } from '../../model/time.js';
import { MAX_INSTANT } from './limits.js';

/**
 * Readers of single fields. They throw Malformed with the field's name, which keeps the parsers of whole messages
 * readable; `parsing` turns whatever was thrown into a Result, so nothing outside this folder sees an exception.
 */
class Malformed extends Error {
  override readonly name = 'Malformed';
}

/** A oneof holds a case that this version does not know. */
class Unknown extends Error {
  override readonly name = 'Unknown';
}

export type Parsed<T> = { readonly known: true; readonly value: T } | { readonly known: false; readonly what: string };

/** Runs a parser; errors: bad-message. A case from a newer version is `known: false`. */
export function parsing<T>(what: string, parse: () => T): Result<Parsed<T>, VpndError> {
  try {
    return ok({ known: true, value: parse() });
  } catch (thrown) {
    if (thrown instanceof Unknown) return ok({ known: false, what: thrown.message });
    const reason = thrown instanceof Error ? thrown.message : String(thrown);
    return err(new VpndError('bad-message', `malformed ${what}: ${reason}`, { cause: thrown }));
  }
}

export function malformed(field: string): never {
  throw new Malformed(field);
}

/** For a oneof without a value: newer than this version when unknown fields came along, malformed otherwise. */
export function unknownCase(message: { readonly $unknown?: readonly unknown[] | undefined }, field: string): never {
  if (message.$unknown !== undefined && message.$unknown.length > 0) throw new Unknown(field);
  return malformed(field);
}

export function required<T>(value: T | undefined, field: string): T {
  return value === undefined ? malformed(field) : value;
}

export function must<T>(result: Result<T, unknown>, field: string): T {
  return result.ok ? result.value : malformed(field);
}

/** A copy: what the decoder gives is a view that would keep a whole network buffer alive. */
export function bytes(value: Bytes, field: string, min: number, max = min): Bytes {
  return value.length >= min && value.length <= max ? new Uint8Array(value) : malformed(field);
}

/** Empty or exactly `length` bytes. */
export function optionalBytes(value: Bytes, field: string, length: number): Bytes {
  return value.length === 0 ? new Uint8Array() : bytes(value, field, length);
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const UNPRINTABLE = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]|\p{Surrogate}/gu;

/** Text of one line: it will stand in logs and terminals, so no control characters. */
export function text(value: string, field: string, max: number): string {
  return value.length <= max && !CONTROL.test(value) ? value : malformed(field);
}

/** Own text made fit for `text`: one line, well-formed, cut to `max`. */
export function clean(value: string, max: number): string {
  return value.slice(0, max).replace(UNPRINTABLE, ' ');
}

/** PEM: printable ASCII in lines. */
export function pem(value: string, field: string, max: number): string {
  return value.length <= max && /^[\x20-\x7e\r\n]*$/.test(value) ? value : malformed(field);
}

export function safeInteger(value: bigint, field: string): number {
  return value >= 0n && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : malformed(field);
}

export function instant(value: bigint, field: string): Instant {
  return value >= 0n && value <= BigInt(MAX_INSTANT) ? instantOf(Number(value)) : malformed(field);
}

/** A measured quantity: finite and not negative. */
export function quantity(value: number, field: string): number {
  // -0 passes the comparison and would come out as another value than was sent.
  return Number.isFinite(value) && value >= 0 ? value + 0 : malformed(field);
}

export function upTo(value: number, field: string, max: number): number {
  return value <= max ? value : malformed(field);
}

/** 0 stands for "none" on the wire. */
export function optionalQuantity(value: number, field: string): number | undefined {
  return quantity(value, field) === 0 ? undefined : value;
}
export function optionalMillis(value: number, field: string): Millis | undefined {
  const given = optionalQuantity(value, field);
  return given === undefined ? undefined : ms(given);
}

export function list<W, T>(values: readonly W[], field: string, max: number, parse: (value: W) => T): readonly T[] {
  return values.length <= max ? values.map(parse) : malformed(field);
}

export const ip = (value: string, field: string): IpAddress =>
  value.length <= 45 ? must(parseIp(value), field) : malformed(field);

export function ipOf(family: 4 | 6, value: string, field: string): IpAddress {
  const parsed = ip(value, field);
  return parsed.includes(':') === (family === 6) ? parsed : malformed(field);
}

export const port = (value: number, field: string): Port => must(parsePort(value), field);
export const peer = (value: Bytes, field: string): PeerId => must(peerIdOf(value), field);
export const optionalPeer = (value: Bytes, field: string): PeerId | undefined =>
  value.length === 0 ? undefined : peer(value, field);
export const session = (value: Bytes): SessionId => must(sessionIdOf(value), 'session_id');
export const wireGuardKey = (value: Bytes, field: string): WireGuardPublicKey =>
  must(wireGuardPublicKeyOf(value), field);

/** Empty text stands for "none" on the wire. */
export function optional<T>(value: string, parse: (value: string) => Result<T, unknown>, field: string): T | undefined {
  return value === '' ? undefined : must(parse(value), field);
}
