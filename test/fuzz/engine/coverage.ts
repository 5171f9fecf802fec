import { PLACES } from './shared.js';

/**
 * What the counters of instrument.ts say after one input. As in AFL, how often a place was passed counts in steps (once,
 * twice, three, four, eight, … times), so that a loop gone round once more is news and a thousand rounds more are not.
 */
export class Coverage {
  readonly #counts = new Uint32Array(PLACES);
  readonly #touched = new Uint32Array(PLACES);
  #touches = 0;
  /** The steps reached so far, a bit each. */
  readonly #known = new Uint16Array(PLACES);
  #places = 0;

  /** Makes this the one that counts; before the first instrumented module is loaded. */
  install(): void {
    const [counts, touched] = [this.#counts, this.#touched];
    const seen = (place: number): void => {
      const count = counts[place] as number;
      if (count === 0) touched[this.#touches++] = place;
      counts[place] = count + 1;
    };
    (globalThis as { __fuzzSeen?: (place: number) => void }).__fuzzSeen = seen;
  }

  /** Places passed since the beginning. */
  get places(): number {
    return this.#places;
  }

  /** Forgets what ran between two inputs. */
  begin(): void {
    for (let i = 0; i < this.#touches; i++) this.#counts[this.#touched[i] as number] = 0;
    this.#touches = 0;
  }

  /** Whether this input has passed a place, or passed it so often, as none before. */
  end(): boolean {
    let news = false;
    for (let i = 0; i < this.#touches; i++) {
      const place = this.#touched[i] as number;
      const step = 1 << stepOf(this.#counts[place] as number);
      const known = this.#known[place] as number;
      if ((known & step) !== 0) continue;
      if (known === 0) this.#places++;
      this.#known[place] = known | step;
      news = true;
    }
    return news;
  }

  /** The places and steps of the last input, as numbers. */
  signature(): readonly number[] {
    return Array.from(
      this.#touched.subarray(0, this.#touches),
      (place) => place * 16 + stepOf(this.#counts[place] as number),
    );
  }
}

function stepOf(count: number): number {
  if (count <= 3) return count - 1;
  return Math.min(15, 32 - Math.clz32(count));
}
