import { createServer, type Socket, type Server as TcpServer } from 'node:net';
import { performance } from 'node:perf_hooks';
import type { DescService } from '@bufbuild/protobuf';
import type { ServiceDefinition, sendUnaryData, UntypedServiceImplementation } from '@grpc/grpc-js';
import { Server as GrpcServer, Metadata, type ServerUnaryCall } from '@grpc/grpc-js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Counter } from '../../core/ports/metrics.js';
import { caOf, type ServeOptions, type Server, type UnaryContext } from '../../core/ports/network.js';
import type { Random } from '../../core/ports/random.js';
import { limitKey } from '../../core/rate-limit.js';
import { Base } from '../../gen/vpnd/v1/base_pb.js';
import { Control } from '../../gen/vpnd/v1/control_pb.js';
import { Supernode } from '../../gen/vpnd/v1/supernode_pb.js';
import type { Endpoint } from '../../model/address.js';
import { formatHostPort, type HostPort, type Port, parseIp } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { PeerId } from '../../model/ids.js';
import type { UnaryCalls, UnaryName } from '../../model/messages.js';
import { seconds } from '../../model/time.js';
import { CHALLENGE_BYTES } from '../codec/limits.js';
import { UNARY } from '../codec/unary.js';
import { type Carrier, FramedStream } from '../framed-stream.js';
import { authoritiesOf, certificateOf, keyHash } from './certificates.js';
import { type Connection, Connections } from './connections.js';
import { ControlCall } from './control-call.js';
import { statusFor } from './errors.js';
import { ConnectionGuard, type GuardLimits, LOOK } from './guard.js';
import { CHALLENGE_KEY, CLOSING_GRACE, ENDING_GRACE, type Keepalive, SERVER_OPTIONS } from './options.js';
import { RenewableCredentials } from './server-credentials.js';
import { watchSessions } from './sessions.js';
import { addTooling } from './tooling.js';
import { WaitingRoom, type WaitingRoomLimits } from './waiting-room.js';

export interface ServerDeps {
  readonly log: Log;
  readonly random: Random;
  readonly maxConnections: number;
  readonly keepalive: Keepalive;
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly guard: GuardLimits;
  /** Connections that were refused or cut, by reason. */
  readonly refused: Counter<'reason'>;
}

/** Starts to serve. Rejects with VpndError `port-in-use`, `no-root`, `bad-config`. */
export async function startServer(options: ServeOptions, deps: ServerDeps): Promise<Server> {
  const serving = new Serving(options, deps);
  await serving.start();
  return serving;
}

const CONTROL_PATH = `/${Control.typeName}/${Control.method.persistentControlStream.name}`;

/**
 * Eight handshakes begun are some 5 ms, after which whatever else has arrived gets its turn. At 500 a second the room is
 * empty again before a dialler gives up (`DIAL_LIMIT`).
 */
const WAITING_ROOM: WaitingRoomLimits = { all: 4_096, perSender: 64, perTurn: 8, patience: seconds(10) };
/** Waiting for the process to accept them: more than a restart brings within one turn. */
const BACKLOG = 4_096;
/** Of one core. */
const BUSY = 0.5;

const pass = (bytes: Buffer): Buffer => bytes;

class Serving implements Server {
  readonly #options: ServeOptions;
  readonly #deps: ServerDeps;
  #ca;
  readonly #credentials: RenewableCredentials;
  readonly #guard: ConnectionGuard;
  readonly #connections: Connections;
  readonly #streams = new Set<FramedStream>();
  readonly #grpc: GrpcServer;
  readonly #waiting: WaitingRoom<Socket>;
  readonly #tcp: TcpServer;
  #keyHash: Bytes;
  #looking: NodeJS.Timeout | undefined;
  #address: Endpoint | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: ServeOptions, deps: ServerDeps) {
    this.#options = options;
    this.#deps = deps;
    this.#guard = new ConnectionGuard(deps.guard, { ...deps, isBusy: busySinceLastAsked() });
    this.#connections = new Connections(this.#guard);
    this.#ca = authoritiesOf(caOf(options));
    const identity = options.identity();
    this.#credentials = new RenewableCredentials(identity, caOf(options));
    this.#keyHash = keyHash(certificateOf(identity.certificate).publicKey);
    this.#grpc = new GrpcServer(SERVER_OPTIONS);
    const services: DescService[] = [Control, ...this.#addUnary()];
    addTooling(this.#grpc, services);
    // grpc-js could listen by itself, but tells nobody why it could not, and which key a connection was shown.
    const injector = this.#grpc.createConnectionInjector(this.#credentials);
    watchSessions(this.#grpc, this.#connections, {
      path: CONTROL_PATH,
      accept: (stream, connection) => this.#accept(new ControlCall(stream), connection),
    });
    this.#waiting = new WaitingRoom(WAITING_ROOM, {
      clock: deps.clock,
      letIn: (socket) => {
        const isIn = this.#closing === undefined && this.#connections.add(socket, this.#keyHash);
        if (isIn) injector.injectConnection(socket);
        else socket.destroy();
      },
      turnAway: (socket) => {
        if (this.#closing === undefined) deps.refused.inc({ reason: 'crowded' });
        socket.destroy();
      },
      later: setImmediate,
    });
    // What comes early waits in the kernel.
    this.#tcp = createServer({ noDelay: true, pauseOnConnect: true }, (socket) => {
      socket.on('error', () => {});
      const ip = parseIp(socket.remoteAddress ?? '');
      if (this.#closing === undefined && ip.ok && this.#guard.allows(ip.value))
        this.#waiting.enter(limitKey(ip.value), socket);
      else socket.destroy();
    });
    this.#tcp.maxConnections = deps.maxConnections;
    this.#drain = () => injector.drain(CLOSING_GRACE);
  }

  readonly #drain: () => void;

  get address(): Endpoint {
    if (this.#address === undefined) throw new Error('not listening yet');
    return this.#address;
  }

  async start(): Promise<void> {
    this.#address = await listen(this.#tcp, this.#options.listen);
    this.#looking = setInterval(() => this.#guard.look(), LOOK).unref();
    this.#tcp.on('error', (error) => this.#deps.log.warn('connections cannot be accepted', { err: error }));
  }

  renewed(): void {
    try {
      const identity = this.#options.identity();
      const hash = keyHash(certificateOf(identity.certificate).publicKey);
      const ca = caOf(this.#options);
      this.#credentials.renew(identity, ca);
      this.#ca = authoritiesOf(ca);
      this.#keyHash = hash;
    } catch (thrown) {
      // The certificate in use goes on to be shown: a broken new one must not end the service before its time.
      this.#deps.log.error('the renewed certificate cannot be used; the old one stays', { err: thrown });
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const freed = new Promise<void>((resolve) => this.#tcp.close(() => resolve()));
    for (const stream of [...this.#streams])
      stream.end(new VpndError('closed', 'the server is shutting down', { retryable: true }));
    this.#waiting.close();
    this.#drain();
    const cut = setTimeout(() => this.#connections.destroyAll(), CLOSING_GRACE);
    await this.#connections.whenEmpty();
    clearTimeout(cut);
    clearInterval(this.#looking);
    this.#grpc.forceShutdown();
    await freed;
  }

  #accept(call: ControlCall, connection: Connection): void {
    if (this.#closing !== undefined) {
      call.end(statusFor(new VpndError('closed', 'the server is shutting down', { retryable: true })));
      return;
    }
    const challenge = this.#deps.random.bytes(CHALLENGE_BYTES);
    const metadata = new Metadata();
    metadata.set(CHALLENGE_KEY, Buffer.from(challenge));
    call.respond(metadata);
    const { guarded } = connection;
    const { stream, over } = streamOn(call, connection, this.#deps.log);
    this.#streams.add(stream);
    let isAdmitted = false;
    // Nothing is read before somebody listens: what a peer sends early waits in its own flow control window.
    call.listen({
      message: (bytes) => {
        const pause = guarded.heard(bytes.length);
        stream.arrived(bytes);
        if (pause === 0) return;
        call.pause();
        setTimeout(() => call.resume(), pause).unref();
      },
      end: () => {
        // A connection that breaks shows as an end, too; that it broke is known by the next turn of the event loop.
        setImmediate(() => {
          if (call.isOver || connection.socket.destroyed) return;
          stream.ended({ by: 'remote' });
          // Agreeing lets the peer's side end without a reset.
          call.end();
        });
      },
      over: () => {
        over();
        this.#streams.delete(stream);
        stream.ended({ by: 'lost' });
        if (isAdmitted) guarded.dismissed();
      },
    });
    const admitted = () => {
      isAdmitted = true;
      guarded.admitted('peer');
    };
    try {
      const certified = this.#certified(() => call.certificate, connection);
      this.#options.control({ stream, challenge, serverKeyHash: connection.keyHash, certified, admitted });
    } catch (thrown) {
      this.#deps.log.error('a control stream could not be accepted', { err: thrown });
      stream.end(toVpndError(thrown));
    }
  }

  /** The supernode whose certificate the connection carries, which is no stranger then. */
  #certified(shown: () => Uint8Array | undefined, connection: Connection): PeerId | undefined {
    const certified = this.#connections.certified(shown, connection, this.#ca);
    if (certified !== undefined) connection.guarded.admitted('supernode');
    return certified;
  }

  /** Registers the calls that have a handler; answers with the services they belong to. */
  #addUnary(): DescService[] {
    const served: DescService[] = [];
    for (const service of [Base, Supernode]) {
      const names = Object.keys(service.method).filter(
        (name): name is UnaryName => this.#options.unary[name as UnaryName] !== undefined,
      );
      if (names.length === 0) continue;
      served.push(service);
      const definition: ServiceDefinition = Object.fromEntries(names.map((name) => [name, method(UNARY[name].path)]));
      const handlers: UntypedServiceImplementation = Object.fromEntries(
        names.map((name) => [name, this.#answering(name)]),
      );
      this.#grpc.addService(definition, handlers);
    }
    return served;
  }

  #answering(name: UnaryName) {
    return (call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>): void => {
      this.#answer(name, call).then(
        (response) => answer(null, response),
        (thrown) => answer(statusFor(toVpndError(thrown))),
      );
    };
  }

  async #answer<M extends UnaryName>(name: M, call: ServerUnaryCall<Buffer, Buffer>): Promise<Buffer> {
    const connection = this.#connections.of(call);
    const handler = this.#options.unary[name] as
      | ((request: UnaryCalls[M][0], context: UnaryContext) => Promise<UnaryCalls[M][1]>)
      | undefined;
    if (connection === undefined || this.#closing !== undefined)
      throw new VpndError('closed', 'the server is shutting down', { retryable: true });
    if (handler === undefined) throw new VpndError('not-supported', `${name} is not served here`);
    connection.guarded.heard(call.request.length);
    const request = UNARY[name].request.decode(call.request);
    if (!request.ok) throw request.error;
    const abort = new AbortController();
    call.once('cancelled', () => abort.abort(new VpndError('closed', 'the caller is gone')));
    try {
      const certified = this.#certified(() => call.getAuthContext().sslPeerCertificate?.raw, connection);
      const response = await handler(request.value, {
        remote: connection.remote.ip,
        certified,
        signal: abort.signal,
      });
      return Buffer.from(UNARY[name].response.encode(response));
    } catch (thrown) {
      if (!(thrown instanceof VpndError) || thrown.code === 'internal')
        this.#deps.log.error('a call failed inside', { err: thrown, reason: name });
      throw thrown;
    }
  }
}

/** Messages pass as bytes: parsing is the codec's, so that a malformed one gets vpnd's answer and not grpc-js's. */
const method = (path: string) => ({
  path,
  requestStream: false,
  responseStream: false,
  requestSerialize: pass,
  requestDeserialize: pass,
  responseSerialize: pass,
  responseDeserialize: pass,
});

/** Whether the event loop had work for more than half of the time since the last question. */
function busySinceLastAsked(): () => boolean {
  let before = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    return utilization > BUSY;
  };
}

/** A control stream on its call; `over` is to be called when that is. */
function streamOn(
  call: ControlCall,
  connection: Connection,
  log: Log,
): { readonly stream: FramedStream; readonly over: () => void } {
  let cut: NodeJS.Timeout | undefined;
  const carrier: Carrier = {
    write: (bytes, taken) => call.write(bytes, taken),
    read: () => call.resume(),
    finish: (error) => {
      call.end(error === undefined ? undefined : statusFor(error));
      call.resume();
      // The goodbye stands behind whatever the peer has not read; a peer that reads nothing never gets it.
      cut = setTimeout(() => connection.socket.destroy(), ENDING_GRACE);
      cut.unref();
    },
  };
  return { stream: new FramedStream(connection.remote, carrier, log), over: () => clearTimeout(cut) };
}

/** Rejects as `startServer`. */
export function listen(server: TcpServer, at: HostPort): Promise<Endpoint> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(listenError(error, at)));
    server.listen({ host: at.host, port: at.port, backlog: BACKLOG }, () => {
      server.removeAllListeners('error');
      const bound = server.address();
      const ip = typeof bound === 'object' && bound !== null ? parseIp(bound.address) : undefined;
      if (ip?.ok && typeof bound === 'object' && bound !== null) resolve({ ip: ip.value, port: bound.port as Port });
      else reject(new VpndError('bad-config', `${formatHostPort(at)} is not an IP address and port to listen on`));
    });
  });
}

function listenError(error: NodeJS.ErrnoException, at: HostPort): VpndError {
  const where = formatHostPort(at);
  const options = { cause: error, details: { address: at.host, port: String(at.port) } };
  switch (error.code) {
    case 'EADDRINUSE':
      return new VpndError(
        'port-in-use',
        `${where} is in use by another process; stop that one, or choose another with --listen`,
        options,
      );
    case 'EADDRNOTAVAIL':
      return new VpndError('bad-config', `${where}: ${at.host} is not an address of this machine`, options);
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new VpndError('bad-config', `${where}: ${at.host} does not resolve to an address`, options);
    case 'EACCES':
      return new VpndError(
        'no-root',
        `${where}: listening on port ${at.port} needs root or CAP_NET_BIND_SERVICE`,
        options,
      );
    default:
      return new VpndError('bad-config', `${where} cannot be listened on: ${error.message}`, options);
  }
}
