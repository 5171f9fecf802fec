import type { Endpoint, HostPort, IpAddress } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { VpndError } from '../../model/errors.js';
import type { PeerId } from '../../model/ids.js';
import type { ControlMessage, UnaryCalls, UnaryName } from '../../model/messages.js';
import type { Millis } from '../../model/time.js';
import type { AbortSignalLike } from './clock.js';

/** A certificate chain and its key, both PEM. */
export interface TlsIdentity {
  readonly certificate: string;
  readonly privateKey: string;
}

/** Whom a dialler insists to reach; the certificate must say so and chain to the overlay's CA. */
export type ExpectedServer = { readonly kind: 'base' } | { readonly kind: 'supernode'; readonly id: PeerId };

export interface DialTarget {
  readonly address: HostPort;
  readonly expect: ExpectedServer;
  /** PEM of the overlay's CA, or of both while one takes the place of the other. */
  readonly ca: string;
  /** For mTLS; asked for at every dial, so that a renewed certificate is used. */
  readonly identity?: () => TlsIdentity;
}

/** Why a stream ended. */
export interface StreamEnd {
  /** `local`: this side ended it. `remote`: the other did, with `error` when it said why. `lost`: the connection broke. */
  readonly by: 'local' | 'remote' | 'lost';
  readonly error?: VpndError;
}

/** What became of a message handed to a stream. */
export type SendResult = 'sent' | 'overflow' | 'closed';

/**
 * One PersistentControlStream, either end, framed and parsed. Messages that do not parse end the stream with
 * `bad-message`. An overflowing outbox (the other side does not read) ends it with `overflow`.
 */
export interface ControlStream {
  readonly remote: Endpoint;
  send(message: ControlMessage): SendResult;
  /**
   * For what is better dropped than late: sent while less than a quarter of the outbox is taken, else dropped, and
   * `false`. Never ends the stream, and leaves room for everything else.
   */
  offer(message: ControlMessage): boolean;
  /** At most one listener; messages that came before it are delivered to it first, in order, each with its size in bytes. */
  listen(listener: { message(message: ControlMessage, bytes: number): void; ended(end: StreamEnd): void }): void;
  /** Ends both directions; a server's `error` reaches the peer as status and trailer. */
  end(error?: VpndError): void;
}

/** A stream as the dialling side gets it, after the server's challenge came. */
export interface DialedStream {
  readonly stream: ControlStream;
  /** 32 bytes. */
  readonly challenge: Bytes;
  /** SHA-256 of the server's TLS SubjectPublicKeyInfo. */
  readonly serverKeyHash: Bytes;
}

/** A stream as the accepting side gets it. The challenge has been sent. */
export interface AcceptedStream {
  readonly stream: ControlStream;
  readonly challenge: Bytes;
  /** SHA-256 of the key that this server showed on this connection. */
  readonly serverKeyHash: Bytes;
  /** Whose client certificate, checked against the CA, the connection carries. */
  readonly certified: PeerId | undefined;
  /** To be told once the peer has authenticated: its connection is no stranger's any more. */
  admitted?(): void;
}

export interface UnaryContext {
  readonly remote: IpAddress;
  readonly certified: PeerId | undefined;
  readonly signal: AbortSignalLike;
}

export type UnaryHandlers = {
  readonly [M in UnaryName]?: (request: UnaryCalls[M][0], context: UnaryContext) => Promise<UnaryCalls[M][1]>;
};

export interface ServeOptions {
  readonly listen: HostPort;
  /** PEM of the overlay's CA, or CAs, that client certificates are of; asked for when `renewed()` is called, too. */
  readonly ca: string | (() => string);
  /** Asked for at start; call `renewed()` on the server when it changed. */
  readonly identity: () => TlsIdentity;
  readonly control: (accepted: AcceptedStream) => void;
  readonly unary: UnaryHandlers;
}

export const caOf = ({ ca }: Pick<ServeOptions, 'ca'>): string => (typeof ca === 'string' ? ca : ca());

export interface Server {
  readonly address: Endpoint;
  /** Show the new certificate to new connections; running streams stay. */
  renewed(): void;
  /** Refuse new streams and calls, end the running ones, free the port. */
  close(): Promise<void>;
}

/** Control-plane networking. Real: src/transport/grpc-network.ts; twin: src/transport/memory-network.ts. */
export interface Network {
  /** Rejects with VpndError: unreachable, wrong-ca, unauthenticated, timeout. */
  dialControl(target: DialTarget, options: { timeout: Millis; signal?: AbortSignalLike }): Promise<DialedStream>;
  /** Rejects with the VpndError that the server answered, or unreachable, timeout, wrong-ca. */
  call<M extends UnaryName>(
    target: DialTarget,
    method: M,
    request: UnaryCalls[M][0],
    options: { timeout: Millis; signal?: AbortSignalLike },
  ): Promise<UnaryCalls[M][1]>;
  /**
   * The CA certificate (PEM) that a server shows, accepted only when its key has this hash; else `wrong-ca`. With no hash
   * the one that its own certificate is of: that is what somebody says, and something else has to bear it out.
   */
  fetchCa(address: HostPort, caKeyHash: Bytes | undefined, options: { timeout: Millis }): Promise<string>;
  /** Rejects with `port-in-use` or `bad-config`. */
  serve(options: ServeOptions): Promise<Server>;
  /** Close idle connections that calls left open. */
  close(): Promise<void>;
}
