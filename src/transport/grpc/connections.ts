import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import type { ServerDuplexStream, ServerUnaryCall } from '@grpc/grpc-js';
import { type Endpoint, parseIp, parsePort } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { PeerId } from '../../model/ids.js';
import { type Certified, certifiedSupernode } from './certificates.js';

/** One accepted TCP connection. */
export interface Connection {
  readonly socket: Socket;
  readonly remote: Endpoint;
  /** Hash of the TLS key that this connection was shown. */
  readonly keyHash: Bytes;
}

type AnyCall = Pick<
  ServerUnaryCall<unknown, unknown> | ServerDuplexStream<unknown, unknown>,
  'getPeer' | 'getAuthContext'
>;

/**
 * Open connections by the remote address that grpc-js names in a call: the way from a call to its connection that does
 * not reach into grpc-js.
 */
export class Connections {
  readonly #open = new Map<string, Connection>();
  readonly #certified = new WeakMap<Connection, { readonly by: Certified | undefined }>();
  #onEmpty: (() => void) | undefined;

  /** False for a socket that is gone already, or whose remote address and port another connection has. */
  add(socket: Socket, keyHash: Bytes): boolean {
    const key = `${socket.remoteAddress}:${socket.remotePort}`;
    const ip = parseIp(socket.remoteAddress ?? '');
    const port = parsePort(socket.remotePort ?? 0);
    // Two connections from one port are possible over two addresses of ours; nobody needs it, and calls would mix.
    if (!ip.ok || !port.ok || this.#open.has(key)) return false;
    this.#open.set(key, { socket, remote: { ip: ip.value, port: port.value }, keyHash });
    socket.once('close', () => {
      this.#open.delete(key);
      if (this.#open.size === 0) this.#onEmpty?.();
    });
    return true;
  }

  /** Undefined when the connection is gone already. */
  of(call: AnyCall): Connection | undefined {
    return this.#open.get(call.getPeer());
  }

  /** Whose client certificate the call's connection carries, if it is valid now. */
  certified(call: AnyCall, connection: Connection, ca: X509Certificate): PeerId | undefined {
    let known = this.#certified.get(connection);
    if (known === undefined) {
      // Undefined too when OpenSSL did not accept it as a client certificate of the CA.
      const raw = call.getAuthContext().sslPeerCertificate?.raw;
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
