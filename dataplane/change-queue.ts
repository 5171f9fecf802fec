import type { UnitChange } from '../src/core/ports/dataplane.js';
import { type Unit, type UnitId, unitIdOf } from '../src/model/dataplane.js';
import { VpndError } from '../src/model/errors.js';

interface Waiting {
  readonly change: UnitChange;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * Runs changes of the data plane one after the other, and merges those that wait: all that is asked for within one
 * turn of the event loop, or while another change is under way, costs the kernel one write.
 */
export class ChangeQueue {
  #waiting: Waiting[] = [];
  #tail: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(private readonly run: (change: UnitChange) => Promise<void>) {}

  apply(change: UnitChange): Promise<void> {
    if (this.#closed) return Promise.reject(closed());
    return new Promise((resolve, reject) => {
      this.#waiting.push({ change, resolve, reject });
      if (this.#waiting.length === 1) {
        const turn = new Promise<void>((next) => setImmediate(next));
        this.#tail = Promise.all([this.#tail, turn]).then(() => this.#drain());
      }
    });
  }

  /** Something that runs when everything asked for before is done, and before anything asked for later. */
  alone<T>(task: () => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(closed());
    const result = this.#tail.then(() => this.#drain()).then(task);
    this.#tail = result.then(
      () => {},
      () => {},
    );
    return result;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#tail;
  }

  async #drain(): Promise<void> {
    const batch = this.#waiting;
    this.#waiting = [];
    if (batch.length === 0) return;
    try {
      await this.run(merge(batch.map((one) => one.change)));
      for (const one of batch) one.resolve();
    } catch (thrown) {
      if (batch.length === 1) return batch[0]?.reject(thrown);
      // One bad change must not take the others along.
      for (const one of batch) await this.run(one.change).then(one.resolve, one.reject);
    }
  }
}

/** As if one came after the other. */
export function merge(changes: readonly UnitChange[]): UnitChange {
  const units = new Map<UnitId, Unit | undefined>();
  for (const change of changes) {
    for (const id of change.remove ?? []) units.set(id, undefined);
    for (const unit of change.put ?? []) {
      // The order of first mention does not matter to the kernel, the last word does.
      units.delete(unitIdOf(unit));
      units.set(unitIdOf(unit), unit);
    }
  }
  return {
    put: [...units.values()].filter((unit) => unit !== undefined),
    remove: [...units].flatMap(([id, unit]) => (unit === undefined ? [id] : [])),
  };
}

const closed = (): VpndError => new VpndError('closed', 'the data plane is closed');
