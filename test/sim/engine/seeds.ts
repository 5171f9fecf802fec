import t from 'tap';
import { drawStory, play, report } from './play.js';

/** A test for each of these seeds: its story is played, and what is wrong with it is told. */
export function seeds(from: number, to: number): void {
  for (let seed = from; seed <= to; seed++) {
    t.test(`seed ${seed}`, async (t) => {
      const story = drawStory(seed);
      const { failure, events } = await play(story);
      if (failure === undefined) t.ok(events > 0, 'something happened');
      else t.fail(report(story, failure));
    });
  }
}
