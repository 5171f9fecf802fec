import t from 'tap';
import { failuresIn, totalsOf } from '../support/lab-tap.js';

const TAP = `TAP version 14
# Subtest: a story
    ok 1 - begins
    # Subtest: its middle
        not ok 1 - goes wrong
          ---
          found: 1
          ...
        1..1
    not ok 2 - its middle # time=1ms
    1..2
not ok 1 - a story # time=2ms

ok 2 - another
1..2
# { total: 3, pass: 2, fail: 1, skip: 4 }
# time=9ms
`;

t.test('the closing comment gives the counts, and a program without one gives none', async (t) => {
  t.same(totalsOf(TAP), { total: 3, pass: 2, fail: 1, skip: 4, todo: 0 });
  t.equal(totalsOf(TAP.replace(/# \{.*\n/, '')), undefined);
  t.equal(totalsOf(`${TAP}\n# { total: 9, pass: 9 }`)?.total, 9, 'the last one counts');
});

t.test('failures are told with their explanation and the tests around them', async (t) => {
  const told = failuresIn(TAP).split('\n');
  t.same(told.slice(0, 4), [
    '# Subtest: a story',
    '    # Subtest: its middle',
    '        not ok 1 - goes wrong',
    '          ---',
  ]);
  t.notOk(told.some((line) => /begins|another/.test(line)));
  t.equal(failuresIn('boom\n'), 'boom', 'a program that broke otherwise is quoted whole');
});
