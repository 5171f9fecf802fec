import { seededRandom } from '../../test/support/seeded-random.js';

/** One measurement of a quantity. */
export interface Point {
  /** Hours since the run began. */
  readonly hour: number;
  readonly value: number;
  /** Which life of the process this is of: after a restart it begins anew, at another level. */
  readonly life: number;
}

export interface Slope {
  /** Units per hour, by least squares. */
  readonly perHour: number;
  /** 95 % confidence interval. */
  readonly low: number;
  readonly high: number;
  /** Mean of what was measured. */
  readonly level: number;
  /** Points that it rests on, and the hours from the first to the last of each life, added up. */
  readonly points: number;
  readonly hours: number;
}

export interface SlopeOptions {
  /** Hours at the begin of each life that do not count: code is compiled, caches fill. */
  readonly warmUp: number;
  /** Hours that belong together: what is measured now says something of what is measured within this time. */
  readonly block: number;
  readonly replicates?: number;
  readonly seed?: number;
}

const REPLICATES = 1000;
const LEAST_POINTS = 8;
const CONFIDENCE = 0.95;

/**
 * How fast something grows. One straight line is fitted to all lives together, each of which has a level of its own: time
 * and value count as differences from their means within a life.
 *
 * Measurements of memory are no independent draws: a heap rises for minutes until it is collected. An interval from the
 * formula for independent ones would be far too narrow, so it comes from a moving block bootstrap of the residuals
 * (Künsch 1989): pieces as long as `block` are drawn with what is within them intact, put onto the fitted line, and the
 * line is fitted again; the interval holds 95 of 100 of those slopes.
 *
 * Undefined where less is left than says anything.
 */
export function slopeOf(points: readonly Point[], options: SlopeOptions): Slope | undefined {
  const lives = byLife(points).flatMap((life) => {
    const first = life[0]?.hour ?? 0;
    const rest = life.filter(({ hour }) => hour - first >= options.warmUp);
    return rest.length >= LEAST_POINTS && spanOf(rest) >= options.block ? [rest] : [];
  });
  if (lives.length === 0) return undefined;
  const centred = lives.map((life) => {
    const hour = mean(life.map((one) => one.hour));
    const value = mean(life.map((one) => one.value));
    return life.map((one) => ({ x: one.hour - hour, y: one.value - value }));
  });
  const perHour = leastSquares(centred.flat());
  const residuals = centred.map((life) => life.map(({ x, y }) => y - perHour * x));
  const { fraction } = seededRandom(options.seed ?? 1);
  const again = Array.from({ length: options.replicates ?? REPLICATES }, () =>
    leastSquares(
      centred.flatMap((life, i) => {
        const own = residuals[i] ?? [];
        const length = Math.max(1, Math.round((options.block / Math.max(spanOf(lives[i] ?? []), 1e-9)) * own.length));
        const drawn = blocks(own, Math.min(length, own.length), fraction);
        const middle = mean(drawn);
        return life.map(({ x }, n) => ({ x, y: perHour * x + (drawn[n] ?? 0) - middle }));
      }),
    ),
  ).sort((a, b) => a - b);
  const at = (share: number) => again[Math.min(again.length - 1, Math.floor(share * again.length))] ?? perHour;
  return {
    perHour,
    low: at((1 - CONFIDENCE) / 2),
    high: at((1 + CONFIDENCE) / 2),
    level: mean(lives.flat().map((one) => one.value)),
    points: lives.flat().length,
    hours: lives.reduce((all, life) => all + spanOf(life), 0),
  };
}

/** As many values as there were, in pieces of `length` that begin anywhere. */
function blocks(values: readonly number[], length: number, fraction: () => number): readonly number[] {
  const drawn: number[] = [];
  while (drawn.length < values.length) {
    const from = Math.floor(fraction() * (values.length - length + 1));
    drawn.push(...values.slice(from, from + length));
  }
  return drawn.slice(0, values.length);
}

function leastSquares(points: readonly { readonly x: number; readonly y: number }[]): number {
  let above = 0;
  let below = 0;
  for (const { x, y } of points) {
    above += x * y;
    below += x * x;
  }
  return below === 0 ? 0 : above / below;
}

function byLife(points: readonly Point[]): readonly (readonly Point[])[] {
  const lives = new Map<number, Point[]>();
  for (const point of points) {
    const life = lives.get(point.life);
    if (life === undefined) lives.set(point.life, [point]);
    else life.push(point);
  }
  return [...lives.values()];
}

const spanOf = (life: readonly Point[]): number => (life.at(-1)?.hour ?? 0) - (life[0]?.hour ?? 0);
const mean = (values: readonly number[]): number =>
  values.length === 0 ? 0 : values.reduce((all, one) => all + one, 0) / values.length;

/**
 * `level`: whatever it does, it is less than would matter. `grows`: it does, and it may be more than would matter.
 * `unclear`: it may grow by more than would matter, and may as well not grow at all.
 */
export type Verdict = 'level' | 'grows' | 'unclear';

/** @param tolerance units per hour that nobody needs to care about */
export function judge(slope: Slope, tolerance: number): Verdict {
  if (slope.high < tolerance) return 'level';
  return slope.low > 0 ? 'grows' : 'unclear';
}
