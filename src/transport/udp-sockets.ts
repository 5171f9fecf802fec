import { createSocket, type Socket } from 'node:dgram';
import type { UdpSocket, UdpSockets } from '../core/ports/udp-sockets.js';
import { type Endpoint, familyOf, formatHostPort, type IpAddress, parseIp, parsePort } from '../model/address.js';
import type { Bytes } from '../model/bytes.js';
import { VpndError } from '../model/errors.js';

/** Bytes that may wait for the kernel to take them. What comes on top of it is dropped, as a full network queue would. */
const MAX_WAITING = 1024 * 1024;
/** A few hundred full-size datagrams: a burst must survive until the event loop comes by. The kernel may give less. */
const RECEIVE_BUFFER = 1024 * 1024;

type Listener = (packet: Bytes, from: Endpoint) => void;

export const udpSockets: UdpSockets = {
  bind(local, listener) {
    return new Promise((resolve, reject) => {
      const family = familyOf(local.ip);
      const socket = createSocket({
        type: family === 6 ? 'udp6' : 'udp4',
        ipv6Only: family === 6,
        // Only addresses are ever sent to: no name to resolve, and no turn of the event loop for each datagram.
        lookup: (host, _options, found) => found(null, host, family),
      });
      socket.once('error', (error: NodeJS.ErrnoException) => {
        socket.close();
        reject(bindError(error, local));
      });
      socket.bind({ address: local.ip, port: local.port, exclusive: true }, () => resolve(bound(socket, listener)));
    });
  },
};

function bound(socket: Socket, listener: Listener): UdpSocket {
  const { address, port } = socket.address();
  const local = endpoint(address, port);
  if (local === undefined) throw new VpndError('internal', `bound to ${address} port ${port}`);
  let closed = false;
  socket.removeAllListeners('error');
  // A datagram that cannot be sent concerns nobody; the next one may.
  socket.on('error', () => {});
  // Most datagrams come from where the one before came from, and parsing addresses is dear.
  let last: { readonly address: string; readonly endpoint: Endpoint } | undefined;
  socket.on('message', (packet, { address, port }) => {
    if (last?.address !== address || last.endpoint.port !== port) {
      const parsed = endpoint(address, port);
      last = parsed && { address, endpoint: parsed };
    }
    if (!closed && last !== undefined) listener(view(packet), last.endpoint);
  });
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER);
  } catch {
    // What the kernel gives by itself has to do.
  }
  return {
    local,
    send(packet, to) {
      if (closed || familyOf(to.ip) !== familyOf(local.ip) || socket.getSendQueueSize() > MAX_WAITING) return;
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
}

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
