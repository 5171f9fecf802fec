import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { playAll } from './crew.js';
import { drawStory, play, report, shortest } from './play.js';
import { keeping, type Story } from './story.js';
import type { Result } from './worker.js';

/**
 * `make sim`: the stories of many seeds.
 *
 *   SEEDS=1000 FROM=1     how many, and the first one
 *   SEED=7 KEEP=0,3,5     one of them again, of its steps these alone; says what happens
 *   STORY=file.json       a story that is kept in a file
 *   JOBS=2 SHRINK=no      processes; leaves failing stories as long as they are
 *
 * Each failure is told with the line that plays it again and the shortest story that was found to fail the same way. Ends with
 * `<n> seeds, <h> role-hours, <e> events/s, <m> failures`; exit code 1 unless m is 0.
 */
const { SEED, KEEP, STORY } = process.env;
if (STORY) await again(JSON.parse(readFileSync(STORY, 'utf8')) as Story);
else if (SEED) await again(kept(drawStory(number('SEED', 1))));
else await many(number('FROM', 1), number('SEEDS', 1_000), number('JOBS', Math.min(availableParallelism(), 8)));

function kept(story: Story): Story {
  if (!KEEP) return story;
  return keeping(story, KEEP === 'none' ? [] : KEEP.split(',').map(Number));
}

async function again(story: Story): Promise<void> {
  const { failure, trace, events, virtualMs, healedAfter } = await play(story);
  if (failure !== undefined) {
    process.exitCode = 1;
    console.log(report(story, failure));
    if (process.env.SHRINK) console.log(JSON.stringify(keeping(story, await shortest(story, failure))));
    return;
  }
  console.log(
    `seed ${story.seed}: nothing is wrong; ${events} events in ${(virtualMs / 60_000).toFixed(1)} virtual minutes`,
  );
  console.log(`served ${healedAfter} ms after the last fault; trace ${trace}`);
}

async function many(from: number, count: number, jobs: number): Promise<void> {
  const began = performance.now();
  const results: Result[] = [];
  let failures = 0;
  const orders = Array.from({ length: count }, (_, index) => ({
    seed: from + index,
    shrink: process.env.SHRINK !== 'no',
  }));
  const progress = Math.max(1, Math.floor(count / 20));
  await playAll(orders, jobs, (result) => {
    results.push(result);
    if (result.failed !== undefined) {
      failures++;
      console.log(result.failed.report);
    }
    if (results.length % progress === 0) console.log(`… ${results.length} of ${count}, ${failures} failures`);
    return 'go on';
  });
  const sum = (of: (one: Result) => number) => results.reduce((total, one) => total + of(one), 0);
  const seconds = (performance.now() - began) / 1000;
  const healed = results.flatMap(({ healedAfter }) => healedAfter ?? []).sort((a, b) => a - b);
  const at = (share: number) => ((healed[Math.floor(share * (healed.length - 1))] ?? 0) / 1000).toFixed(0);
  if (healed.length > 0)
    console.log(
      `served after the last fault: half of the seeds within ${at(0.5)} s, 99 % within ${at(0.99)} s, all within ${at(1)} s`,
    );
  console.log(
    `${results.length} seeds, ${(sum((one) => one.roleMs) / 3_600_000).toFixed(0)} role-hours, ${sum((one) => one.events)} events, ` +
      `${Math.round(sum((one) => one.events) / seconds)} events/s, ${seconds.toFixed(0)} s, ${failures} failures`,
  );
  process.exitCode = failures > 0 ? 1 : 0;
}

function number(name: string, otherwise: number): number {
  const text = process.env[name];
  const value = text ? Number(text) : otherwise;
  if (!Number.isInteger(value) || value < 0) throw new Error(`${name} is a whole number, not ${text}`);
  return value;
}
