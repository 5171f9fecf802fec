import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  renameSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { VpndError } from '../model/errors.js';

/** Key files are small; whatever is larger is not one. */
const SIZE_LIMIT = 64 * 1024;
const FOREIGN_ACCESS = 0o077;
const OLD = 'old';

/**
 * A key file's text, or undefined when there is none. A file that others may read is closed to them, and `warn` told.
 * Throws `state-unreadable` naming the file.
 */
export function readPrivateFile(path: string, warn: (text: string) => void): string | undefined {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw fileError(path, thrown);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new VpndError('state-unreadable', `${path} is not a regular file`);
    if (stat.size > SIZE_LIMIT)
      throw new VpndError('state-unreadable', `${path} is too large for what it should hold; it was left untouched`);
    if ((stat.mode & FOREIGN_ACCESS) !== 0) {
      chmodSync(path, 0o600);
      warn(`${path} could be read by other users; its mode is now 0600. Replace the key if somebody else had access.`);
    }
    return readFileSync(fd, 'utf8');
  } catch (thrown) {
    throw fileError(path, thrown);
  } finally {
    closeSync(fd);
  }
}

/**
 * Puts a file in place whole or not at all, mode 0600, surviving a power cut: written beside it, synced, renamed, and
 * the directory synced. Throws `disk-full` or `state-unreadable`.
 */
export function writePrivateFile(path: string, text: string): void {
  const temporary = `${path}.${randomBytes(6).toString('hex')}.tmp`;
  try {
    const fd = openSync(temporary, 'wx', 0o600);
    try {
      const bytes = Buffer.from(text, 'utf8');
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
    syncDirectory(dirname(path));
  } catch (thrown) {
    try {
      unlinkSync(temporary);
    } catch {
      // It was never made, or is already in place.
    }
    throw fileError(path, thrown);
  }
}

/**
 * Puts a file in the place of another whose text must not stay on the disk: what was there is overwritten once the new
 * one is in place. A file system that never writes twice to one place (a log-structured one, a flash disk's) keeps it all
 * the same. Throws as `writePrivateFile`; a crash in between leaves the old text under another name, for `eraseLeftovers`.
 */
export function replacePrivateFile(path: string, text: string): void {
  const old = `${path}.${OLD}`;
  try {
    eraseFile(old);
    linkSync(path, old);
  } catch (thrown) {
    if (errnoOf(thrown) !== 'ENOENT') throw fileError(path, thrown);
  }
  writePrivateFile(path, text);
  eraseLeftovers(path);
}

/** Ends what a crash during `replacePrivateFile` left. */
export function eraseLeftovers(path: string): void {
  try {
    eraseFile(`${path}.${OLD}`);
  } catch (thrown) {
    throw fileError(path, thrown);
  }
}

/** Overwrites a file and removes it; nothing where there is none. Throws what the file system throws. */
export function eraseFile(path: string): void {
  let fd: number;
  try {
    fd = openSync(path, 'r+');
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return;
    throw thrown;
  }
  try {
    writeSync(fd, Buffer.alloc(fstatSync(fd).size), 0, undefined, 0);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  unlinkSync(path);
  syncDirectory(dirname(path));
}

export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A failed file operation as a refusal that says which path and what to do. */
export function fileError(path: string, thrown: unknown): VpndError {
  if (thrown instanceof VpndError) return thrown;
  const errno = errnoOf(thrown);
  const options = { cause: thrown, details: { path, errno: errno ?? '' } };
  switch (errno) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new VpndError('disk-full', `${path} cannot be written: the disk is full (${errno}); free some space`, {
        ...options,
        retryable: true,
      });
    case 'EACCES':
    case 'EPERM':
      return new VpndError(
        'state-unreadable',
        `${path} cannot be used: permission denied; run vpnd as the user that owns it`,
        options,
      );
    case 'EROFS':
      return new VpndError('state-unreadable', `${path} cannot be written: the file system is read-only`, options);
    case 'ENOTDIR':
    case 'EEXIST':
      return new VpndError(
        'state-unreadable',
        `${path} cannot be used: a part of that path is not a directory; give another --state-dir`,
        options,
      );
    case 'EISDIR':
      return new VpndError('state-unreadable', `${path} is a directory where a file should be`, options);
    default:
      return new VpndError(
        'state-unreadable',
        `${path} cannot be used: ${thrown instanceof Error ? thrown.message : String(thrown)}`,
        options,
      );
  }
}

export const errnoOf = (thrown: unknown): string | undefined =>
  thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined;
