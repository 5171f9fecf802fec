import { readFileSync } from 'node:fs';
import t from 'tap';
import type { Told } from '../../chaos/harness/chronicle.js';
import { renderIndex } from '../../chaos/harness/report.js';
import { GROUPS, groupOf, type Scenario, select } from '../../chaos/harness/scenario.js';
import { renderTimeline } from '../../chaos/harness/timeline.js';
import { SCENARIOS } from '../../chaos/scenarios/index.js';

/** Ten packets a second for ten seconds, of which those of two seconds were lost. */
const told: Told = {
  id: 'X1',
  title: 'an exit <dies> & returns',
  holds: 'traffic goes on',
  complaints: [],
  seconds: 12,
  marks: [
    { atMs: 3000, kind: 'fault', text: 'exit x1 is killed' },
    { atMs: 8000, kind: 'mend', text: 'exit x1 starts again' },
    { atMs: 9000, kind: 'seen', text: 'kernels agree' },
  ],
  traffic: [
    {
      client: 'c1',
      everyMs: 100,
      sentMs: Array.from({ length: 100 }, (_, i) => i * 100),
      answeredMs: Array.from({ length: 100 }, (_, i) => (i >= 30 && i < 50 ? null : i * 100 + 5)),
    },
  ],
  events: [{ node: 'c1', atMs: 5000, code: 'failed-over', text: 'to exit x2' }],
  figures: [{ what: 'c1: longest gap', value: '2.1 s' }],
};

t.test('a timeline shows traffic, the gap with its length, faults, their end, and what nodes tell', async (t) => {
  const svg = renderTimeline(told);
  t.match(svg, /an exit &lt;dies&gt; &amp; returns/, 'text is text');
  t.match(svg, />2\.1 s<\/text>/, 'the gap');
  t.match(svg, /1 {2}3\.0 s: exit x1 is killed/);
  t.match(svg, /stroke-dasharray[^>]*><title>exit x1 starts again/, 'dashed: the end of a fault');
  t.match(svg, /<title>5\.0 s {2}failed-over: to exit x2<\/title>/);
  t.notMatch(svg, /NaN|undefined|Infinity/);
  const rectangles = [
    ...svg.matchAll(/<rect x="([\d.]+)" width="([\d.]+)" y="[\d.]+" height="[\d.]+" fill="#d9534f"/g),
  ];
  t.equal(rectangles.length, 1, 'one red stretch');
  const [, from = '', width = ''] = rectangles[0] ?? [];
  const perSecond = (1100 - 90 - 20) / 9.9;
  t.ok(Math.abs(Number(from) - (90 + 3 * perSecond)) < 12, 'where the fault is');
  t.ok(Math.abs(Number(width) - 2 * perSecond) < 12, 'as long as it lasted');
});

t.test('a scenario in which nothing came to pass is drawn all the same', async (t) => {
  const svg = renderTimeline({ ...told, marks: [], traffic: [], events: [] });
  t.match(svg, /<svg/);
  t.notMatch(svg, /NaN|undefined|Infinity/);
});

t.test('the index says of each what held and what did not', async (t) => {
  const head = { machine: 'two cores', command: 'make chaos', startedAt: new Date(0), seconds: 60 };
  const broken = { ...told, id: 'S1', complaints: ['kernels do not agree: <x1>'] };
  const html = renderIndex([told, broken], head);
  t.match(html, /1 of 2 scenarios held/);
  t.match(html, /kernels do not agree: &lt;x1&gt;/);
  t.match(html, /src="X1\.svg"/);
});

t.test('scenarios', async (t) => {
  const ids = SCENARIOS.map(({ id }) => id);
  t.equal(new Set(ids).size, ids.length, 'each has a name of its own');
  t.ok(ids.length >= 40, `${ids.length} of them`);
  t.same([...new Set(SCENARIOS.map(groupOf))].sort(), Object.keys(GROUPS).sort(), 'every group has some');
  for (const { id, title, holds } of SCENARIOS) {
    t.match(id, /^[TSBXCDRV][1-9]\d*$/, id);
    t.ok(title.length > 10 && holds.length > 20, `${id} says what happens and what must hold`);
  }
  const chapter = readFileSync('docs/chaos.md', 'utf8');
  for (const { id, title } of SCENARIOS) t.ok(chapter.includes(`| ${id} | ${title} |`), `${id} is in docs/chaos.md`);
});

t.test('which scenarios are played', async (t) => {
  const named = (id: string): Scenario => ({ id, title: '', holds: '', story: async () => undefined });
  const all = ['T1', 'X1', 'X10', 'X2'].map(named);
  const chosen = (asked: string) => select(all, asked).map(({ id }) => id);
  t.same(chosen(''), ['T1', 'X1', 'X10', 'X2']);
  t.same(chosen('X1'), ['X1'], 'one, and not X10');
  t.same(chosen('x'), ['X1', 'X10', 'X2'], 'a group');
  t.same(chosen('x2, t1'), ['T1', 'X2'], 'several');
  t.throws(() => chosen('X3'), /no scenario is called X3/);
});
