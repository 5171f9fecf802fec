import type { IncomingHttpHeaders } from 'node:http';
import { connect as http2Connect } from 'node:http2';
import { connect } from 'node:net';
import { createSecureContext, type SecureContext, connect as tlsConnect } from 'node:tls';
import { Metadata } from '@grpc/grpc-js';
import type { Log } from '../../src/core/ports/log.js';
import type { ControlStream } from '../../src/core/ports/network.js';
import { Control } from '../../src/gen/vpnd/v1/control_pb.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { Bytes } from '../../src/model/bytes.js';
import type { VpndError } from '../../src/model/errors.js';
import { FramedStream } from '../../src/transport/framed-stream.js';
import { keyHash } from '../../src/transport/grpc/certificates.js';
import { errorInTrailer } from '../../src/transport/grpc/errors.js';
import { AUTHORITY, CHALLENGE_KEY } from '../../src/transport/grpc/options.js';

const PATH = `/${Control.typeName}/${Control.method.persistentControlStream.name}`;
/** Whether it is compressed (it never is), then the length of the message. */
const FRAME_HEAD = 5;

export interface RawTarget {
  readonly host: string;
  readonly port: Port;
  /** From `trusting`, one for all. */
  readonly trust: SecureContext;
  /** Address of this machine to connect from. */
  readonly from: IpAddress;
  /** Gives the attempt up. */
  readonly signal?: AbortSignal;
}

export interface RawStream {
  readonly stream: ControlStream;
  readonly challenge: Bytes;
  readonly serverKeyHash: Bytes;
  /** An HTTP/2 ping, as the keepalive of a gRPC library sends it. */
  probe(): void;
  /** Cuts the connection without a word. */
  cut(): void;
}

/** What connections check certificates with. @param ca PEM */
export const trusting = (ca: string): SecureContext => createSecureContext({ ca, minVersion: 'TLSv1.3' });

/**
 * One control stream on a TLS connection of its own, over node:http2 without a gRPC library: thousands of them cost a
 * load generator little, and they can leave from any address of the machine. Trusts whatever the CA signed.
 */
export function openRawStream(target: RawTarget): Promise<RawStream> {
  return new Promise((resolve, reject) => {
    const { signal } = target;
    const tcp = connect({ host: target.host, port: target.port, localAddress: target.from, noDelay: true });
    const giveUp = () => tcp.destroy(new Error('given up'));
    signal?.addEventListener('abort', giveUp, { once: true });
    // Also what comes after the connection was up and has broken: nobody needs to hear of it twice.
    const failed = (error: Error) => {
      signal?.removeEventListener('abort', giveUp);
      tcp.destroy();
      reject(error);
    };
    tcp.once('error', failed);
    tcp.once('close', () => failed(new Error('the supernode closed the connection')));
    const socket = tlsConnect({
      socket: tcp,
      secureContext: target.trust,
      ALPNProtocols: ['h2'],
      servername: AUTHORITY,
      checkServerIdentity: () => undefined,
    });
    socket.on('error', failed);
    socket.once('secureConnect', () => {
      const certificate = socket.getPeerX509Certificate();
      if (certificate === undefined) return failed(new Error('the supernode shows no certificate'));
      const session = http2Connect(`https://${AUTHORITY}`, { createConnection: () => socket });
      session.on('error', failed);
      const call = session.request({
        ':method': 'POST',
        ':path': PATH,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      const remote = { ip: target.host as IpAddress, port: target.port };
      const carrier = {
        write: (bytes: Uint8Array, taken: () => void) => {
          const frame = Buffer.allocUnsafe(FRAME_HEAD + bytes.length);
          frame[0] = 0;
          frame.writeUInt32BE(bytes.length, 1);
          frame.set(bytes, FRAME_HEAD);
          call.write(frame, () => taken());
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
      call.on('error', failed);
      let told: VpndError | undefined;
      const hear = (headers: IncomingHttpHeaders) => {
        told ??= errorInTrailer(Metadata.fromHttp2Headers(headers));
      };
      call.on('trailers', hear);
      call.once('close', () => {
        stream.ended(told === undefined ? { by: 'lost' } : { by: 'remote', error: told });
        session.destroy();
        failed(told ?? new Error('the supernode closed the stream before it sent a challenge'));
      });
      call.once('response', (headers) => {
        hear(headers);
        if (told !== undefined) return;
        const challenge = headers[CHALLENGE_KEY];
        if (typeof challenge !== 'string') return failed(new Error('the supernode sent no challenge'));
        signal?.removeEventListener('abort', giveUp);
        resolve({
          stream,
          challenge: new Uint8Array(Buffer.from(challenge, 'base64')),
          serverKeyHash: hashOf(certificate.raw, () => keyHash(certificate.publicKey)),
          probe: () => {
            if (!session.destroyed) session.ping(() => {});
          },
          cut: () => tcp.destroy(),
        });
      });
    });
  });
}

const hashes = new Map<string, Bytes>();

/** All connections are shown the same certificate, but for those before and after a renewal. */
function hashOf(certificate: Buffer, make: () => Bytes): Bytes {
  const key = certificate.toString('latin1');
  const known = hashes.get(key) ?? make();
  hashes.set(key, known);
  return known;
}

const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {}, child: () => SILENT };
