import type { Clock } from '../../core/ports/clock.js';
import type { Millis } from '../../model/time.js';

export interface WaitingRoomLimits {
  /** Places, and how many of them one sender may have. */
  readonly all: number;
  readonly perSender: number;
  /** How many are let in within one turn of the event loop. */
  readonly perTurn: number;
  /** Who waited for longer has given up by himself. */
  readonly patience: Millis;
}

interface Deps<T> {
  readonly clock: Pick<Clock, 'monotonic'>;
  letIn(one: T): void;
  turnAway(one: T): void;
  /** Runs a task in the next turn of the event loop, after what has arrived by then was read. */
  later(task: () => void): void;
}

interface Waiting<T> {
  readonly one: T;
  readonly since: Millis;
}

/**
 * Where connections wait for their TLS handshake when more come than can be worked on: after a restart, thousands do at
 * once. Whoever has been let in is finished before many others are begun, so that no work is thrown away on those who
 * give up, or are pushed out, half-way; waiting costs a socket that is not read. Senders take turns, and a full room
 * turns away the newest of the sender with most.
 */
export class WaitingRoom<T> {
  readonly #limits: WaitingRoomLimits;
  readonly #deps: Deps<T>;
  /** Each sender's, longest there first; the next sender's turn first. */
  readonly #senders = new Map<string, Waiting<T>[]>();
  #size = 0;
  #letIn = 0;
  #isTurnDue = false;

  constructor(limits: WaitingRoomLimits, deps: Deps<T>) {
    this.#limits = limits;
    this.#deps = deps;
  }

  get size(): number {
    return this.#size;
  }

  enter(sender: string, one: T): void {
    if (this.#size === 0 && this.#letIn < this.#limits.perTurn) {
      this.#begin(one);
      return;
    }
    const own = this.#senders.get(sender)?.length ?? 0;
    const [most, number] = this.#size >= this.#limits.all ? this.#largest() : [sender, 0];
    if (own >= this.#limits.perSender || (number > 0 && own + 1 >= number)) {
      this.#deps.turnAway(one);
      return;
    }
    if (number > 0) this.#turnAwayNewest(most);
    const queue = this.#senders.get(sender) ?? [];
    queue.push({ one, since: this.#deps.clock.monotonic() });
    this.#senders.set(sender, queue);
    this.#size++;
    this.#due();
  }

  /** Turns everybody away. */
  close(): void {
    const all = [...this.#senders.values()].flat();
    this.#senders.clear();
    this.#size = 0;
    for (const { one } of all) this.#deps.turnAway(one);
  }

  #begin(one: T): void {
    this.#letIn++;
    this.#due();
    this.#deps.letIn(one);
  }

  #due(): void {
    if (this.#isTurnDue) return;
    this.#isTurnDue = true;
    this.#deps.later(() => {
      this.#isTurnDue = false;
      this.#letIn = 0;
      this.#turn();
    });
  }

  #turn(): void {
    const tooLong = this.#deps.clock.monotonic() - this.#limits.patience;
    while (this.#size > 0 && this.#letIn < this.#limits.perTurn) {
      const next = this.#next();
      if (next === undefined) return;
      if (next.since < tooLong) this.#deps.turnAway(next.one);
      else this.#begin(next.one);
    }
  }

  #next(): Waiting<T> | undefined {
    for (const [sender, queue] of this.#senders) {
      const next = queue.shift();
      // To the end of the line.
      this.#senders.delete(sender);
      if (queue.length > 0) this.#senders.set(sender, queue);
      if (next === undefined) continue;
      this.#size--;
      return next;
    }
    return undefined;
  }

  #largest(): readonly [string, number] {
    let [largest, most] = ['', 0];
    for (const [sender, { length }] of this.#senders) if (length > most) [largest, most] = [sender, length];
    return [largest, most];
  }

  #turnAwayNewest(sender: string): void {
    const newest = this.#senders.get(sender)?.pop();
    if (newest === undefined) return;
    this.#size--;
    this.#deps.turnAway(newest.one);
  }
}
