import { createSocket } from 'node:dgram';
import type { UdpSocket, UdpSockets } from '../core/ports/udp-sockets.js';
import { type Endpoint, familyOf, formatHostPort, type IpAddress, parseIp, parsePort } from '../model/address.js';
import type { Bytes } from '../model/bytes.js';
import { VpndError } from '../model/errors.js';

/** Bytes that may wait for the kernel to take them. What comes on top of it is dropped, as a full network queue would. */
const MAX_WAITING = 1024 * 1024;
/** A few hundred full-size datagrams: a burst must survive until the event loop comes by. The kernel may give less. */
const RECEIVE_BUFFER = 1024 * 1024;

export const udpSockets: UdpSockets = {
  bind(local, listener) {
    return new Promise((resolve, reject) => {
      const family = familyOf(local.ip);
      const socket = createSocket({
        type: family === 6 ? 'udp6' : 'udp4',
        ipv6Only: true,
        // Only addresses are ever sent to: no name to resolve, and no turn of the event loop for each datagram.
        lookup: (host, _options, found) => found(null, host, family),
      });
      socket.once('error', (error: NodeJS.ErrnoException) => {
        socket.close();
        reject(bindError(error, local));
      });
      socket.bind({ address: local.ip, port: local.port, exclusive: true }, () => {
        socket.removeAllListeners('error');
        // A datagram that cannot be sent concerns nobody; the next one may.
        socket.on('error', () => {});
        try {
          socket.setRecvBufferSize(RECEIVE_BUFFER);
        } catch {
          // What the kernel gives by itself has to do.
        }
        const bound = socket.address();
        resolve(open(endpoint(bound.address, bound.port) ?? { ip: local.ip, port: bound.port as Endpoint['port'] }));
      });

      const open = (at: Endpoint): UdpSocket => {
        let closed = false;
        socket.on('message', (packet, remote) => {
          const from = endpoint(remote.address, remote.port);
          if (!closed && from !== undefined) listener(view(packet), from);
        });
        return {
          local: at,
          send(packet, to) {
            if (closed || familyOf(to.ip) !== family || socket.getSendQueueSize() > MAX_WAITING) return;
            try {
              socket.send(packet, to.port, to.ip, ignore);
            } catch {
              // Best effort: an endpoint that cannot be sent to is as good as a lost datagram.
            }
          },
          close() {
            if (closed) return;
            closed = true;
            socket.close();
          },
        };
      };
    });
  },
};

const ignore = (): void => {};

/** The same memory, without what Buffer adds: comparing and printing are then those of any other bytes. */
const view = (packet: Buffer): Bytes => new Uint8Array(packet.buffer, packet.byteOffset, packet.byteLength);

function endpoint(address: string, port: number): Endpoint | undefined {
  const ip = parseIp(address);
  const parsed = parsePort(port);
  return ip.ok && parsed.ok ? { ip: ip.value, port: parsed.value } : undefined;
}

function bindError(error: NodeJS.ErrnoException, at: { readonly ip: IpAddress; readonly port: number }): VpndError {
  const where = formatHostPort({ host: at.ip, port: at.port as Endpoint['port'] });
  const options = { cause: error, details: { address: at.ip, port: String(at.port) } };
  return error.code === 'EADDRINUSE'
    ? new VpndError('port-in-use', `UDP ${where} is in use by another process`, options)
    : new VpndError('dataplane', `UDP ${where} cannot be used: ${error.message}`, options);
}
