/**
 * Reads a SQLite write-ahead log (https://www.sqlite.org/fileformat.html#walformat) without SQLite, which could only
 * look at it by recovering it, and so by changing files that may be damaged or belong to a newer vpnd.
 */

const HEADER = 32;
const FRAME_HEADER = 24;
const MAGIC = 0x377f0682;

/** The database as its next opener will see it: the main file with every committed frame of the log put in place. */
export function withLog(main: Buffer, log: Buffer): Buffer {
  if (log.length < HEADER || (log.readUInt32BE(0) & ~1) >>> 0 !== MAGIC) return main;
  const little = (log.readUInt32BE(0) & 1) === 0;
  const pageSize = log.readUInt32BE(8);
  if (pageSize < 512 || pageSize > 65536 || (pageSize & (pageSize - 1)) !== 0) return main;
  let sum = checksum(log.subarray(0, 24), [0, 0], little);
  if (sum[0] !== log.readUInt32BE(24) || sum[1] !== log.readUInt32BE(28)) return main;

  const pages = new Map<number, Buffer>();
  let pending = new Map<number, Buffer>();
  let size: number | undefined;
  for (let at = HEADER; at + FRAME_HEADER + pageSize <= log.length; at += FRAME_HEADER + pageSize) {
    const page = log.subarray(at + FRAME_HEADER, at + FRAME_HEADER + pageSize);
    // Frames of an earlier round, or torn by a power cut, end the log, as they do for SQLite.
    if (log.compare(log, 16, 24, at + 8, at + 16) !== 0) break;
    sum = checksum(page, checksum(log.subarray(at, at + 8), sum, little), little);
    if (sum[0] !== log.readUInt32BE(at + 16) || sum[1] !== log.readUInt32BE(at + 20)) break;
    pending.set(log.readUInt32BE(at), page);
    const committedSize = log.readUInt32BE(at + 4);
    if (committedSize === 0) continue;
    for (const [number, content] of pending) pages.set(number, content);
    pending = new Map();
    size = committedSize;
  }
  if (size === undefined) return main;

  const image = Buffer.alloc(size * pageSize);
  main.copy(image, 0, 0, Math.min(main.length, image.length));
  for (const [number, content] of pages)
    if (number >= 1 && number <= size) content.copy(image, (number - 1) * pageSize);
  return image;
}

type Sum = readonly [number, number];

function checksum(bytes: Buffer, [start0, start1]: Sum, little: boolean): Sum {
  let s0 = start0;
  let s1 = start1;
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    s0 = (s0 + (little ? bytes.readUInt32LE(at) : bytes.readUInt32BE(at)) + s1) >>> 0;
    s1 = (s1 + (little ? bytes.readUInt32LE(at + 4) : bytes.readUInt32BE(at + 4)) + s0) >>> 0;
  }
  return [s0, s1];
}
