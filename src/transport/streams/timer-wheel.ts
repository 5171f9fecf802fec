import type { Clock } from '../../core/ports/clock.js';
import { type Millis, ms } from '../../model/time.js';

interface Entry {
  readonly tick: number;
  task: (() => void) | undefined;
}

const SLOTS = 256;

/**
 * Thousands of coarse deadlines behind one timer: setting and cancelling one is O(1). A task runs at its time or up to
 * one granule later, never earlier. (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", 1987.)
 */
export class TimerWheel {
  readonly #clock: Clock;
  readonly #granule: Millis;
  readonly #failed: (thrown: unknown) => void;
  readonly #slots: Set<Entry>[] = Array.from({ length: SLOTS }, () => new Set());
  #size = 0;
  /** The last tick whose slot was emptied. */
  #done = 0;
  #armed: { readonly tick: number; readonly cancel: () => void } | undefined;

  /** @param failed told what a task threw; the other tasks run all the same */
  constructor(clock: Clock, granule: Millis, failed: (thrown: unknown) => void) {
    this.#clock = clock;
    this.#granule = granule;
    this.#failed = failed;
  }

  get size(): number {
    return this.#size;
  }

  /** Runs `task` once after `delay`; the returned function cancels it and is harmless afterwards. */
  after(delay: Millis, task: () => void): () => void {
    if (this.#size === 0) this.#done = this.#present();
    const due = Math.ceil((this.#clock.monotonic() + Math.max(0, delay)) / this.#granule);
    const entry: Entry = { tick: Math.max(due, this.#done + 1), task };
    const slot = this.#slot(entry.tick);
    slot.add(entry);
    this.#size++;
    if (this.#armed === undefined || entry.tick < this.#armed.tick) this.#arm(entry.tick);
    return () => {
      if (entry.task === undefined) return;
      entry.task = undefined;
      slot.delete(entry);
      this.#size--;
      if (this.#size === 0) this.#disarm();
    };
  }

  #present(): number {
    return Math.floor(this.#clock.monotonic() / this.#granule);
  }

  #slot(tick: number): Set<Entry> {
    return this.#slots[tick % SLOTS] as Set<Entry>;
  }

  #arm(tick: number): void {
    this.#armed?.cancel();
    const delay = ms(Math.max(0, tick * this.#granule - this.#clock.monotonic()));
    this.#armed = { tick, cancel: this.#clock.after(delay, () => this.#turn()) };
  }

  #disarm(): void {
    this.#armed?.cancel();
    this.#armed = undefined;
  }

  #turn(): void {
    this.#armed = undefined;
    const present = this.#present();
    const due: Entry[] = [];
    const from = Math.max(this.#done + 1, present - SLOTS + 1);
    for (let tick = from; tick <= present; tick++) {
      for (const entry of this.#slot(tick)) if (entry.tick <= present) due.push(entry);
    }
    this.#done = Math.max(this.#done, present);
    for (const entry of due.sort((a, b) => a.tick - b.tick)) this.#run(entry);
    if (this.#size > 0 && this.#armed === undefined) this.#arm(this.#nextOccupied());
    else if (this.#size > 0) this.#rearmIfEarlier();
  }

  #run(entry: Entry): void {
    const { task } = entry;
    // Cancelled by a task that ran in this same turn.
    if (task === undefined) return;
    entry.task = undefined;
    this.#slot(entry.tick).delete(entry);
    this.#size--;
    try {
      task();
    } catch (thrown) {
      this.#failed(thrown);
    }
  }

  /** A task of this turn armed the wheel for its own deadline; older ones may be due before. */
  #rearmIfEarlier(): void {
    const next = this.#nextOccupied();
    if (this.#armed !== undefined && next < this.#armed.tick) this.#arm(next);
  }

  /** The next slot with anything in it; what lies a whole round ahead wakes the wheel once for nothing. */
  #nextOccupied(): number {
    for (let tick = this.#done + 1; tick < this.#done + SLOTS; tick++) if (this.#slot(tick).size > 0) return tick;
    return this.#done + SLOTS;
  }
}
