import { createServer } from 'node:net';
import type { HostPort, Port } from '../model/address.js';
import { listen as listenTcp } from './grpc/server.js';
import { listen as listenUdp } from './udp.js';

/**
 * Whether a daemon will be able to listen, found out before its join token is spent or anything is built. Rejects as
 * the servers themselves do: VpndError `port-in-use`, `no-root`, `bad-config`.
 */
export async function requireFreePorts(wanted: {
  readonly tcp: readonly HostPort[];
  readonly udp: Port | undefined;
}): Promise<void> {
  const { tcp, udp } = wanted;
  for (const at of tcp) {
    const server = createServer((socket) => socket.destroy());
    await listenTcp(server, at);
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }
  if (udp !== undefined) {
    const sockets = await Promise.allSettled([listenUdp('udp6', udp), listenUdp('udp4', udp)]);
    for (const one of sockets) if (one.status === 'fulfilled') one.value?.close();
    for (const one of sockets) if (one.status === 'rejected') throw one.reason;
  }
}
