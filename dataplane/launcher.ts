import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Log } from '../src/core/ports/log.js';
import { type Ended, type Launch, launch } from './launch.js';

const MAIN = fileURLToPath(new URL('./launcher-main.js', import.meta.url));

/** Starts programs by way of another process. */
export interface Launcher {
  readonly launch: Launch;
  /** Ends the other process; programs are started from this one afterwards. */
  close(): void;
}

/**
 * A small process beside the daemon that starts its programs. Starting one copies the page tables of whoever starts it
 * and stops its event loop meanwhile: 1.3 ms for a process that holds nothing, 3.8 with 60 MB more, 19 with 360 MB more
 * (docs/performance.md). A supernode full of streams would stop for all of them at each session.
 *
 * Where it is not there (killed by somebody), programs are started from this process.
 */
export function startLauncher(log: Log): Launcher {
  const waiting = new Map<number, (ended: Ended) => void>();
  let serial = 0;
  let helper: ChildProcess | undefined = fork(MAIN, [], {
    cwd: '/',
    env: {},
    execArgv: [],
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  // Only programs under way keep the daemon alive.
  const release = () => {
    helper?.unref();
    helper?.channel?.unref();
  };
  release();

  // Whether these ran to their end is not known: to the callers they failed, and what is there is looked up again.
  const giveUp = (why: string) => {
    helper = undefined;
    for (const settle of waiting.values()) settle({ kind: 'not-started', why });
    waiting.clear();
  };
  const over = (why: string) => {
    if (helper === undefined) return;
    log.warn('the process that starts programs has gone; they are started from the daemon itself', { reason: why });
    giveUp(why);
  };
  helper.once('error', (cause) => over(cause.message));
  helper.once('exit', (code, signal) => over(`it ended (${signal ?? code})`));
  helper.on('message', ({ id, ended }: { readonly id: number; readonly ended: Ended }) => {
    const settle = waiting.get(id);
    waiting.delete(id);
    if (waiting.size === 0) release();
    settle?.(ended);
  });

  return {
    launch: (what) => {
      const through = helper;
      if (through === undefined || !through.connected) return launch(what);
      return new Promise((resolve) => {
        const id = ++serial;
        waiting.set(id, resolve);
        // Both: where it is killed, its channel closes a moment before its end is known.
        through.ref();
        through.channel?.ref();
        through.send({ id, what });
      });
    },
    close() {
      const ending = helper;
      giveUp('the data plane is closed');
      if (ending?.connected) ending.disconnect();
    },
  };
}
