import { percentile } from '../lib/statistics.js';

/** One figure over all runs. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** Throws RangeError for an empty list. The median is a measured value: of an even number, the lower of the two. */
export const spreadOf = (values: readonly number[]): Spread => ({
  median: percentile(values, 0.5),
  min: percentile(values, 0),
  max: percentile(values, 1),
});

/** Less than that apart is a tie on machines like these. */
const TIE = 1.25;

/** What a ratio (ours to theirs, or the other way round where less is better) says. */
export const verdict = (ratio: number): 'better' | 'tie' | 'worse' =>
  ratio >= TIE ? 'better' : ratio > 1 / TIE ? 'tie' : 'worse';
