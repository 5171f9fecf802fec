import type { Chance } from './random.js';

/** Where sizes, signs and encodings break. */
export const NUMBERS: readonly number[] = [
  0,
  1,
  2,
  3,
  7,
  8,
  15,
  16,
  17,
  31,
  32,
  33,
  63,
  64,
  65,
  127,
  128,
  129,
  255,
  256,
  257,
  511,
  512,
  1023,
  1024,
  4095,
  4096,
  4097,
  32_767,
  32_768,
  65_535,
  65_536,
  262_143,
  262_144,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 1,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
];

export const concat = (...parts: readonly Uint8Array[]): Uint8Array => {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
};

/** One change to a byte string, without a thought for what it means. `other` is another input, to take from. */
export function mutateBytes(
  input: Uint8Array,
  other: Uint8Array,
  words: readonly Uint8Array[],
  chance: Chance,
): Uint8Array {
  const at = chance.below(input.length + 1);
  const length = Math.min(input.length - at, chance.length(64) + 1);
  switch (chance.below(12)) {
    case 0:
    case 1: {
      if (input.length === 0) return chance.bytes(1);
      const out = input.slice();
      const place = chance.below(out.length);
      out[place] = (out[place] as number) ^ (1 << chance.below(8));
      return out;
    }
    case 2: {
      if (input.length === 0) return chance.bytes(1);
      const out = input.slice();
      out[chance.below(out.length)] = chance.of(NUMBERS);
      return out;
    }
    case 3: {
      if (input.length === 0) return chance.bytes(1);
      const out = input.slice();
      const place = chance.below(out.length);
      out[place] = (out[place] as number) + (chance.oneIn(2) ? 1 : 255);
      return out;
    }
    case 4:
      return input.slice(0, at);
    case 5:
      return concat(input.subarray(0, at), input.subarray(at + length));
    case 6:
      return concat(input.subarray(0, at), chance.bytes(chance.length(32) + 1), input.subarray(at));
    case 7: {
      const copies = Array.from({ length: chance.oneIn(60) ? chance.length(2_000) : chance.length(8) + 1 }, () =>
        input.subarray(at, at + length),
      );
      return concat(input.subarray(0, at), ...copies, input.subarray(at));
    }
    case 8: {
      const from = chance.below(other.length + 1);
      return concat(input.subarray(0, at), other.subarray(from, from + chance.length(128) + 1), input.subarray(at));
    }
    case 9: {
      // A head of one and a tail of the other.
      return concat(input.subarray(0, at), other.subarray(chance.below(other.length + 1)));
    }
    case 10: {
      const word = words.length === 0 ? chance.bytes(4) : chance.of(words);
      return concat(input.subarray(0, at), word, input.subarray(chance.oneIn(2) ? at : at + word.length));
    }
    default: {
      if (input.length === 0) return chance.bytes(4);
      const out = input.slice();
      const fill = chance.of([0, 255, 0x80, 0x20]);
      out.fill(fill, at, at + length);
      return out;
    }
  }
}
