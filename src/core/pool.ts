import type { Instant, Millis } from '../model/time.js';
import { plus } from '../model/time.js';

/**
 * Numbered slots (relay ports, inner addresses) with at most one owner each. A slot given back rests before it is
 * taken again, so that a late packet of its old session never reaches a new one. Taking and giving are O(1).
 */
export class SlotPool {
  /** Those that were given back, the one that is free first in front. */
  readonly #queue: { readonly slot: number; readonly freeAt: Instant }[] = [];
  /** When each of them is free; a slot that was claimed meanwhile is not in it any more. */
  readonly #resting = new Map<number, Instant>();
  readonly #taken = new Set<number>();
  #head = 0;
  #unused = 0;
  #size: number;

  /** Slots 0 to size-1; `rest` is the quarantine. */
  constructor(
    size: number,
    private readonly quarantine: Millis,
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
      if (!this.#taken.has(slot) && !this.#resting.has(slot)) return this.#own(slot);
    }
    for (;;) {
      const oldest = this.#queue[this.#head];
      if (oldest === undefined || oldest.freeAt > now) return undefined;
      this.#head++;
      if (this.#head > 1024) {
        this.#queue.splice(0, this.#head);
        this.#head = 0;
      }
      // One that was claimed while it rested (a restart's replay) is not free after all, or rests anew.
      if (this.#resting.get(oldest.slot) === oldest.freeAt) return this.#own(oldest.slot);
    }
  }

  /** Mark a slot as taken that a durable record already owns. False when somebody else has it. */
  claim(slot: number): boolean {
    if (this.#taken.has(slot)) return false;
    this.#own(slot);
    return true;
  }

  /** Give a slot back; harmless for one that is not taken. */
  give(slot: number, now: Instant): void {
    if (this.#taken.delete(slot)) this.#put(slot, plus(now, this.quarantine));
  }

  /** Slots that rest at this moment, and until when: what a restart must not forget. */
  resting(now: Instant): readonly (readonly [number, Instant])[] {
    return [...this.#resting].filter(([, freeAt]) => freeAt > now);
  }

  /** A slot of which an earlier life of this pool said that it rests. In the order in which they become free. */
  rest(slot: number, freeAt: Instant): void {
    if (slot >= 0 && !this.#taken.has(slot)) this.#put(slot, freeAt);
  }

  #own(slot: number): number {
    this.#resting.delete(slot);
    this.#taken.add(slot);
    return slot;
  }

  #put(slot: number, freeAt: Instant): void {
    this.#resting.set(slot, freeAt);
    this.#queue.push({ slot, freeAt });
  }
}
