/**
 * The process that sets this machine's resolver for a client that is no longer root; see dns-helper.ts. It is spoken to on
 * its standard input, a socket that its one client has the other end of, and ends with it. Signals meant for both leave it alone: the
 * daemon still needs it to put things back.
 */
import { Socket } from 'node:net';
import { serveDns } from './dns-helper.js';
import { openLinuxDns } from './dns-linux.js';

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.umask(0o022);
await serveDns(openLinuxDns(), new Socket({ fd: 0, readable: true, writable: true }));
// Its handlers of signals would keep it.
process.exit();
