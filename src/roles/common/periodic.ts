import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import { toVpndError } from '../../model/errors.js';
import type { Millis } from '../../model/time.js';

/** Runs a task again and again, each time `every` after it was done. A failure is logged and ends nothing. */
export class Periodic {
  #cancel: () => void = () => {};
  #stopped = false;
  #running: Promise<void> = Promise.resolve();

  constructor(
    private readonly what: string,
    private readonly every: Millis,
    private readonly task: () => Promise<void> | void,
    private readonly ports: { readonly clock: Clock; readonly log: Log },
  ) {}

  start(): void {
    if (this.#stopped) return;
    this.#cancel = this.ports.clock.after(this.every, () => {
      this.#running = this.#run().then(() => this.start());
    });
  }

  /** Waits for a run that is under way. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    await this.#running;
  }

  async #run(): Promise<void> {
    try {
      await this.task();
    } catch (thrown) {
      const error = toVpndError(thrown);
      this.ports.log.warn(`${this.what} failed`, { code: error.code, err: error });
    }
  }
}
