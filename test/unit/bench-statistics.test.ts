import fc from 'fast-check';
import t from 'tap';
import { holds, table } from '../../bench/lib/report.js';
import { percentile, summarise } from '../../bench/lib/statistics.js';

t.test('a percentile is a value that was measured, and at least that share is no larger', async (t) => {
  t.equal(percentile([7], 0.5), 7);
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
  t.match(summarise(hundred), { count: 100, min: 1, p50: 50, p90: 90, p99: 99, max: 100 });
  t.throws(() => percentile([], 0.5), RangeError);
  const values = fc.array(fc.double({ noNaN: true }), { minLength: 1 });
  fc.assert(
    fc.property(values, fc.double({ min: 0, max: 1, noNaN: true }), (all, share) => {
      const found = percentile(all, share);
      return all.includes(found) && all.filter((one) => one <= found).length >= share * all.length;
    }),
  );
});

t.test('what is measured is not sorted in place: samples are kept in the order they came', async (t) => {
  const samples = [3, 1, 2];
  summarise(samples);
  t.same(samples, [3, 1, 2]);
});

t.test('a table aligns its numbers, and a target holds at its limit', async (t) => {
  t.equal(
    table(
      ['what', 'ms'],
      [
        ['a', 1],
        ['longer', 123.4],
      ],
    ),
    '  what      ms\n  a       1.00\n  longer   123\n',
  );
  t.equal(holds({ what: '', limit: 5, measured: 5, unit: '' }), true);
  t.equal(holds({ what: '', limit: 5, measured: 5.01, unit: '' }), false);
});
