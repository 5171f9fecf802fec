import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import type { ServerUnaryCall } from '@grpc/grpc-js';
import { type Endpoint, parseIp, parsePort } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { PeerId } from '../../model/ids.js';
import { type Certified, certifiedSupernode } from './certificates.js';
import type { ConnectionGuard, Watched } from './guard.js';

/** One accepted TCP connection. */
export interface Connection {
  readonly socket: Socket;
  readonly remote: Endpoint;
  /** Hash of the TLS key that this connection was shown. */
  readonly keyHash: Bytes;
  readonly guarded: Watched;
  /** Stops what HTTP/2 still has to work through; the socket alone would go on to be read to the end of a buffer. */
  stop: (() => void) | undefined;
  /** An HTTP/2 ping. */
  ping: (() => void) | undefined;
}

type AnyCall = Pick<ServerUnaryCall<unknown, unknown>, 'getPeer'>;

/**
 * Open connections by the remote address that grpc-js names in a call: the way from a call to its connection that does
 * not reach into grpc-js.
 */
export class Connections {
  readonly #open = new Map<string, Connection>();
  readonly #certified = new WeakMap<Connection, { readonly by: Certified | undefined }>();
  readonly #guard: ConnectionGuard;
  #onEmpty: (() => void) | undefined;

  constructor(guard: ConnectionGuard) {
    this.#guard = guard;
  }

  /** False for a socket that is gone already, or whose remote address and port another has. */
  add(socket: Socket, keyHash: Bytes): boolean {
    const key = `${socket.remoteAddress}:${socket.remotePort}`;
    const ip = parseIp(socket.remoteAddress ?? '');
    const port = parsePort(socket.remotePort ?? 0);
    // Two connections from one port are possible over two addresses of ours; nobody needs it, and calls would mix.
    if (!ip.ok || !port.ok || this.#open.has(key)) return false;
    const guarded = this.#guard.watch(ip.value, {
      get bytesRead() {
        return socket.bytesRead;
      },
      get bytesWritten() {
        return socket.bytesWritten;
      },
      ping: () => connection.ping?.(),
      // Never from inside HTTP/2's own work, which Node's does not survive.
      cut: () =>
        void setImmediate(() => {
          connection.stop?.();
          socket.destroy();
        }),
    });
    const remote = { ip: ip.value, port: port.value };
    const connection: Connection = { socket, remote, keyHash, guarded, stop: undefined, ping: undefined };
    this.#open.set(key, connection);
    socket.once('close', () => {
      guarded.left();
      this.#open.delete(key);
      if (this.#open.size === 0) this.#onEmpty?.();
    });
    return true;
  }

  /** The connection that comes from there. */
  from(socket: Pick<Socket, 'remoteAddress' | 'remotePort'>): Connection | undefined {
    return this.#open.get(`${socket.remoteAddress}:${socket.remotePort}`);
  }

  /** Undefined when the connection is gone already. */
  of(call: AnyCall): Connection | undefined {
    return this.#open.get(call.getPeer());
  }

  /** Whose client certificate (DER) the connection has shown, if it is valid now. */
  certified(
    shown: () => Uint8Array | undefined,
    connection: Connection,
    ca: readonly X509Certificate[],
  ): PeerId | undefined {
    let known = this.#certified.get(connection);
    if (known === undefined) {
      // Undefined too when OpenSSL did not accept it as a client certificate of the CA.
      const raw = shown();
      known = { by: raw === undefined ? undefined : certifiedSupernode(raw, ca) };
      this.#certified.set(connection, known);
    }
    const now = Date.now();
    return known.by !== undefined && known.by.notBefore <= now && now <= known.by.notAfter ? known.by.peer : undefined;
  }

  get size(): number {
    return this.#open.size;
  }

  destroyAll(): void {
    for (const { socket } of this.#open.values()) socket.destroy();
  }

  whenEmpty(): Promise<void> {
    return new Promise((resolve) => {
      if (this.#open.size === 0) resolve();
      else this.#onEmpty = resolve;
    });
  }
}
