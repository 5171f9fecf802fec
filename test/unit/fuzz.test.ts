import t from 'tap';
import { readCorpus } from '../fuzz/engine/corpus.js';
import { instrumented } from '../fuzz/engine/instrument.js';
import { runTarget } from '../fuzz/engine/run-target.js';
import { openTargetNamed, shares, TARGETS } from '../fuzz/targets/index.js';

/**
 * The first inputs of what `make fuzz` goes on with, without looking at what they reach. `SEED=5 N=100000 node …` looks
 * further; a failure names the input, which `make fuzz TARGET=… INPUT=file` runs alone.
 */
const SEED = Number(process.env.SEED ?? 1);
const N = Number(process.env.N ?? 20_000);

const names = Object.keys(TARGETS);
const counts = shares(names, N);

t.equal(
  [...counts.values()].reduce((sum, one) => sum + one, 0),
  N,
);

for (const name of names) {
  t.test(`${name} refuses what it cannot take, and nothing breaks`, async (t) => {
    const target = await openTargetNamed(name);
    t.equal(target.name, name, 'it goes by the name it has');
    const corpus = readCorpus(name);
    const stats = await runTarget(target, { seed: SEED, count: counts.get(name) ?? 0, corpus, slow: 2_000 });
    const shown = stats.findings.map((one) => ({
      what: one.what.split('\n').slice(0, 6),
      input: Buffer.from(one.input).toString('base64').slice(0, 4_000),
    }));
    t.same(shown, [], `seed ${SEED}`);
  });
}

t.test('counters are put where they change nothing', async (t) => {
  const source = [
    '"use strict";',
    'export const f = (a, b) => a && b ? (a ?? b) : { c: a || b };',
    'export function* g(n) { if (n) for (const x of [1, 2]) yield x; else return 5; }',
    'export class C { #p = 1; get p() { return this.#p; } static s = () => ({ a: 1 }); }',
    'export const h = (n) => { switch (n) { case 1: return "one"; default: { try { throw n } catch { return "more" } } } };',
  ].join('\n');
  const seen: number[] = [];
  const { f, g, C, h } = await load(instrumented(source, 'x.js'), (place) => void seen.push(place));
  t.same(f(0, 2), { c: 2 });
  t.equal(f(1, 2), 1);
  t.same([...g(true)], [1, 2]);
  t.equal(g(false).next().value, 5);
  t.equal(new C().p, 1);
  t.same([C.s(), h(1), h(2)], [{ a: 1 }, 'one', 'more']);
  t.ok(new Set(seen).size >= 14, `${new Set(seen).size} places`);
});

interface Sample {
  readonly f: (a: number, b: number) => unknown;
  readonly g: (n: boolean) => Generator<number>;
  readonly C: { new (): { p: number }; s(): unknown };
  readonly h: (n: number) => string;
}

async function load(source: string, seen: (place: number) => void): Promise<Sample> {
  const world = globalThis as { __fuzzSeen?: (place: number) => void };
  world.__fuzzSeen = seen;
  try {
    return (await import(`data:text/javascript,${encodeURIComponent(source)}`)) as Sample;
  } finally {
    delete world.__fuzzSeen;
  }
}
