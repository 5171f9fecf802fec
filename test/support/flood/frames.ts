/** HTTP/2 frames by hand (RFC 9113), with as much of HPACK (RFC 7541) as a gRPC call takes: what no client library would send. */

const TYPES = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  window: 8,
  continuation: 9,
  unknown: 0xee,
} as const;

export const END_STREAM = 1;
export const END_HEADERS = 4;

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');

export function frame(
  type: keyof typeof TYPES,
  flags: number,
  stream: number,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = TYPES[type];
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

export const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** A gRPC message in a DATA frame. */
export function message(stream: number, bytes: Buffer, { compressed = false, flags = 0 } = {}): Buffer {
  return frame('data', flags, stream, Buffer.concat([Buffer.from([compressed ? 1 : 0]), u32(bytes.length), bytes]));
}

/** The first headers of a connection: a call of this method, all of it put into the table for `headersAgain`. */
export function headers(path: string, more: Readonly<Record<string, string>> = {}): Buffer {
  return Buffer.concat([
    Buffer.from([0x83, 0x87]),
    Buffer.from([0x44]),
    text(path),
    Buffer.from([0x41]),
    text('vpnd'),
    Buffer.from([0x5f]),
    text('application/grpc'),
    Buffer.from([0x40]),
    text('te'),
    text('trailers'),
    ...Object.entries(more).map(([name, value]) => field(name, value)),
  ]);
}

/** The same headers in six bytes. */
export const headersAgain = (): Buffer => Buffer.from([0x83, 0x87, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);

/** A field that is put into no table. */
export const field = (name: string, value: string): Buffer =>
  Buffer.concat([Buffer.from([0]), text(name), text(value)]);

/** A string of HPACK, without Huffman's code. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const length = [Math.min(bytes.length, 127)];
  if (bytes.length >= 127) {
    let rest = bytes.length - 127;
    for (; rest >= 128; rest >>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}
