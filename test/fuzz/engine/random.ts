/** Chance that replays, fast enough for a million inputs: xoshiro128** (Blackman, Vigna), seeded by splitmix32. */
export class Chance {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    let state = seed | 0;
    const next = (): number => {
      state = (state + 0x9e3779b9) | 0;
      let mixed = state ^ (state >>> 16);
      mixed = Math.imul(mixed, 0x21f0aaad);
      mixed ^= mixed >>> 15;
      mixed = Math.imul(mixed, 0x735a2d97);
      return mixed ^ (mixed >>> 15);
    };
    [this.#a, this.#b, this.#c, this.#d] = [next(), next(), next(), next() | 1];
  }

  u32(): number {
    const scrambled = Math.imul(this.#b, 5);
    const result = Math.imul((scrambled << 7) | (scrambled >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** A whole number from 0 to `count` - 1; 0 for a count of 0. */
  below(count: number): number {
    return count <= 1 ? 0 : Math.floor((this.u32() / 2 ** 32) * count);
  }

  /** True once in `count` times. */
  oneIn(count: number): boolean {
    return this.below(count) === 0;
  }

  /** Throws RangeError for an empty list. */
  of<T>(list: ArrayLike<T>): T {
    if (list.length === 0) throw new RangeError('nothing to choose from');
    return list[this.below(list.length)] as T;
  }

  bytes(length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let i = 0; i < length; i++) out[i] = this.u32();
    return out;
  }

  /** Small ones are likelier than large ones. */
  length(most: number): number {
    return this.below(2 ** this.below(Math.ceil(Math.log2(most + 1)) + 1)) % (most + 1);
  }
}

/** FNV-1a over a name and numbers: every input of every target has a seed of its own. */
export function seedOf(name: string, ...numbers: readonly number[]): number {
  let hash = 0x811c9dc5;
  const mix = (byte: number) => {
    hash = Math.imul(hash ^ (byte & 255), 0x01000193);
  };
  for (let i = 0; i < name.length; i++) mix(name.charCodeAt(i));
  for (const number of numbers) {
    for (let shift = 0; shift < 32; shift += 8) mix(number >>> shift);
    mix(number / 2 ** 32);
  }
  return hash;
}
