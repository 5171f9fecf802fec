import { existsSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { type Millis, ms, seconds } from '../src/model/time.js';
import { uapiSocketOf } from './uapi.js';

/** How long the engine of a device that is being removed may take to end. */
const PATIENCE: Millis = seconds(2);
const LOOK_EVERY: Millis = ms(10);

/** Whether an engine listens there; false for a socket that a dead one left behind. Who may not ask cannot tell: true. */
export const answersAt = (path: string): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(path);
    const tell = (answers: boolean) => {
      socket.destroy();
      resolve(answers);
    };
    socket.once('connect', () => tell(true));
    socket.once('error', (thrown: NodeJS.ErrnoException) => tell(thrown.code === 'EACCES'));
  });

/**
 * Waits until no engine has the socket of a device: after its interface was deleted it still takes a moment to notice, and
 * another one refuses to start until then.
 */
export async function socketFree(device: string, path = uapiSocketOf(device)): Promise<void> {
  for (let waited = 0; waited < PATIENCE && existsSync(path); waited += LOOK_EVERY) {
    if (!(await answersAt(path))) return;
    await pause(LOOK_EVERY);
  }
}
