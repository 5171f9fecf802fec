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
  /** Tasks of the sleep that have not run since. */
  #owed = 0;
  #state: 'running' | 'asleep' | 'dead' = 'running';
  #mourn: () => void = () => {};
  /** Settles once it is dead. */
  readonly died = new Promise<void>((resolve) => {
    this.#mourn = resolve;
  });

  /** `skew`: how far the machine's wall clock is ahead, in ms. */
  constructor(
    world: VirtualClock,
    private readonly skew: () => number = () => 0,
  ) {
    this.#world = world;
  }

  get alive(): boolean {
    return this.#state !== 'dead';
  }

  get running(): boolean {
    return this.#state === 'running';
  }

  /** Whole milliseconds, as Date.now() gives. */
  now(): Instant {
    return instantOf(Math.floor(this.#world.now() + this.skew()));
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

  /** Runs `task` now, or when the process runs again, after what came before it; never once it is dead. */
  whenRunning(task: () => void): void {
    if (this.#state === 'asleep') this.#late.push(task);
    else if (this.#owed > 0) this.#owe(task);
    else if (this.#state === 'running') task();
  }

  sleep(): void {
    if (this.#state === 'running') this.#state = 'asleep';
  }

  wake(): void {
    if (this.#state !== 'asleep') return;
    this.#state = 'running';
    for (const task of this.#late.splice(0)) this.#owe(task);
  }

  die(): void {
    this.#state = 'dead';
    this.#mourn();
    this.#late.length = 0;
  }

  #owe(task: () => void): void {
    this.#owed++;
    this.#world.after(0 as Millis, () => {
      this.#owed--;
      // It may have been put to sleep again meanwhile.
      if (this.#state === 'asleep') this.#late.push(task);
      else if (this.#state === 'running') task();
    });
  }
}
