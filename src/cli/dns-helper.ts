import { spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { cleanEnvironment } from '../../dataplane/run.js';

const MAIN = fileURLToPath(new URL('../../dataplane/dns-helper-main.js', import.meta.url));

/**
 * Root, and no capability: its files it may still write, and its programs ask D-Bus as root; it can change no owner, no interface and no
 * nftables, and send no signal to others' processes.
 */
const BARE = [
  ...['--regid', '0', '--clear-groups'],
  ...['--inh-caps=-all', '--ambient-caps=-all', '--bounding-set=-all', '--no-new-privs', '--'],
];

/**
 * Starts the process that sets this machine's resolver for a daemon that gives up root. `end` is its end of the socket that the
 * daemon has the other end of; this process lets go of it. It ends when the daemon does.
 */
export function startDnsHelper(setpriv: string, end: Socket): void {
  const helper = spawn(setpriv, [...BARE, process.execPath, MAIN], {
    cwd: '/',
    env: cleanEnvironment(),
    // A session of its own: Ctrl-C is for the daemon, which says what is to be put back.
    detached: true,
    stdio: [end, 'ignore', 'ignore'],
  });
  helper.on('error', () => {});
  helper.unref();
  end.destroy();
}
