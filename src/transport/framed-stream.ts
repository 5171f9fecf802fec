import type { Log } from '../core/ports/log.js';
import type { ControlStream, SendResult, StreamEnd } from '../core/ports/network.js';
import type { Endpoint } from '../model/address.js';
import { toVpndError, VpndError } from '../model/errors.js';
import type { ControlMessage } from '../model/messages.js';
import { decodeControl, encodeControl } from './codec/control.js';
import { MAX_MESSAGE_BYTES } from './codec/limits.js';

/** Messages and bytes handed to a stream and not taken by the other side yet. */
export const OUTBOX_MESSAGES = 256;
export const OUTBOX_BYTES = 1024 * 1024;
/** The part of the outbox that messages which are only offered may take. */
const OFFERED_PART = 1 / 4;

type Listener = Parameters<ControlStream['listen']>[0];

/** What a control stream needs of the connection it runs on. */
export interface Carrier {
  /** Hands one message over; `taken` runs once the other side has room for it. */
  write(bytes: Uint8Array, taken: () => void): void;
  /** Start calling `arrived`. Nothing is read, and so nothing buffered, before. */
  read(): void;
  /** Say goodbye, with the reason where the direction has room for one. Never called twice. */
  finish(error: VpndError | undefined): void;
}

/** The reason that a stream is ended with when its other side does not read. */
export const overflowed = (): VpndError =>
  new VpndError('closed', 'the other side does not read its messages', {
    details: { reason: 'overflow' },
    retryable: true,
  });

/** The rules of a ControlStream that do not depend on what carries it: bounded outbox, parsing, one end. */
export class FramedStream implements ControlStream {
  readonly remote: Endpoint;
  readonly #carrier: Carrier;
  readonly #log: Log;
  #listener: Listener | undefined;
  #end: StreamEnd | undefined;
  #told = false;
  #messages = 0;
  #bytes = 0;

  constructor(remote: Endpoint, carrier: Carrier, log: Log) {
    this.remote = remote;
    this.#carrier = carrier;
    this.#log = log;
  }

  send(message: ControlMessage): SendResult {
    if (this.#end !== undefined) return 'closed';
    const bytes = encoded(message);
    if (this.#messages >= OUTBOX_MESSAGES || this.#bytes + bytes.length > OUTBOX_BYTES) {
      this.end(overflowed());
      return 'overflow';
    }
    this.#write(bytes);
    return 'sent';
  }

  offer(message: ControlMessage): boolean {
    if (this.#end !== undefined) return false;
    if (this.#messages >= OUTBOX_MESSAGES * OFFERED_PART || this.#bytes >= OUTBOX_BYTES * OFFERED_PART) return false;
    this.#write(encoded(message));
    return true;
  }

  listen(listener: Listener): void {
    this.#listener = listener;
    this.#carrier.read();
    this.#tell();
  }

  end(error?: VpndError): void {
    if (this.#end !== undefined) return;
    this.ended(error === undefined ? { by: 'local' } : { by: 'local', error });
    this.#carrier.finish(error);
  }

  /** Of the carrier: bytes of one message came. */
  arrived(bytes: Uint8Array): void {
    if (this.#end !== undefined) return;
    const parsed = decodeControl(bytes);
    if (!parsed.ok) {
      this.end(parsed.error);
      return;
    }
    if (!parsed.value.known) {
      this.#log.debug('ignored a message of a newer version', { reason: parsed.value.what });
      return;
    }
    try {
      this.#listener?.message(parsed.value.value, bytes.length);
    } catch (thrown) {
      // One stream's message must not take the process, and so everybody's streams, down.
      this.#log.error('a control message could not be handled', { err: thrown });
      this.end(toVpndError(thrown));
    }
  }

  /** Of the carrier: it is over. Only the first reason counts. */
  ended(end: StreamEnd): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#tell();
  }

  #write(bytes: Uint8Array): void {
    this.#messages += 1;
    this.#bytes += bytes.length;
    this.#carrier.write(bytes, () => {
      this.#messages -= 1;
      this.#bytes -= bytes.length;
    });
  }

  #tell(): void {
    if (this.#end === undefined || this.#listener === undefined || this.#told) return;
    this.#told = true;
    const listener = this.#listener;
    const end = this.#end;
    // Never from inside send() or end(): their callers have not returned to a consistent state yet.
    queueMicrotask(() => {
      try {
        listener.ended(end);
      } catch (thrown) {
        this.#log.error('the end of a stream could not be handled', { err: thrown });
      }
    });
  }
}

/** News is often the same message to thousands of streams, one after the other. */
let latestNews: { readonly message: ControlMessage; readonly bytes: Uint8Array } | undefined;

/** Nobody changes the bytes: they may be on their way to others. */
function encoded(message: ControlMessage): Uint8Array {
  if (message === latestNews?.message) return latestNews.bytes;
  const bytes = encodeControl(message);
  if (bytes.length > MAX_MESSAGE_BYTES)
    throw new VpndError('internal', `a ${message.kind} of ${bytes.length} bytes is too large to send`);
  if (message.kind === 'event') latestNews = { message, bytes };
  return bytes;
}
