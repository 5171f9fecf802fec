import t from 'tap';
import { draw } from '../../bench/soak/picture.js';
import type { KernelSample } from '../../bench/soak/probe.js';
import { leftovers } from '../../bench/soak/residue.js';
import { judge, type Point, slopeOf } from '../../bench/soak/slopes.js';
import { seededRandom } from '../support/seeded-random.js';

/** Two hours, four looks a minute. */
const LOOKS = 480;
const HOURS = 2;
const OPTIONS = { warmUp: 1 / 3, block: 1 / 12 };

/** A heap that fills for a while and is collected, with some noise; and perhaps grows. */
function heap(perHour: number, { life = 1, from = 0, level = 100, seed = 7 } = {}): readonly Point[] {
  const { fraction } = seededRandom(seed);
  return Array.from({ length: LOOKS }, (_, i) => {
    const hour = (i / LOOKS) * HOURS;
    const sawtooth = (i % 13) * 0.6;
    return { hour: from + hour, value: level + perHour * hour + sawtooth + fraction() * 2, life };
  });
}

t.test('a heap that is filled and emptied again and again is level', async (t) => {
  const slope = slopeOf(heap(0), OPTIONS);
  if (slope === undefined) throw new Error('no slope');
  t.ok(slope.low < 0 && slope.high > 0, `${slope.low} to ${slope.high} holds 0`);
  t.equal(judge(slope, 4), 'level');
});

t.test('one that grows by little within all the noise is found', async (t) => {
  const slope = slopeOf(heap(6), OPTIONS);
  if (slope === undefined) throw new Error('no slope');
  t.ok(slope.low < 6 && slope.high > 6, `${slope.low} to ${slope.high} holds 6`);
  t.equal(judge(slope, 4), 'grows');
});

t.test('what fills up in the beginning does not count', async (t) => {
  const filling = heap(0).map((one) => ({ ...one, value: one.value - 80 * Math.exp(-one.hour * 20) }));
  const slope = slopeOf(filling, OPTIONS);
  t.equal(slope === undefined ? undefined : judge(slope, 4), 'level');
});

t.test('a restart is another level, not a fall or a rise', async (t) => {
  const lives = [...heap(0, { life: 1, level: 180 }), ...heap(0, { life: 2, from: 2, level: 90, seed: 8 })];
  const slope = slopeOf(lives, OPTIONS);
  t.equal(slope === undefined ? undefined : judge(slope, 4), 'level');
  const leaking = [...heap(6, { life: 1 }), ...heap(6, { life: 2, from: 2, seed: 8 })];
  const found = slopeOf(leaking, OPTIONS);
  t.equal(found === undefined ? undefined : judge(found, 4), 'grows');
});

t.test('too little to say anything gives no slope', async (t) => {
  t.equal(slopeOf(heap(0).slice(0, 70), OPTIONS), undefined);
  t.equal(slopeOf([], OPTIONS), undefined);
});

t.test('the interval holds the truth about as often as it says', async (t) => {
  let held = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const slope = slopeOf(heap(3, { seed }), { ...OPTIONS, replicates: 200 });
    if (slope !== undefined && slope.low <= 3 && slope.high >= 3) held += 1;
  }
  t.ok(held >= 48, `${held} of 60`);
});

t.test('it says the same each time', async (t) => {
  t.same(slopeOf(heap(3), OPTIONS), slopeOf(heap(3), OPTIONS));
});

t.test('what is left in a kernel is told by what was there before', async (t) => {
  const none = { elements: 0, nftRules: 4, wgPeers: 0, ipRules: 3, routes: 9, addresses: 2, links: 2 };
  const sample = (more: Partial<KernelSample>): KernelSample => ({ ...none, conntrack: 5, sockets: 3, ...more });
  const before = new Map([['a', sample({})]]);
  t.same(
    leftovers(before, new Map([['a', sample({ conntrack: 90, sockets: 9 })]])),
    [],
    'traffic of today is no residue',
  );
  t.same(leftovers(before, new Map([['a', sample({ elements: 2, wgPeers: 1 })]])), [
    { node: 'a', what: 'elements', before: 0, after: 2 },
    { node: 'a', what: 'wgPeers', before: 0, after: 1 },
  ]);
});

t.test('a picture has a line for each life, and nothing that could break out of it', async (t) => {
  const svg = draw('Soak <1>', [{ title: 'a & b', unit: 'MB', lines: [{ name: '"x"', points: heap(0) }] }], []);
  t.match(svg, /Soak &#60;1&#62;/);
  t.notMatch(svg, /NaN|undefined/);
  const [path = ''] = svg.match(/<path d="[^"]*"/) ?? [];
  t.equal(path.match(/M/g)?.length, 1);
});
