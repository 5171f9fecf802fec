import { createSocket, type Socket } from 'node:dgram';
import type { Datagrams } from '../core/ports/datagrams.js';
import { type Endpoint, familyOf, parseIp, parsePort } from '../model/address.js';
import { VpndError } from '../model/errors.js';
import { type Millis, ms } from '../model/time.js';

/** How often a question is sent again while no answer comes: datagrams get lost. */
const ATTEMPTS = 3;

export function udpDatagrams(): Datagrams {
  return {
    async serve(port, answer) {
      const sockets = await Promise.all([listen('udp6', port), listen('udp4', port)]);
      const open = sockets.filter((socket) => socket !== undefined);
      for (const socket of open) {
        socket.on('message', (question, remote) => {
          const from = endpoint(remote.address, remote.port);
          const reply = from && answer(question, from);
          if (reply !== undefined) socket.send(reply, remote.port, remote.address);
        });
        // A datagram that cannot be answered (no route back) concerns nobody but its sender.
        socket.on('error', () => {});
      }
      return {
        async close() {
          await Promise.all(open.map((socket) => new Promise<void>((done) => socket.close(() => done()))));
        },
      };
    },

    ask(to, question, accept, timeout) {
      return new Promise((resolve) => {
        const socket = createSocket(familyOf(to.ip) === 6 ? 'udp6' : 'udp4');
        const timers: NodeJS.Timeout[] = [];
        const finish = (answer: Uint8Array | undefined) => {
          for (const timer of timers) clearTimeout(timer);
          socket.removeAllListeners();
          socket.on('error', () => {});
          socket.close();
          resolve(answer);
        };
        socket.on('message', (answer) => {
          if (accept(answer)) finish(Uint8Array.from(answer));
        });
        socket.on('error', () => finish(undefined));
        for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
          timers.push(
            setTimeout(() => socket.send(question, to.port, to.ip, () => {}), (attempt * timeout) / ATTEMPTS),
          );
        }
        timers.push(setTimeout(() => finish(undefined), timeout satisfies Millis));
      });
    },
  };
}

/** Undefined where the machine has no IPv6; an address in use is an error. */
export function listen(type: 'udp4' | 'udp6', port: number): Promise<Socket | undefined> {
  return new Promise((resolve, reject) => {
    const socket = createSocket({ type, ipv6Only: type === 'udp6' });
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (type === 'udp6' && (error.code === 'EAFNOSUPPORT' || error.code === 'EADDRNOTAVAIL'))
        return resolve(undefined);
      reject(
        error.code === 'EADDRINUSE'
          ? new VpndError(
              'port-in-use',
              `UDP port ${port} is in use; choose another with --probe-port, or --probe-port off for none`,
              { cause: error },
            )
          : error.code === 'EACCES'
            ? new VpndError('no-root', `UDP port ${port} needs root or CAP_NET_BIND_SERVICE`, { cause: error })
            : error,
      );
    });
    socket.bind({ port, exclusive: true }, () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}

function endpoint(address: string, port: number): Endpoint | undefined {
  const ip = parseIp(address);
  const parsed = parsePort(port);
  return ip.ok && parsed.ok ? { ip: ip.value, port: parsed.value } : undefined;
}

/** Long enough for a round trip across the world, three times over. */
export const PROBE_TIMEOUT = ms(1500);
