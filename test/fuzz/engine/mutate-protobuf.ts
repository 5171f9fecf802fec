import { concat, mutateBytes, NUMBERS } from './mutate-bytes.js';
import { mutateText } from './mutate-text.js';
import type { Chance } from './random.js';

/**
 * Protobuf's wire format taken apart without a schema (https://protobuf.dev/programming-guides/encoding), so that one
 * field can be changed and the message still parses as far as there: random bytes hardly ever get past the first length.
 */
export interface Field {
  number: number;
  wire: number;
  /** Of a length-delimited field the content alone; of others the value's bytes. */
  value: Uint8Array;
  /** The content as a message, where it parses as one. */
  inner: Field[] | undefined;
  /** Written in the place of the real length. */
  lie: number | undefined;
}

const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;
const DEEPEST = 12;
const decoder = new TextDecoder('utf-8', { fatal: true });
const encoder = new TextEncoder();

/** One change to a message; to the bytes where they are none. */
export function mutateProtobuf(
  input: Uint8Array,
  other: Uint8Array,
  words: readonly Uint8Array[],
  chance: Chance,
): Uint8Array {
  const fields = read(input, 0);
  if (fields === undefined || chance.oneIn(10)) return mutateBytes(input, other, words, chance);
  change(fields, read(other, 0) ?? [], words, chance);
  return write(fields);
}

/** Undefined for what is no message from its first to its last byte. */
export function read(bytes: Uint8Array, depth = 0): Field[] | undefined {
  const fields: Field[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = varint(bytes, at);
    if (tag === undefined || tag.value >= 2 ** 32 || tag.value < 8) return undefined;
    at = tag.next;
    const wire = tag.value % 8;
    const number = Math.floor(tag.value / 8);
    let end: number;
    if (wire === VARINT) end = varint(bytes, at)?.next ?? -1;
    else if (wire === FIXED64) end = at + 8;
    else if (wire === FIXED32) end = at + 4;
    else if (wire === DELIMITED) {
      const length = varint(bytes, at);
      if (length === undefined) return undefined;
      at = length.next;
      end = at + length.value;
    } else return undefined;
    if (end < at || end > bytes.length) return undefined;
    const value = bytes.subarray(at, end);
    const inner =
      wire === DELIMITED && value.length > 1 && depth < DEEPEST && !isText(value) ? read(value, depth + 1) : undefined;
    fields.push({ number, wire, value, inner, lie: undefined });
    at = end;
  }
  return fields;
}

const isText = (value: Uint8Array): boolean => value.every((byte) => byte >= 0x20 && byte < 0x7f);

function varint(bytes: Uint8Array, from: number): { value: number; next: number } | undefined {
  let value = 0;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[from + i];
    if (byte === undefined) return undefined;
    value += (byte & 127) * 2 ** (7 * i);
    if (byte < 128) return { value, next: from + i + 1 };
  }
  return undefined;
}

/** Grows as needed, and is used again: what is written is copied out of it. */
let room = new Uint8Array(64 * 1024);
let used = 0;

export function write(fields: readonly Field[]): Uint8Array {
  used = 0;
  writeAll(fields);
  return room.slice(0, used);
}

function writeAll(fields: readonly Field[]): void {
  for (const { number, wire, value, inner, lie } of fields) {
    writeVarint(number * 8 + wire);
    if (wire !== DELIMITED) {
      writeBytes(value);
      continue;
    }
    if (inner === undefined) {
      writeVarint(lie ?? value.length);
      writeBytes(value);
      continue;
    }
    // The content first, to know its length; then it makes way for that.
    const from = used;
    writeAll(inner);
    const length = used - from;
    writeVarint(lie ?? length);
    const prefix = used - from - length;
    const head = room.slice(from + length, used);
    room.copyWithin(from + prefix, from, from + length);
    room.set(head, from);
  }
}

function writeBytes(bytes: Uint8Array): void {
  while (used + bytes.length > room.length) {
    const larger = new Uint8Array(room.length * 2);
    larger.set(room);
    room = larger;
  }
  room.set(bytes, used);
  used += bytes.length;
}

const digits = new Uint8Array(10);
function writeVarint(value: number): void {
  let rest = Math.max(0, value);
  let length = 0;
  do {
    const low = rest % 128;
    rest = Math.floor(rest / 128);
    digits[length++] = rest > 0 ? low | 128 : low;
  } while (rest > 0 && length < 10);
  writeBytes(digits.subarray(0, length));
}

function encodeVarint(value: number): Uint8Array {
  used = 0;
  writeVarint(value);
  return room.slice(0, used);
}

/** Deeper ones are as likely as the field that holds them. */
function change(fields: Field[], others: readonly Field[], words: readonly Uint8Array[], chance: Chance): void {
  const at = chance.below(fields.length);
  const field = fields[at];
  if (field === undefined) {
    fields.push(strange(others, words, chance));
    return;
  }
  if (field.inner !== undefined && !chance.oneIn(4)) {
    const peer = others.find((one) => one.number === field.number)?.inner ?? others;
    change(field.inner, peer, words, chance);
    return;
  }
  switch (chance.below(14)) {
    case 0:
      fields.splice(at, 1);
      return;
    case 1: {
      // Often enough to pass what lists may hold.
      const times = chance.oneIn(60) ? chance.below(1_500) : chance.below(4) + 1;
      fields.splice(at, 0, ...Array.from({ length: times }, () => ({ ...field })));
      return;
    }
    case 2: {
      const place = chance.below(fields.length);
      [fields[at], fields[place]] = [fields[place] as Field, field];
      return;
    }
    case 3:
      field.number = chance.oneIn(3) ? chance.of(NUMBERS) % 2 ** 29 || 1 : chance.below(24) + 1;
      return;
    case 4:
      field.wire = chance.of([VARINT, FIXED64, DELIMITED, 3, 4, FIXED32, 6, 7]);
      return;
    case 5:
      field.lie = chance.oneIn(2) ? field.value.length + chance.below(9) - 4 : chance.of(NUMBERS);
      return;
    case 6:
    case 7:
      if (others.length > 0) fields.splice(at, chance.below(2), { ...chance.of(others) });
      return;
    case 8:
      fields.splice(at, 0, strange(others, words, chance));
      return;
    default:
      changeValue(field, words, chance);
  }
}

function strange(others: readonly Field[], words: readonly Uint8Array[], chance: Chance): Field {
  if (others.length > 0 && chance.oneIn(2)) return { ...chance.of(others) };
  const number = chance.oneIn(4) ? 1_000 + chance.below(1_000) : chance.below(24) + 1;
  const text = words.length === 0 ? chance.bytes(chance.length(40)) : chance.of(words);
  const wire = chance.of([VARINT, FIXED64, DELIMITED, DELIMITED, FIXED32]);
  const field: Field = { number, wire, value: text, inner: undefined, lie: undefined };
  if (wire !== DELIMITED) changeValue(field, words, chance);
  return field;
}

function changeValue(field: Field, words: readonly Uint8Array[], chance: Chance): void {
  field.inner = undefined;
  switch (field.wire) {
    case VARINT:
      field.value = chance.oneIn(6)
        ? concat(new Uint8Array(chance.below(10)).fill(0x80 | chance.below(128)), Uint8Array.of(chance.below(128)))
        : encodeVarint(chance.oneIn(2) ? chance.of(NUMBERS) : chance.u32());
      return;
    case FIXED64:
      field.value = chance.oneIn(2) ? double(chance) : chance.bytes(8);
      return;
    case FIXED32:
      field.value = chance.bytes(4);
      return;
    default:
      field.value = changeContent(field.value, words, chance);
  }
}

function double(chance: Chance): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, chance.of([0, -0, -1, 1.5, 1e-320, 1e308, Infinity, -Infinity, Number.NaN]), true);
  return new Uint8Array(view.buffer);
}

function changeContent(value: Uint8Array, words: readonly Uint8Array[], chance: Chance): Uint8Array {
  switch (chance.below(6)) {
    case 0:
      return words.length === 0 ? new Uint8Array(0) : chance.of(words);
    case 1:
      // Keys and signatures of another length, or none.
      return chance.bytes(chance.of([0, 1, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1_088, 1_184]));
    case 2:
    case 3:
      if (isText(value)) return encoder.encode(mutateText(decoder.decode(value), '', [], chance));
      return mutateBytes(value, value, words, chance);
    default:
      return mutateBytes(value, value, words, chance);
  }
}
