import type { Instant, Millis } from '../model/time.js';
import { plus } from '../model/time.js';

/**
 * Numbered slots (relay ports, inner addresses) with at most one owner each. A slot given back rests before it is
 * taken again, so that a late packet of its old session never reaches a new one. Taking and giving are O(1).
 */
export class SlotPool {
  readonly #resting: { slot: number; freeAt: Instant }[] = [];
  readonly #taken = new Set<number>();
  #restingHead = 0;
  #unused = 0;
  #size: number;

  /** Slots 0 to size-1; `rest` is the quarantine. */
  constructor(
    size: number,
    private readonly rest: Millis,
  ) {
    this.#size = size;
  }

  get taken(): number {
    return this.#taken.size;
  }

  /** More slots, when more blocks were leased. Never shrinks. */
  grow(size: number): void {
    this.#size = Math.max(this.#size, size);
  }

  /** A free slot, or undefined when all are taken or resting. Never-used ones first. */
  take(now: Instant): number | undefined {
    while (this.#unused < this.#size) {
      const slot = this.#unused++;
      if (this.#taken.has(slot)) continue;
      this.#taken.add(slot);
      return slot;
    }
    const oldest = this.#resting[this.#restingHead];
    if (oldest === undefined || oldest.freeAt > now) return undefined;
    this.#restingHead++;
    if (this.#restingHead > 1024) {
      this.#resting.splice(0, this.#restingHead);
      this.#restingHead = 0;
    }
    // A slot that was claimed while it rested (a restart's replay) is not free after all.
    if (this.#taken.has(oldest.slot)) return this.take(now);
    this.#taken.add(oldest.slot);
    return oldest.slot;
  }

  /** Mark a slot as taken that a durable record already owns. False when somebody else has it. */
  claim(slot: number): boolean {
    if (this.#taken.has(slot)) return false;
    this.#taken.add(slot);
    return true;
  }

  /** Give a slot back; harmless for one that is not taken. */
  give(slot: number, now: Instant): void {
    if (this.#taken.delete(slot)) this.#resting.push({ slot, freeAt: plus(now, this.rest) });
  }
}
