import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';

/** A token, a password or a key fits many times. */
const SIZE_LIMIT = 64 * 1024;
const OTHERS_READ = 0o004;
const GROUP_READS = 0o040;
const OTHERS_OR_GROUP_WRITE = 0o022;

/** Why a file is not taken for a secret: the end of a sentence that begins with its path. */
export class SecretFileError extends Error {
  override readonly name = 'SecretFileError';
}

/** Who reads it. */
export interface Reader {
  /** Whose files are trusted: root, the user that reads, and who called sudo. */
  readonly mayOwn: readonly number[];
  /** Groups that are the reader's own. */
  readonly groups: readonly number[];
}

export function readerOf(env: Readonly<Record<string, string | undefined>>): Reader {
  const euid = process.geteuid?.() ?? 0;
  // Only root may have become so by sudo; for anybody else the variable is just a claim.
  const sudo = euid === 0 && /^\d{1,10}$/.test(env.SUDO_UID ?? '') ? [Number(env.SUDO_UID)] : [];
  return { mayOwn: [0, euid, ...sudo], groups: [0, process.getegid?.() ?? 0] };
}

/**
 * The secret a file holds, without the line end that an editor put behind it. Whoever can change the file decides which
 * overlay this machine joins, so that one which others can change is refused; one which others can read is taken, and
 * `warn` told, since the secret may be one that is good for a single use within the hour.
 *
 * Throws SecretFileError, and what node:fs throws.
 */
export function readSecretFile(path: string, reader: Reader, warn: (text: string) => void): string {
  // Without waiting: somebody else's FIFO could hold up the start for ever.
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    const refusal = refusalOf(stat, reader);
    if (refusal !== undefined) throw new SecretFileError(refusal);
    const mode = stat.mode;
    if ((mode & OTHERS_READ) !== 0 || ((mode & GROUP_READS) !== 0 && !reader.groups.includes(stat.gid)))
      warn(`'${path}' can be read by other users of this machine (mode ${octal(mode)}); chmod 600 it`);
    const text = readFileSync(fd, 'utf8')
      .replace(/^\ufeff/, '')
      .replace(/[\r\n]+$/, '');
    if (text.trim() === '') throw new SecretFileError('is empty');
    return text;
  } finally {
    closeSync(fd);
  }
}

function refusalOf(stat: Stats, reader: Reader): string | undefined {
  if (stat.isDirectory()) return 'is a directory where a file should be';
  if (!stat.isFile()) return 'is not a regular file';
  if (stat.size > SIZE_LIMIT) return `is larger than any secret (${SIZE_LIMIT / 1024} KiB)`;
  if (!reader.mayOwn.includes(stat.uid))
    return `belongs to user ${stat.uid}, neither to root nor to the user that reads it; chown it`;
  if ((stat.mode & OTHERS_OR_GROUP_WRITE) !== 0)
    return `can be changed by other users (mode ${octal(stat.mode)}); chmod 600 it`;
  return undefined;
}

const octal = (mode: number): string => (mode & 0o7777).toString(8).padStart(4, '0');
