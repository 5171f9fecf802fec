import { connect } from 'node:net';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import type { BrokerConnection } from './broker-load.js';

interface Target {
  readonly host: string;
  readonly port: number;
  readonly ca: Buffer;
  readonly id: string;
}

const OPTIONS = JSON.stringify({ verbose: false, pedantic: false, tls_required: true, lang: 'bench', version: '1' });
const CONTENT = 'x'.repeat(64);

/** NATS' client protocol, as much as it takes: INFO in the clear, TLS, CONNECT, SUB; then PUB, MSG, PING and PONG. */
export function openNats({ host, port, ca, id }: Target): Promise<BrokerConnection> {
  return new Promise((resolve, reject) => {
    const tcp = connect({ host, port, noDelay: true });
    tcp.once('error', reject);
    tcp.once('data', () => {
      tcp.removeAllListeners('data');
      const socket = tlsConnect({ socket: tcp, ca, minVersion: 'TLSv1.3', checkServerIdentity: () => undefined });
      socket.once('error', reject);
      socket.once('secureConnect', () => {
        socket.write(`CONNECT ${OPTIONS}\r\nSUB ${id} 1\r\nPING\r\n`);
        follow(socket, id, resolve);
      });
    });
  });
}

function follow(socket: TLSSocket, id: string, ready: (connection: BrokerConnection) => void): void {
  const waiting: (() => void)[] = [];
  const connection: BrokerConnection = {
    ask: () =>
      new Promise((resolve) => {
        waiting.push(resolve);
        socket.write(`PUB ${id} ${CONTENT.length}\r\n${CONTENT}\r\n`);
      }),
    beat: () => void socket.write('PING\r\n'),
  };
  let rest = '';
  let up = false;
  socket.setEncoding('latin1');
  socket.on('data', (chunk: string) => {
    const lines = (rest + chunk).split('\r\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      if (line === 'PING') socket.write('PONG\r\n');
      else if (line === 'PONG' && !up) {
        up = true;
        ready(connection);
      } else if (line === CONTENT) waiting.shift()?.();
    }
  });
}
