import { monotonicMs } from '../overlay/index.js';

/** What a report needs of one scenario: plain data, times in milliseconds from the beginning of its story. */
export interface Told {
  readonly id: string;
  readonly title: string;
  readonly holds: string;
  /** Empty when everything held. */
  readonly complaints: readonly string[];
  /** Building, story, checks and end. */
  readonly seconds: number;
  readonly marks: readonly Mark[];
  readonly traffic: readonly Traffic[];
  readonly events: readonly Happening[];
  readonly figures: readonly Figure[];
}

export interface Mark {
  readonly atMs: number;
  readonly kind: 'fault' | 'mend' | 'seen';
  readonly text: string;
}

export interface Traffic {
  readonly client: string;
  readonly everyMs: number;
  readonly sentMs: readonly number[];
  readonly answeredMs: readonly (number | null)[];
}

/** Of `vpnd events`. */
export interface Happening {
  readonly node: string;
  readonly atMs: number;
  readonly code: string;
  readonly text: string;
}

export interface Figure {
  readonly what: string;
  readonly value: string;
}

/** Writes down what a story does, when. */
export class Chronicle {
  readonly #began = monotonicMs();
  readonly #wallBegan = Date.now();
  readonly marks: Mark[] = [];
  readonly complaints: string[] = [];
  readonly figures: Figure[] = [];

  /** Milliseconds since the beginning; of the clock that all processes share, or of a given moment of it. */
  since(monotonic = monotonicMs()): number {
    return monotonic - this.#began;
  }

  /** The same for a moment of the wall clock. */
  sinceWall(ms: number): number {
    return ms - this.#wallBegan;
  }

  monotonic(atMs: number): number {
    return atMs + this.#began;
  }

  mark(kind: Mark['kind'], text: string, atMs = this.since()): number {
    this.marks.push({ atMs, kind, text });
    return atMs;
  }

  complain(text: string): void {
    this.complaints.push(text);
  }

  figure(what: string, value: string): void {
    this.figures.push({ what, value });
  }

  /** The last fault or mend; the beginning when there was none. */
  lastChange(): number {
    return this.marks.filter(({ kind }) => kind !== 'seen').at(-1)?.atMs ?? 0;
  }
}

export const inWords = (ms: number): string =>
  ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
