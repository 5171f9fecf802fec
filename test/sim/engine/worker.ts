/** One process of `make sim`: plays the seeds it is sent, one after the other, and sends back what became of each. */
import { drawStory, invariantOf, play, report, shortest } from './play.js';

export interface Order {
  readonly seed: number;
  /** Whether a story that fails is to be made short. */
  readonly shrink: boolean;
}

export interface Result {
  readonly seed: number;
  readonly trace: string;
  readonly events: number;
  readonly roleMs: number;
  readonly healedAfter: number | undefined;
  /** The invariant that is broken, and the report of it. */
  readonly failed: { readonly invariant: string; readonly report: string } | undefined;
}

process.on('message', (order: unknown) => {
  serve(order as Order).then(
    (result) => process.send?.(result),
    (thrown: unknown) => {
      throw thrown;
    },
  );
});
process.on('disconnect', () => process.exit(0));

async function serve({ seed, shrink }: Order): Promise<Result> {
  const story = drawStory(seed);
  const { failure, trace, events, roleMs, healedAfter } = await play(story);
  const common = { seed, trace, events, roleMs, healedAfter };
  if (failure === undefined) return { ...common, failed: undefined };
  const kept = shrink ? await shortest(story, failure) : undefined;
  return { ...common, failed: { invariant: invariantOf(failure), report: report(story, failure, kept) } };
}
