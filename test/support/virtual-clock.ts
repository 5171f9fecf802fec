import type { Clock } from '../../src/core/ports/clock.js';
import { type Instant, instantOf, type Millis, ms } from '../../src/model/time.js';

interface Task {
  readonly due: number;
  readonly order: number;
  run: (() => void) | undefined;
}

/**
 * Time that moves only when a test says so. Due tasks run in time order, those of one moment in the order they were
 * asked for, and between two of them every promise that can settle does: a run replays exactly.
 */
export class VirtualClock implements Clock {
  #elapsed = 0;
  #wallOffset: number;
  #order = 0;
  #live = 0;
  #ran = 0;
  readonly #heap: Task[] = [];

  constructor(start: Instant = instantOf(Date.UTC(2026, 0, 1))) {
    this.#wallOffset = start;
  }

  now(): Instant {
    return instantOf(this.#wallOffset + this.#elapsed);
  }

  monotonic(): Millis {
    return ms(this.#elapsed);
  }

  after(delay: Millis, task: () => void): () => void {
    const entry: Task = { due: this.#elapsed + Math.max(0, delay), order: this.#order++, run: task };
    this.#push(entry);
    this.#live++;
    return () => {
      if (entry.run === undefined) return;
      entry.run = undefined;
      this.#live--;
    };
  }

  /** Tasks that wait; 0 once everything has been cancelled or run. */
  get pending(): number {
    return this.#live;
  }

  /** Tasks that have run. */
  get ran(): number {
    return this.#ran;
  }

  /** When the next task is due, as `monotonic` counts; undefined when none waits. */
  get nextDue(): Millis | undefined {
    this.#dropCancelled();
    const next = this.#heap[0];
    return next === undefined ? undefined : ms(next.due);
  }

  /** Let `duration` milliseconds pass. */
  async advance(duration: number): Promise<void> {
    const until = this.#elapsed + duration;
    await this.settle();
    for (;;) {
      this.#dropCancelled();
      const next = this.#heap[0];
      if (next === undefined || next.due > until) break;
      // A task that was overdue (after `suspend`) runs now, not in the past.
      this.#elapsed = Math.max(this.#elapsed, next.due);
      this.#runFirst();
      await this.settle();
    }
    this.#elapsed = Math.max(this.#elapsed, until);
  }

  /** Let time pass until `work` settles, at most `limit` of it; what `work` gives or throws. */
  async run<T>(work: Promise<T>, limit = 3_600_000): Promise<T> {
    const until = this.#elapsed + limit;
    let done = false;
    const finish = () => {
      done = true;
    };
    work.then(finish, finish);
    for (;;) {
      await this.settle();
      if (done) return work;
      const next = this.nextDue;
      if (next === undefined || next > until) {
        throw new Error(`after ${limit} ms of virtual time still not settled (${this.#live} tasks wait)`);
      }
      await this.advance(Math.max(0, next - this.#elapsed));
    }
  }

  /** The machine sleeps: time passes, nothing runs. What became due runs late, at the next `advance`. */
  suspend(duration: number): void {
    this.#elapsed += duration;
  }

  /** Somebody sets the wall clock; `monotonic` does not notice. */
  setWall(at: Instant): void {
    this.#wallOffset = at - this.#elapsed;
  }

  /** The clock of another machine on the same time line, whose wall clock is `offset` ms ahead of this one. */
  skewed(offset: number): Clock {
    return {
      now: () => instantOf(this.now() + offset),
      monotonic: () => this.monotonic(),
      after: (delay, task) => this.after(delay, task),
    };
  }

  /** A turn of the event loop ends only when every promise chain that can settle has. */
  async settle(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
  }

  #runFirst(): void {
    const task = this.#pop();
    const run = task?.run;
    if (task === undefined || run === undefined) return;
    task.run = undefined;
    this.#live--;
    this.#ran++;
    run();
  }

  #dropCancelled(): void {
    while (this.#heap[0] !== undefined && this.#heap[0].run === undefined) this.#pop();
  }

  #push(task: Task): void {
    const heap = this.#heap;
    heap.push(task);
    for (let at = heap.length - 1; at > 0; ) {
      const up = (at - 1) >> 1;
      if (!earlier(heap[at], heap[up])) break;
      swap(heap, at, up);
      at = up;
    }
  }

  #pop(): Task | undefined {
    const heap = this.#heap;
    const last = heap.length - 1;
    if (last < 0) return undefined;
    swap(heap, 0, last);
    const first = heap.pop();
    for (let at = 0; ; ) {
      const left = 2 * at + 1;
      const least = earlier(heap[left + 1], heap[left]) ? left + 1 : left;
      if (!earlier(heap[least], heap[at])) break;
      swap(heap, at, least);
      at = least;
    }
    return first;
  }
}

function earlier(a: Task | undefined, b: Task | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  return a.due !== b.due ? a.due < b.due : a.order < b.order;
}

function swap(heap: Task[], a: number, b: number): void {
  const kept = heap[a] as Task;
  heap[a] = heap[b] as Task;
  heap[b] = kept;
}
