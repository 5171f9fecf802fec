import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { spreadOf, verdict } from '../../bench/beside/spread.js';
import { markdownTable, replaceSection } from '../../bench/lib/chapter.js';
import { barChart } from '../../bench/lib/plot.js';

function page(text: string): string {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-chapter-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const file = join(dir, 'page.md');
  writeFileSync(file, text);
  return file;
}

t.test('a generated chapter takes the place of the one before, and nothing else changes', async (t) => {
  const file = page('before\n\n<!-- x -->\n\nold\n\n<!-- /x -->\n\nafter\n');
  replaceSection(file, 'x', 'new');
  replaceSection(file, 'x', 'newer');
  t.equal(readFileSync(file, 'utf8'), 'before\n\n<!-- x -->\n\nnewer\n\n<!-- /x -->\n\nafter\n');
});

t.test('a page without the markers is refused and left as it is', async (t) => {
  const file = page('by hand\n');
  t.throws(() => replaceSection(file, 'x', 'new'), /has no <!-- x -->/);
  t.equal(readFileSync(file, 'utf8'), 'by hand\n');
});

t.test('figures have three significant digits, and thousands are whole', async (t) => {
  t.equal(
    markdownTable(
      ['a', 'b'],
      [
        [1234.56, 'x'],
        [0.126, 'y'],
      ],
    ),
    '| a | b |\n|---|---|\n| 1235 | x |\n| 0.13 | y |',
  );
});

t.test('a bar is as long as its value is to the largest, and labels cannot break the picture', async (t) => {
  const bar = (label: string, median: number) => ({ label, median, min: median, max: median });
  const picture = barChart('Title', 'unit', [bar('a <b> & c', 50), bar('d', 100)], String);
  const widths = [...picture.matchAll(/<rect x="\d+" y="\d+" width="([\d.]+)"/g)].map((found) => Number(found[1]));
  t.equal(widths.length, 2);
  t.equal((widths[0] ?? 0) * 2, widths[1]);
  t.match(picture, 'a &lt;b&gt; &amp; c');
});

t.test('the median is a measured value, and less than a quarter apart is a tie', async (t) => {
  t.same(spreadOf([5, 1, 3, 9]), { median: 3, min: 1, max: 9 });
  t.same([1.25, 1.2, 0.81, 0.8].map(verdict), ['better', 'tie', 'tie', 'worse']);
});
