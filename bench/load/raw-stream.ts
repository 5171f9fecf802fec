import { connect as http2Connect } from 'node:http2';
import { connect } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import type { Log } from '../../src/core/ports/log.js';
import type { ControlStream } from '../../src/core/ports/network.js';
import { Control } from '../../src/gen/vpnd/v1/control_pb.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { Bytes } from '../../src/model/bytes.js';
import { FramedStream } from '../../src/transport/framed-stream.js';
import { keyHash } from '../../src/transport/grpc/certificates.js';
import { AUTHORITY, CHALLENGE_KEY } from '../../src/transport/grpc/options.js';

const PATH = `/${Control.typeName}/${Control.method.persistentControlStream.name}`;
/** Whether it is compressed (it never is), then the length of the message. */
const FRAME_HEAD = 5;

export interface RawTarget {
  readonly host: string;
  readonly port: Port;
  /** PEM. */
  readonly ca: string;
  /** Address of this machine to connect from. */
  readonly from: IpAddress;
}

export interface RawStream {
  readonly stream: ControlStream;
  readonly challenge: Bytes;
  readonly serverKeyHash: Bytes;
}

/**
 * One control stream on a TLS connection of its own, over node:http2 without a gRPC library: thousands of them cost a
 * load generator little, and they can leave from any address of the machine. Trusts whatever the CA signed.
 */
export function openRawStream(target: RawTarget): Promise<RawStream> {
  return new Promise((resolve, reject) => {
    const tcp = connect({ host: target.host, port: target.port, localAddress: target.from });
    tcp.once('error', reject);
    const socket = tlsConnect({
      socket: tcp,
      ca: target.ca,
      minVersion: 'TLSv1.3',
      ALPNProtocols: ['h2'],
      servername: AUTHORITY,
      checkServerIdentity: () => undefined,
    });
    socket.once('error', reject);
    socket.once('secureConnect', () => {
      const certificate = socket.getPeerX509Certificate();
      if (certificate === undefined) return reject(new Error('the supernode shows no certificate'));
      const session = http2Connect(`https://${AUTHORITY}`, { createConnection: () => socket });
      session.once('error', reject);
      const call = session.request({
        ':method': 'POST',
        ':path': PATH,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      const head = (length: number): Buffer => {
        const bytes = Buffer.alloc(FRAME_HEAD);
        bytes.writeUInt32BE(length, 1);
        return bytes;
      };
      const remote = { ip: target.host as IpAddress, port: target.port };
      const carrier = {
        write: (bytes: Uint8Array, taken: () => void) => {
          call.write(Buffer.concat([head(bytes.length), bytes]), () => taken());
        },
        read: () => {
          call.resume();
        },
        finish: () => {
          call.end();
          session.close();
        },
      };
      const stream = new FramedStream(remote, carrier, SILENT);
      let rest: Buffer = Buffer.alloc(0);
      call.on('data', (chunk: Buffer) => {
        rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
        while (rest.length >= FRAME_HEAD && rest.length >= FRAME_HEAD + rest.readUInt32BE(1)) {
          const end = FRAME_HEAD + rest.readUInt32BE(1);
          stream.arrived(rest.subarray(FRAME_HEAD, end));
          rest = rest.subarray(end);
        }
      });
      call.pause();
      call.once('error', reject);
      call.once('close', () => {
        stream.ended({ by: 'remote' });
        session.destroy();
        reject(new Error('the supernode closed the stream before it sent a challenge'));
      });
      call.once('response', (headers) => {
        const challenge = headers[CHALLENGE_KEY];
        if (typeof challenge !== 'string') return reject(new Error('the supernode sent no challenge'));
        resolve({
          stream,
          challenge: new Uint8Array(Buffer.from(challenge, 'base64')),
          serverKeyHash: keyHash(certificate.publicKey),
        });
      });
    });
  });
}

const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT };
