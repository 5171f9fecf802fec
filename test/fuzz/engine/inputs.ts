import { concat, mutateBytes } from './mutate-bytes.js';
import { mutateJson } from './mutate-json.js';
import { mutateProtobuf } from './mutate-protobuf.js';
import { mutateText } from './mutate-text.js';
import { Chance, seedOf } from './random.js';
import { bytesOf, type OpenTarget, type Target, textOf } from './target.js';

const MOST_BYTES = 64 * 1024;
/** What is kept in memory to begin mutations with; a run that finds more forgets some of it. */
const MOST_KEPT = 1_500;

/** The inputs of a target. Which one a seed stands for depends on what the corpus holds then, and on nothing else. */
export class Inputs {
  readonly #kept: Uint8Array[];
  readonly #words: readonly Uint8Array[];
  readonly #most: number;
  #oldest = 0;

  constructor(
    private readonly target: Target,
    private readonly open: OpenTarget,
    corpus: readonly Uint8Array[],
  ) {
    this.#kept = [...corpus];
    this.#words = (target.words ?? []).map(bytesOf);
    this.#most = target.mostBytes ?? MOST_BYTES;
  }

  get kept(): number {
    return this.#kept.length;
  }

  /** One that did something new: others are made from it. */
  keep(input: Uint8Array): void {
    if (this.#kept.length < MOST_KEPT) this.#kept.push(input);
    else this.#kept[this.#oldest++ % MOST_KEPT] = input;
  }

  of(seed: number): Uint8Array {
    const chance = new Chance(seedOf(this.target.name, seed));
    // A valid one as it is, now and then: what is refused although it is right would not be noticed otherwise.
    let input = this.#base(chance);
    if (chance.oneIn(16)) return input;
    for (let changes = chance.length(7) + 1; changes > 0; changes--) input = this.#changed(input, chance);
    return input.length > this.#most ? input.slice(0, this.#most) : input;
  }

  #base(chance: Chance): Uint8Array {
    if (this.#kept.length === 0 || chance.oneIn(3)) return this.open.make(chance);
    return chance.of(this.#kept);
  }

  #changed(input: Uint8Array, chance: Chance): Uint8Array {
    const other = this.#kept.length === 0 ? input : chance.of(this.#kept);
    const { shape, words = [] } = this.target;
    if (input.length > this.#most) return input.slice(0, this.#most);
    if (chance.oneIn(200)) return concat(input, other);
    switch (shape) {
      case 'bytes':
        return mutateBytes(input, other, this.#words, chance);
      case 'protobuf':
        return mutateProtobuf(input, other, this.#words, chance);
      case 'text':
        // Bytes that are no text at all come from files, too.
        if (chance.oneIn(40)) return mutateBytes(input, other, this.#words, chance);
        return bytesOf(mutateText(textOf(input), textOf(other), words, chance));
      case 'json':
        if (chance.oneIn(40)) return mutateBytes(input, other, this.#words, chance);
        return bytesOf(mutateJson(textOf(input), textOf(other), words, chance));
    }
  }
}
