import { statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import Database from 'better-sqlite3';
import { VpndError } from '../../model/errors.js';

/** Less than this free counts as full: SQLite reports a quota or a failed extension of its files as an I/O error. */
const HARDLY_ANY_SPACE = 256 * 1024;

/** Whatever SQLite or the file system threw while working on `path`, as a refusal a person can act on. */
export function storeError(path: string, thrown: unknown): unknown {
  if (thrown instanceof VpndError) return thrown;
  const code = codeOf(thrown);
  if (code === undefined) return thrown;
  const options = { cause: thrown, details: { path, reason: code } };
  if (code === 'SQLITE_FULL' || code === 'ENOSPC' || code === 'EDQUOT' || (isIoError(code) && hardlyAnySpace(path)))
    return new VpndError('disk-full', `${path} cannot be written: the disk is full; free some space`, {
      ...options,
      retryable: true,
    });
  if (/^SQLITE_(CORRUPT|NOTADB)/.test(code)) return corrupt(path, messageOf(thrown), thrown);
  // The statements are always the same: what they name is missing where the description of the tables is damaged.
  if (code === 'SQLITE_ERROR' && /no such (?:table|column)|has no column|malformed/.test(messageOf(thrown)))
    return corrupt(path, messageOf(thrown), thrown);
  if (/^SQLITE_(BUSY|LOCKED)/.test(code))
    return new VpndError('state-locked', `${path} is held by another process`, { ...options, retryable: true });
  if (/^SQLITE_(READONLY|PERM|AUTH)/.test(code) || code === 'EROFS')
    return new VpndError('state-unreadable', `${path} cannot be written: it is read-only for this user`, options);
  if (/^SQLITE_CANTOPEN/.test(code) || code === 'EACCES' || code === 'EPERM')
    return new VpndError(
      'state-unreadable',
      `${path} cannot be opened: permission denied or no such directory`,
      options,
    );
  if (isIoError(code) || /^E[A-Z]+$/.test(code))
    return new VpndError('state-unreadable', `${path} cannot be used: ${messageOf(thrown)} (${code})`, options);
  return thrown;
}

/** `what` is a short reason in brackets; the file is left as it was found. */
export const corrupt = (path: string, what: string, cause?: unknown): VpndError =>
  new VpndError(
    'state-corrupt',
    `${path} is damaged (${what}); restore it from a backup or move it away; it was left untouched`,
    { ...(cause === undefined ? {} : { cause }), details: { path } },
  );

/** Runs something on the database file, its errors translated. */
export function translating<T>(path: string, action: () => T): T {
  try {
    return action();
  } catch (thrown) {
    throw storeError(path, thrown);
  }
}

function codeOf(thrown: unknown): string | undefined {
  if (thrown instanceof Database.SqliteError) return thrown.code;
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined;
}

const isIoError = (code: string): boolean => /^(SQLITE_IOERR|SQLITE_CANTOPEN|SQLITE_PROTOCOL|EIO)/.test(code);

function hardlyAnySpace(path: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(dirname(path));
    return bavail * bsize < HARDLY_ANY_SPACE;
  } catch {
    return false;
  }
}

const messageOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown));
