import type { Clock } from '../../../src/core/ports/clock.js';
import { type Instant, instantOf, type Millis } from '../../../src/model/time.js';
import type { VirtualClock } from '../virtual-clock.js';

/**
 * Time as one process has it. When the process dies its timers die with it; while its machine sleeps they wait, and run
 * late, in order, when it wakes.
 */
export class ProcessClock implements Clock {
  readonly #world: VirtualClock;
  readonly #late: (() => void)[] = [];
  #state: 'running' | 'asleep' | 'dead' = 'running';

  constructor(world: VirtualClock) {
    this.#world = world;
  }

  get alive(): boolean {
    return this.#state !== 'dead';
  }

  /** Whole milliseconds, as Date.now() gives. */
  now(): Instant {
    return instantOf(Math.floor(this.#world.now()));
  }

  monotonic(): Millis {
    return this.#world.monotonic();
  }

  after(delay: Millis, task: () => void): () => void {
    if (this.#state === 'dead') return () => {};
    let wanted = true;
    const run = () => {
      if (!wanted || this.#state === 'dead') return;
      if (this.#state === 'asleep') this.#late.push(run);
      else {
        wanted = false;
        task();
      }
    };
    const cancel = this.#world.after(delay, run);
    return () => {
      wanted = false;
      cancel();
    };
  }

  sleep(): void {
    if (this.#state === 'running') this.#state = 'asleep';
  }

  wake(): void {
    if (this.#state !== 'asleep') return;
    this.#state = 'running';
    for (const task of this.#late.splice(0)) this.#world.after(0 as Millis, task);
  }

  die(): void {
    this.#state = 'dead';
    this.#late.length = 0;
  }
}
