import { Client, type ClientDuplexStream, Metadata, type StatusObject } from '@grpc/grpc-js';
import type { AbortSignalLike } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { DialedStream, DialTarget, StreamEnd } from '../../core/ports/network.js';
import { Control } from '../../gen/vpnd/v1/control_pb.js';
import { familyOf, formatHostPort, type HostPort, parseIp } from '../../model/address.js';
import { VpndError } from '../../model/errors.js';
import type { Millis } from '../../model/time.js';
import { CHALLENGE_BYTES } from '../codec/limits.js';
import { type Carrier, FramedStream } from '../framed-stream.js';
import { describe } from './certificates.js';
import { CheckingCredentials } from './client-credentials.js';
import { errorInTrailer, errorOfStatus, isLoss, timedOut } from './errors.js';
import { CHALLENGE_KEY, channelOptions, ENDING_GRACE, type Keepalive } from './options.js';

type ControlCall = ClientDuplexStream<Buffer, Buffer>;

const STREAM_PATH = `/${Control.typeName}/${Control.method.persistentControlStream.name}`;
export const pass = (bytes: Buffer): Buffer => bytes;

/** A target as grpc-js wants it; addresses keep away from its name resolver. */
export function grpcTarget(at: HostPort): string {
  const ip = parseIp(at.host);
  if (!ip.ok) return `dns:${formatHostPort(at)}`;
  return `ipv${familyOf(ip.value)}:${formatHostPort({ host: ip.value, port: at.port })}`;
}

/** The attempt was given up by whoever asked for it. */
export const abandoned = (signal: AbortSignalLike): VpndError =>
  signal.reason instanceof VpndError
    ? signal.reason
    : new VpndError('closed', 'the attempt was given up', { cause: signal.reason });

/** Dials one control stream over a connection of its own, which ends with it. */
export function dialStream(
  target: DialTarget,
  options: { readonly timeout: Millis; readonly signal?: AbortSignalLike },
  deps: { readonly log: Log; readonly keepalive: Keepalive },
): Promise<DialedStream> {
  return new Promise((resolve, reject) => {
    const { signal } = options;
    if (signal?.aborted) return reject(abandoned(signal));
    const credentials = new CheckingCredentials(target, target.identity?.());
    const client = new Client(grpcTarget(target.address), credentials, channelOptions(deps.keepalive));
    const call: ControlCall = client.makeBidiStreamRequest(STREAM_PATH, pass, pass, new Metadata(), {});

    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    const fail = (error: VpndError) => {
      settle();
      call.removeListener('status', onStatus);
      call.cancel();
      client.close();
      credentials.cut();
      reject(error);
    };
    const onAbort = () => signal && fail(abandoned(signal));
    const onStatus = (status: StatusObject) => fail(errorOfStatus(status, target, credentials.failure));
    const timer = setTimeout(
      // What the last attempt came upon says more than that time is up.
      () => fail(credentials.failure ?? timedOut(whereOf(target), options.timeout)),
      options.timeout,
    );
    signal?.addEventListener('abort', onAbort);
    // Every end shows as `status`; this one only keeps grpc-js from throwing.
    call.on('error', () => {});
    call.once('status', onStatus);
    call.once('metadata', (metadata: Metadata) => {
      const [challenge] = metadata.get(CHALLENGE_KEY);
      const { server } = credentials;
      if (!Buffer.isBuffer(challenge) || challenge.length !== CHALLENGE_BYTES || server === undefined)
        return fail(new VpndError('bad-message', `${whereOf(target)} sent no challenge`));
      settle();
      call.removeListener('status', onStatus);
      const stream = new FramedStream(server.remote, carrierOf(call), deps.log);
      watch(call, stream, { client, credentials, target });
      resolve({ stream, challenge: new Uint8Array(challenge), serverKeyHash: server.keyHash });
    });
  });
}

const whereOf = (target: DialTarget): string => `${describe(target.expect)} at ${formatHostPort(target.address)}`;

interface Dialed {
  readonly client: Client;
  readonly credentials: CheckingCredentials;
  readonly target: DialTarget;
}

function watch(call: ControlCall, stream: FramedStream, { client, credentials, target }: Dialed): void {
  let drained = false;
  let end: StreamEnd | undefined;
  const finish = () => {
    if (end === undefined) return;
    // Messages that came before the end are delivered before it.
    if (drained || end.by === 'lost') stream.ended(end);
  };
  call.on('data', (bytes: Buffer) => stream.arrived(bytes));
  // Nothing is read before somebody listens.
  call.pause();
  call.once('end', () => {
    drained = true;
    finish();
  });
  call.once('status', (status: StatusObject) => {
    end = endOf(status, target);
    client.close();
    // A frozen server would hold the socket in half-closed state.
    if (end.by === 'lost') credentials.cut();
    else setTimeout(() => credentials.cut(), ENDING_GRACE).unref();
    finish();
  });
}

function endOf(status: StatusObject, target: DialTarget): StreamEnd {
  if (status.code === 0) return { by: 'remote' };
  const told = errorInTrailer(status.metadata);
  if (told !== undefined) return { by: 'remote', error: told };
  const error = errorOfStatus(status, target, undefined);
  return { by: isLoss(status.code) ? 'lost' : 'remote', error };
}

function carrierOf(call: ControlCall): Carrier {
  return {
    write: (bytes, taken) => {
      call.write(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), taken);
    },
    read: () => {
      call.resume();
    },
    finish: (error) => {
      // A client has no trailer to say why; a reset at least says that it was not a goodbye.
      if (error !== undefined) return call.cancel();
      call.end();
      call.resume();
      const cut = setTimeout(() => call.cancel(), ENDING_GRACE);
      call.once('status', () => clearTimeout(cut));
    },
  };
}
