import { drawStory } from './draw.js';
import { type Failure, type Outcome, runStory } from './run-story.js';
import { introduce, tell } from './sentences.js';
import { shrink } from './shrink.js';
import { keeping, type Story } from './story.js';

/** A story that is played, with whatever is thrown on the way as a failure of it. */
export async function play(story: Story): Promise<Outcome> {
  let loose: unknown;
  const caught = (thrown: unknown) => {
    loose ??= thrown;
  };
  process.on('unhandledRejection', caught);
  try {
    const outcome = await runStory(story);
    return loose === undefined || outcome.failure !== undefined ? outcome : broken(outcome, loose);
  } catch (thrown) {
    return broken({ trace: '', events: 0, virtualMs: 0, roleMs: 0, healedAfter: undefined }, thrown);
  } finally {
    process.off('unhandledRejection', caught);
  }
}

function broken(outcome: Omit<Outcome, 'failure'>, thrown: unknown): Outcome {
  const text = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  return { ...outcome, failure: { found: [`0: ${text}`], step: undefined, at: outcome.virtualMs } };
}

/** Which invariant it is about: a shorter story must fail in the same way. */
export const invariantOf = ({ found }: Failure): string => found[0]?.split(':')[0] ?? '';

/** The fewest of a story's steps that were found to fail as all of them do. */
export async function shortest(story: Story, failure: Failure, tries = 120): Promise<readonly number[]> {
  const until = failure.step === undefined ? story.steps.length : failure.step + 1;
  const wanted = invariantOf(failure);
  return shrink(
    until,
    async (kept) => {
      const { failure: other } = await play(keeping(story, kept));
      return other !== undefined && invariantOf(other) === wanted;
    },
    tries,
  );
}

/** What a failing seed prints: what is wrong, how to see it again, and the story in sentences. */
export function report(story: Story, { found, step, at }: Failure, kept?: readonly number[]): string {
  const list = kept ?? story.steps.map((_, index) => index);
  const keep = kept === undefined ? '' : ` KEEP=${kept.length === 0 ? 'none' : kept.join(',')}`;
  const when = step === undefined ? 'once the story was over' : `after step ${step + 1}`;
  return [
    `seed ${story.seed}: ${when}, at ${(at / 1000).toFixed(1)} s:`,
    ...found.slice(0, 6).map((what) => `  ${what}`),
    `  again: make sim SEED=${story.seed}${keep}`,
    ...introduce(story)
      .split('\n')
      .map((line) => `  ${line}`),
    ...tell(keeping(story, list).steps).map((line, index) => `  ${index + 1}. ${line}`),
  ].join('\n');
}

export { drawStory };
