import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import { TLSSocket } from 'node:tls';
import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import { MAX_MESSAGE_BYTES } from '../codec/limits.js';

/** Ahead of each message: whether it is compressed, and its length (gRPC over HTTP/2, Length-Prefixed-Message). */
const PREFIX_BYTES = 5;

const RESPONSE = {
  [constants.HTTP2_HEADER_STATUS]: 200,
  [constants.HTTP2_HEADER_CONTENT_TYPE]: 'application/grpc+proto',
  'grpc-accept-encoding': 'identity',
} as const;

const OK = { code: status.OK, details: 'OK', metadata: new Metadata() } as const satisfies StatusObject;

export interface ControlCallListener {
  /** One message, without its prefix. */
  message(bytes: Buffer): void;
  /** The other side sends no more. */
  end(): void;
  /** It is over, both ways; called once. */
  over(): void;
}

/** Whether an HTTP/2 stream asks for this gRPC method. */
export function isCallOf(path: string, headers: IncomingHttpHeaders): boolean {
  return (
    headers[constants.HTTP2_HEADER_PATH] === path &&
    String(headers[constants.HTTP2_HEADER_CONTENT_TYPE]).startsWith('application/grpc')
  );
}

/**
 * The server's end of a bidirectional gRPC call, straight on its HTTP/2 stream. A supernode holds thousands of them for
 * hours: what grpc-js keeps for each besides, and does for each message, is for cases that a control stream does not
 * have (decision 0044). Messages come as they are; a compressed one ends the call.
 */
export class ControlCall {
  readonly #stream: ServerHttp2Stream;
  #listener: ControlCallListener | undefined;
  /** Of a message that has not come whole, or that nobody wants yet. */
  #chunks: Buffer[] = [];
  #held = 0;
  #paused = true;
  #emptying = false;
  #halfClosed = false;
  #endTold = false;
  #responded = false;
  #status: StatusObject | undefined;
  #over = false;

  constructor(stream: ServerHttp2Stream) {
    this.#stream = stream;
    // Every error is followed by `close`.
    stream.on('error', () => {});
    stream.once('close', () => this.#ended());
  }

  /** Whether nothing comes or goes any more. */
  get isOver(): boolean {
    return this.#over || this.#stream.destroyed || this.#stream.closed;
  }

  /** The other side's certificate (DER), where it is one that TLS has accepted. */
  get certificate(): Buffer | undefined {
    const socket = this.#stream.session?.socket;
    return socket instanceof TLSSocket && socket.authorized ? socket.getPeerCertificate().raw : undefined;
  }

  /** The initial metadata, before anything else. */
  respond(metadata: Metadata): void {
    if (this.isOver) return;
    this.#responded = true;
    this.#stream.respond({ ...RESPONSE, ...metadata.toHttp2Headers() }, { waitForTrailers: true });
  }

  /** Nothing is read, and so nothing comes, before `resume`. */
  listen(listener: ControlCallListener): void {
    this.#listener = listener;
    this.#stream.on('data', (chunk: Buffer) => {
      this.#chunks.push(chunk);
      this.#held += chunk.length;
      this.#empty();
    });
    this.#stream.pause();
    this.#stream.once('end', () => {
      this.#halfClosed = true;
      this.#empty();
    });
  }

  pause(): void {
    this.#paused = true;
    this.#stream.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#empty();
    if (!this.#paused) this.#stream.resume();
  }

  /** `taken` runs once the other side has room for it; never where it breaks before. */
  write(message: Uint8Array, taken: () => void): void {
    if (this.isOver || this.#status !== undefined) return;
    const frame = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
    frame[0] = 0;
    frame.writeUInt32BE(message.length, 1);
    frame.set(message, PREFIX_BYTES);
    this.#stream.write(frame, (error) => {
      if (error === undefined || error === null) taken();
    });
  }

  /** Ends it behind what was written. Only the first status counts. */
  end(ending: StatusObject = OK): void {
    if (this.isOver || this.#status !== undefined) return;
    this.#status = ending;
    const trailers = {
      'grpc-status': ending.code,
      'grpc-message': encodeURI(ending.details),
      ...ending.metadata.toHttp2Headers(),
    };
    if (!this.#responded) {
      this.#stream.respond({ ...trailers, ...RESPONSE }, { endStream: true });
      process.nextTick(() => this.#ended());
      return;
    }
    this.#stream.once('wantTrailers', () => {
      this.#stream.sendTrailers(trailers);
      process.nextTick(() => this.#ended());
    });
    this.#stream.end();
  }

  /** Hands out what has come whole, for as long as somebody takes it. */
  #empty(): void {
    if (this.#emptying) return;
    this.#emptying = true;
    while (!this.#paused && !this.#over) {
      const message = this.#next();
      if (message === undefined) break;
      this.#listener?.message(message);
    }
    this.#emptying = false;
    if (this.#halfClosed && !this.#endTold && !this.#paused && !this.#over) {
      this.#endTold = true;
      this.#listener?.end();
    }
  }

  #next(): Buffer | undefined {
    // After the end nothing is of interest, and a flood must not be kept.
    if (this.#status !== undefined) {
      this.#chunks = [];
      this.#held = 0;
    }
    if (this.#held < PREFIX_BYTES) return undefined;
    let [first] = this.#chunks;
    if (first === undefined) return undefined;
    // Prefixes are hardly ever cut in two, and messages not often.
    if (first.length < PREFIX_BYTES) first = this.#join();
    const length = first.readUInt32BE(1);
    if (length > MAX_MESSAGE_BYTES) {
      this.#refuse(status.RESOURCE_EXHAUSTED, `Received message larger than max (${length} vs ${MAX_MESSAGE_BYTES})`);
      return undefined;
    }
    if (first[0] !== 0) {
      this.#refuse(status.UNIMPLEMENTED, 'messages are sent without compression');
      return undefined;
    }
    const whole = PREFIX_BYTES + length;
    if (this.#held < whole) return undefined;
    if (first.length < whole) first = this.#join();
    this.#held -= whole;
    if (first.length === whole) this.#chunks.shift();
    else this.#chunks[0] = first.subarray(whole);
    return first.subarray(PREFIX_BYTES, whole);
  }

  #join(): Buffer {
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all];
    return all;
  }

  #refuse(code: status, details: string): void {
    this.end({ code, details, metadata: new Metadata() });
    this.#chunks = [];
    this.#held = 0;
  }

  #ended(): void {
    if (this.#over) return;
    this.#over = true;
    this.#chunks = [];
    this.#held = 0;
    // What still comes is read and forgotten: unread, it would hold the connection up.
    this.#stream.resume();
    this.#listener?.over();
  }
}
