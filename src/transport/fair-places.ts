/**
 * Places for those who have not shown yet who they are. Somebody new always gets one: where none is left, whoever has
 * been there longest gives his up, of the sender that holds most. So a flood pushes out its own, and a newcomer who shows
 * quickly who he is gets through beside it.
 */
export class FairPlaces<T> {
  readonly #limits: { readonly all: number; readonly perSender: number };
  /** Each sender's, longest there first. */
  readonly #bySender = new Map<string, Set<T>>();
  #size = 0;

  constructor(limits: { readonly all: number; readonly perSender: number }) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#size;
  }

  /** Takes a place, and answers who lost his for it. */
  enter(sender: string, newcomer: T): T | undefined {
    const own = this.#bySender.get(sender)?.size ?? 0;
    const from = own >= this.#limits.perSender ? sender : this.#size >= this.#limits.all ? this.#largest() : undefined;
    const [evicted] = (from !== undefined && this.#bySender.get(from)) || [];
    if (from !== undefined && evicted !== undefined) this.leave(from, evicted);
    const places = this.#bySender.get(sender) ?? new Set();
    places.add(newcomer);
    this.#bySender.set(sender, places);
    this.#size++;
    return evicted;
  }

  /** Harmless for who has none. */
  leave(sender: string, one: T): void {
    const places = this.#bySender.get(sender);
    if (places?.delete(one) !== true) return;
    this.#size--;
    if (places.size === 0) this.#bySender.delete(sender);
  }

  #largest(): string | undefined {
    let largest: string | undefined;
    let most = 0;
    for (const [sender, { size }] of this.#bySender) {
      if (size > most) [largest, most] = [sender, size];
    }
    return largest;
  }
}
