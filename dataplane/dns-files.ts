import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  symlinkSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import type { Place } from './dns-text.js';

/** Files as the resolver's configuration needs them. What returns has reached the disk; errors are Node's, with an errno in `code`. */
export interface DnsFiles {
  /** What is at a path itself: a link is not followed. Throws EFBIG for what no resolver's configuration is, EISDIR for no file. */
  look(path: string): Place;
  /** What a program reads there, links followed; undefined where it cannot be read. */
  read(path: string): string | undefined;
  /** Whether something is mounted on exactly this path: it can be written to and not replaced. */
  isMounted(path: string): boolean;
  /** A new file or link; what has that name is removed first. */
  make(path: string, content: Exclude<Place, { kind: 'nothing' }>): void;
  /** `from` in the place of `to`, at once. */
  rename(from: string, to: string): void;
  /** Other text in the same file. */
  overwrite(path: string, text: string): void;
  /** Nothing happens where nothing is. */
  remove(path: string): void;
}

const MOST_BYTES = 64 * 1024;
const MODE_BITS = 0o7777;

export const nodeDnsFiles: DnsFiles = {
  look(path) {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat === undefined) return { kind: 'nothing' };
    if (stat.isSymbolicLink()) return { kind: 'link', target: readlinkSync(path, 'latin1') };
    if (!stat.isFile()) throw errno('EISDIR', path);
    return { kind: 'file', text: readWhole(path, constants.O_NOFOLLOW), mode: stat.mode & MODE_BITS };
  },
  read(path) {
    try {
      return readWhole(path, 0);
    } catch {
      return undefined;
    }
  },
  isMounted(path) {
    // Field 5 of proc_pid_mountinfo(5); blanks and backslashes in it are octal.
    const points = readFileSync('/proc/self/mountinfo', 'latin1')
      .split('\n')
      .map((line) => (line.split(' ')[4] ?? '').replace(/\\([0-7]{3})/g, (_, octal) => byte(octal)));
    return points.includes(path);
  },
  make(path, content) {
    this.remove(path);
    if (content.kind === 'link') symlinkSync(Buffer.from(content.target, 'latin1'), path);
    else {
      const fd = openSync(
        path,
        constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
        0o600,
      );
      try {
        writeAll(fd, content.text);
        fchmodSync(fd, content.mode);
        fsyncSync(fd);
      } finally {
        closeSync(fd);
      }
    }
    syncDirectory(path);
  },
  rename(from, to) {
    renameSync(from, to);
    syncDirectory(to);
  },
  overwrite(path, text) {
    const fd = openSync(path, constants.O_WRONLY);
    try {
      writeAll(fd, text);
      ftruncateSync(fd, text.length);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
  },
  remove(path) {
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
    unlinkSync(path);
    syncDirectory(path);
  },
};

function readWhole(path: string, flags: number): string {
  // Not to wait for a pipe's other end.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK | flags);
  try {
    if (!fstatSync(fd).isFile()) throw errno('EISDIR', path);
    const bytes = Buffer.alloc(MOST_BYTES + 1);
    let size = 0;
    for (let got = 1; got > 0 && size < bytes.length; size += got)
      got = readSync(fd, bytes, size, bytes.length - size, null);
    if (size > MOST_BYTES) throw errno('EFBIG', path);
    return bytes.toString('latin1', 0, size);
  } finally {
    closeSync(fd);
  }
}

function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text, 'latin1');
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, at);
}

/** A new name is on disk when its directory is. */
function syncDirectory(path: string): void {
  const fd = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

const byte = (octal: string): string => String.fromCharCode(Number.parseInt(octal, 8));

const errno = (code: string, path: string): NodeJS.ErrnoException =>
  Object.assign(new Error(`${path}: ${code}`), { code });
