import { connect as tlsConnect } from 'node:tls';
import type { BrokerConnection } from './broker-load.js';

interface Target {
  readonly host: string;
  readonly port: number;
  readonly ca: Buffer;
  readonly id: string;
}

/** First bytes of packets of MQTT 3.1.1 (OASIS standard, section 2.2), quality of service 0. */
const CONNECT = 0x10;
const PUBLISH = 0x30;
const SUBSCRIBE = 0x82;
const SUBACK = 0x90;
const PINGREQ = 0xc0;
const CLEAN_SESSION = 0x02;
const KEEPALIVE_SECONDS = 30;
const CONTENT = Buffer.alloc(64, 'x');

/** As much of MQTT as it takes. All packets here are shorter than 128 bytes, so that their length is one byte. */
export function openMqtt({ host, port, ca, id }: Target): Promise<BrokerConnection> {
  return new Promise((resolve, reject) => {
    const socket = tlsConnect({ host, port, ca, minVersion: 'TLSv1.3', checkServerIdentity: () => undefined });
    socket.setNoDelay(true);
    const waiting: (() => void)[] = [];
    const connection: BrokerConnection = {
      ask: () =>
        new Promise((answered) => {
          waiting.push(answered);
          socket.write(packet(PUBLISH, text(id), CONTENT));
        }),
      beat: () => void socket.write(packet(PINGREQ)),
    };
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      const head = Buffer.from([4, CLEAN_SESSION, 0, KEEPALIVE_SECONDS]);
      socket.write(packet(CONNECT, text('MQTT'), head, text(id)));
      socket.write(packet(SUBSCRIBE, Buffer.from([0, 1]), text(id), Buffer.from([0])));
    });
    let rest: Buffer = Buffer.alloc(0);
    socket.on('data', (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk]);
      while (rest.length >= 2 && rest.length >= 2 + (rest[1] ?? 0)) {
        const kind = rest[0];
        rest = rest.subarray(2 + (rest[1] ?? 0));
        if (kind === SUBACK) resolve(connection);
        else if (kind === PUBLISH) waiting.shift()?.();
      }
    });
  });
}

function packet(kind: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([kind, body.length]), body]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.from([bytes.length >> 8, bytes.length & 0xff]), bytes]);
}
