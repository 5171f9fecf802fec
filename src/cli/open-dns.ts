import { existsSync } from 'node:fs';
import { connect, Socket } from 'node:net';
import { remoteDns } from '../../dataplane/dns-client.js';
import { isDnsLeft, openLinuxDns } from '../../dataplane/dns-linux.js';
import type { DaemonConfig } from '../config/types.js';
import type { Dns } from '../core/ports/dns.js';
import { VpndError } from '../model/errors.js';

/** Where the unit vpnd-dns.socket listens, for the daemon's user alone. */
export const DNS_SOCKET = '/run/vpnd-dns.sock';

/** Whether a client that gives up root needs a process that may set the resolver for it. */
export const needsDnsHelper = (config: DaemonConfig): boolean =>
  config.role === 'client' && config.dataplane !== 'memory' && (config.dns !== undefined || isDnsLeft());

/**
 * This machine's resolver for a client, by whoever may set it: the process that root left behind for it (`descriptor`), the one
 * that systemd starts, this one. Undefined for a daemon that leaves the machine alone.
 */
export function openDns(config: DaemonConfig, descriptor: number | undefined): Dns | undefined {
  if (config.role !== 'client' || config.dataplane === 'memory') return undefined;
  if (descriptor !== undefined) return remoteDns(handed(descriptor));
  if (process.geteuid?.() === 0) return openLinuxDns();
  return existsSync(DNS_SOCKET) ? remoteDns(dialled) : unaided(openLinuxDns());
}

/** There is one of it, and no second. */
function handed(descriptor: number): () => Promise<Socket> {
  let isTaken = false;
  return async () => {
    if (isTaken) throw new VpndError('no-root', 'the process that sets it has ended; start vpnd client again');
    isTaken = true;
    return new Socket({ fd: descriptor, readable: true, writable: true });
  };
}

function dialled(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(DNS_SOCKET);
    socket.once('connect', () => resolve(socket));
    socket.once('error', (cause: NodeJS.ErrnoException) => {
      const message = `the process that sets it cannot be reached at ${DNS_SOCKET} (${cause.code}); see systemctl status vpnd-dns.socket`;
      reject(new VpndError('no-root', message, { cause }));
    });
  });
}

/** Looks by itself, which needs nothing, and says who could do more. */
function unaided(dns: Dns): Dns {
  return {
    ...dns,
    put: (wish) =>
      dns.put(wish).catch((cause: unknown) => {
        const message = cause instanceof Error ? cause.message : String(cause);
        const advice = 'enable vpnd-dns.socket, or start vpnd client as root; --dns off leaves the resolver alone';
        throw new VpndError('no-root', `${message}: ${advice}`, { cause });
      }),
  };
}
