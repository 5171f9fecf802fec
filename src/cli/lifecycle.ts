import { VpndError } from '../model/errors.js';

/** Things that were started, in order; stopping runs them backwards, all of them, and awaits each. */
export interface Lifecycle {
  /** Remembers how to stop what has just been started. After `stop` it is stopped at once, and `closed` thrown. */
  onStop(name: string, stop: () => void | Promise<void>): void;
  /** Stops everything; a failure is reported and the rest stopped all the same. Harmless to call twice. */
  stop(failed: (name: string, error: unknown) => void): Promise<void>;
}

export function lifecycle(): Lifecycle {
  let stopped = false;
  const started: { readonly name: string; readonly stop: () => void | Promise<void> }[] = [];
  return {
    onStop: (name, stop) => {
      if (stopped) {
        void Promise.resolve(stop()).catch(() => {});
        throw new VpndError('closed', `stopped while starting ${name}`);
      }
      started.push({ name, stop });
    },
    async stop(failed) {
      stopped = true;
      for (let last = started.pop(); last !== undefined; last = started.pop()) {
        try {
          await last.stop();
        } catch (error) {
          failed(last.name, error);
        }
      }
    },
  };
}
