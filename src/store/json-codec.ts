import { fromBase64, toBase64 } from '../model/bytes.js';
import { VpndError } from '../model/errors.js';

/**
 * JSON for what a store keeps: plain objects, arrays, strings, finite numbers, booleans, null, and two things JSON lacks,
 * byte strings (`{"$bytes":"<base64>"}`) and undefined (`{"$undefined":true}`). What it cannot give back exactly
 * (NaN, a Date, a Map, a class) throws TypeError when written, not when somebody needs it.
 */
export function encodeJson(value: unknown): string {
  return JSON.stringify(pack(value, '$'));
}

/** Throws VpndError `state-corrupt` for anything that `encodeJson` did not write. */
export function decodeJson(text: string): unknown {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new VpndError('state-corrupt', 'a stored value is not JSON', { cause });
  }
  return unpack(parsed, 0);
}

/** What is stored is five or six deep; a reader that calls itself must not go as deep as somebody has written. */
const DEEPEST = 64;

const BYTES = '$bytes';
const UNDEFINED = '$undefined';

function pack(value: unknown, at: string): unknown {
  switch (typeof value) {
    case 'string':
    case 'boolean':
      return value;
    case 'number':
      // -0 would come back as 0.
      if (!Number.isFinite(value) || Object.is(value, -0)) throw new TypeError(`${at}: ${value} cannot be stored`);
      return value;
    case 'undefined':
      return { [UNDEFINED]: true };
    case 'object':
      return value === null ? null : packObject(value, at);
    default:
      throw new TypeError(`${at}: a ${typeof value} cannot be stored`);
  }
}

function packObject(value: object, at: string): unknown {
  if (value instanceof Uint8Array) return { [BYTES]: toBase64(value) };
  if (Array.isArray(value)) return Array.from(value, (item, i) => pack(item, `${at}[${i}]`));
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null)
    throw new TypeError(`${at}: a ${prototype.constructor?.name ?? 'class'} cannot be stored`);
  const entries = Object.entries(value).map(([key, item]) => {
    if (key.startsWith('$') || key === '__proto__') throw new TypeError(`${at}: the key "${key}" cannot be stored`);
    return [key, pack(item, `${at}.${key}`)];
  });
  return Object.fromEntries(entries);
}

function unpack(value: unknown, depth: number): unknown {
  // 1e999 and -0 are JSON, and nothing that was written.
  if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0))) throw corrupt(String(value));
  if (typeof value !== 'object' || value === null) return value;
  if (depth === DEEPEST) throw new VpndError('state-corrupt', 'a stored value is deeper than any that vpnd writes');
  if (Array.isArray(value)) return value.map((item) => unpack(item, depth + 1));
  const entries = Object.entries(value);
  const [first] = entries;
  if (first?.[0].startsWith('$')) {
    if (entries.length !== 1) throw corrupt(first[0]);
    return unpackTagged(first[0], first[1]);
  }
  return Object.fromEntries(
    entries.map(([key, item]) => {
      if (key.startsWith('$') || key === '__proto__') throw corrupt(key);
      return [key, unpack(item, depth + 1)];
    }),
  );
}

function unpackTagged(tag: string, content: unknown): unknown {
  if (tag === UNDEFINED && content === true) return undefined;
  const bytes = tag === BYTES && typeof content === 'string' ? fromBase64(content) : undefined;
  if (bytes === undefined) throw corrupt(tag);
  return bytes;
}

const corrupt = (key: string): VpndError =>
  new VpndError('state-corrupt', `a stored value has "${key}" where no vpnd writes it`);
