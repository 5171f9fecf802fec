import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { edited, editsByFile } from '../mutants/mutant.js';
import { PLANTED } from './engine/planted.js';
import { drawStory, play, report } from './engine/play.js';
import { sentence } from './engine/sentences.js';
import { shrink } from './engine/shrink.js';
import { keeping } from './engine/story.js';

t.test('the same seed twice is the same run, another one is another', async (t) => {
  for (const seed of [3, 4]) {
    const first = await play(drawStory(seed));
    const second = await play(drawStory(seed));
    t.equal(second.trace, first.trace, `seed ${seed}`);
    t.equal(second.events, first.events);
    t.not((await play(drawStory(seed + 4))).trace, first.trace);
  }
});

t.test('a story is data: it survives a file, and steps can be left out', async (t) => {
  const story = drawStory(5);
  t.same(JSON.parse(JSON.stringify(story)), JSON.parse(JSON.stringify(drawStory(5))));
  const short = keeping(story, [0, story.steps.length - 1]);
  t.equal(short.steps.length, 2);
  const { trace } = await play(short);
  t.equal((await play(JSON.parse(JSON.stringify(short)))).trace, trace, 'and a file plays as what it was made from');
});

t.test('a list is made as short as it still fails', async (t) => {
  let asked = 0;
  const needs = (wanted: readonly number[]) => async (kept: readonly number[]) => {
    asked++;
    return wanted.every((one) => kept.includes(one));
  };
  t.same(await shrink(40, needs([3, 17, 38])), [3, 17, 38]);
  t.ok(asked < 150, `${asked} tries`);
  t.same(await shrink(12, needs([7])), [7]);
  t.same(await shrink(12, needs([])), [], 'what needs no step at all');
  asked = 0;
  await shrink(40, needs([3, 17, 38]), 10);
  t.equal(asked, 10, 'no more tries than it was given');
});

t.test('a failure says how to see it again, and what happened in words', async (t) => {
  const story = drawStory(7);
  const text = report(story, { found: ['2: x0: something is left'], step: 4, at: 12_000 }, [1, 3]);
  t.match(text, /make sim SEED=7 KEEP=1,3/);
  t.match(text, /2: x0: something is left/);
  for (const index of [1, 3]) {
    const step = story.steps[index];
    if (step !== undefined) t.ok(text.includes(sentence(step.deed)));
  }
});

t.test('every planted mistake still fits the source, and stands in the table', async (t) => {
  t.ok(PLANTED.length >= 10);
  const table = readFileSync(join(process.cwd(), 'docs/simulation.md'), 'utf8');
  for (const planted of PLANTED) {
    for (const [file, edits] of editsByFile(planted)) {
      t.ok(existsSync(file), file);
      t.doesNotThrow(() => edited(file, readFileSync(file, 'utf8'), edits), `${planted.name}: ${file}`);
    }
    t.ok(table.includes(`| ${planted.name} | ${planted.mistake} |`), planted.name);
  }
});
