import type { FactStore } from '../../core/ports/store.js';
import { parseIp, parsePort } from '../../model/address.js';
import { VpndError } from '../../model/errors.js';
import { parsePeerId } from '../../model/ids.js';
import { parseWireGuardPublicKey } from '../../model/keys.js';

/**
 * Whether a stored value has the shape that its reader goes by. What a version before has not written yet is `optional`;
 * what one after has added is let be.
 */
export type Shape = (value: unknown) => boolean;

export const text: Shape = (value) => typeof value === 'string';
export const flag: Shape = (value) => typeof value === 'boolean';
/** A count, a duration, a moment. */
export const count: Shape = (value) => typeof value === 'number' && Number.isFinite(value) && value >= 0;
export const port: Shape = (value) => typeof value === 'number' && parsePort(value).ok;
export const address: Shape = (value) => typeof value === 'string' && parseIp(value).ok;
export const peer: Shape = (value) => typeof value === 'string' && parsePeerId(value).ok;
export const session: Shape = (value) => typeof value === 'string' && /^[0-9a-f]{32}$/.test(value);
export const wireGuardKey: Shape = (value) => typeof value === 'string' && parseWireGuardPublicKey(value).ok;

export const oneOf =
  (...words: readonly string[]): Shape =>
  (value) =>
    typeof value === 'string' && words.includes(value);
export const optional =
  (shape: Shape): Shape =>
  (value) =>
    value === undefined || shape(value);
export const list =
  (shape: Shape): Shape =>
  (value) =>
    Array.isArray(value) && value.every(shape);
export const either =
  (...shapes: readonly Shape[]): Shape =>
  (value) =>
    shapes.some((shape) => shape(value));
export const record =
  (fields: Readonly<Record<string, Shape>>): Shape =>
  (value) =>
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    Object.entries(fields).every(([name, shape]) => shape((value as Readonly<Record<string, unknown>>)[name]));

export const path: Shape = oneOf('direct', 'relay', 'relay2');
export const endpoint: Shape = record({ ip: address, port });
/** Where a relay sends to. */
export const relayNext: Shape = either(record({ kind: oneOf('hop'), endpoint }), record({ kind: oneOf('pair'), port }));
export const innerAddresses: Shape = record({
  ipv4: address,
  ipv6: address,
  gatewayIpv4: address,
  gatewayIpv6: address,
});

/** A stored value, or undefined where there is none. Throws VpndError `state-corrupt` for one of another shape. */
export function keptFact<T>(facts: Pick<FactStore, 'get'>, name: string, shape: Shape): T | undefined {
  const value = facts.get<unknown>(name);
  if (value === undefined || shape(value)) return value as T | undefined;
  // Without what comes after: names of sessions are nobody's business.
  const kind = name.replace(/\/.*/, '');
  throw new VpndError('state-corrupt', `what is stored under "${kind}" is not what vpnd writes; it is left as it is`);
}
