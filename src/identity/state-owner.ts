import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchownSync,
  fstatSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  rmdirSync,
  type Stats,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { VpndError } from '../model/errors.js';
import { fileError } from './state-files.js';
import { LOCK_FILES, lockState } from './state-lock.js';

/** Whom files are to belong to. */
export interface Owner {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

export interface HandedOver {
  /** Directories that were not there, outermost first. */
  readonly made: readonly string[];
  /** How many files and directories were root's and are the owner's now. */
  readonly changed: number;
  /** What was left as it is although it is root's, a line each with the reason. */
  readonly left: readonly string[];
}

/** Where all state directories are unless somebody says otherwise; older versions made it closed to all but root. */
const STATE_ROOT = '/var/lib/vpnd';
/** What shows that a directory is a daemon's. */
const OURS = ['identity.key', 'vpnd.db', ...LOCK_FILES];
const MOST_LINKS = 40;
const OTHERS_WRITE = 0o022;
const STICKY = 0o1000;

/**
 * Makes a state directory an owner's own, as root: one that is not there is made (0700, those above it 0755), one that
 * is root's is handed over with what is in it. No link out of it is followed, and no name that somebody else than root
 * could change in between is believed.
 *
 * Throws VpndError: `state-unreadable` (another user's; not vpnd's at all; somewhere that others may change it),
 * `state-locked`, `disk-full`. Something that is no directory is left for the daemon to complain about.
 */
export function handOver(dir: string, owner: Owner): HandedOver {
  try {
    const found = walk(dir);
    if (found === 'not a directory') return { made: [], changed: 0, left: [] };
    if (found === 'not safe') return leaveOrRefuse(dir, owner);
    if (found.missing.length > 0) return { made: makeDirectories(found, owner), changed: 0, left: [] };
    return { made: [], ...handOverDirectory(found.at, owner) };
  } catch (thrown) {
    throw fileError(dir, thrown);
  }
}

/** Removes directories that `handOver` made, as far as they are empty. */
export function removeMade(made: readonly string[]): void {
  try {
    for (const path of [...made].reverse()) rmdirSync(path);
  } catch {
    // Somebody put something there.
  }
}

interface Place {
  /** The part of the path that is there, without links. */
  readonly at: string;
  /** Names below it that are not. */
  readonly missing: readonly string[];
}

/** Follows a path by names that nobody but root can change, so that what was looked at is what is changed afterwards. */
function walk(path: string): Place | 'not safe' | 'not a directory' {
  let at = '/';
  let links = 0;
  const names = partsOf(path);
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    if (name === '..') {
      at = dirname(at);
      continue;
    }
    const here = lstatSync(at);
    const next = join(at, name);
    const stat = lstatSync(next, { throwIfNoEntry: false });
    if (stat === undefined) return isRootsOwn(here) ? { at, missing: [name, ...names] } : 'not safe';
    if (!isRootsOwn(here, stat)) return 'not safe';
    if (stat.isSymbolicLink()) {
      if (++links > MOST_LINKS) return 'not safe';
      const target = readlinkSync(next);
      names.unshift(...partsOf(target));
      if (target.startsWith('/')) at = '/';
    } else if (stat.isDirectory()) at = next;
    else return 'not a directory';
  }
  return { at, missing: [] };
}

const partsOf = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.');

/** Whether nobody but root can put another thing in the place of `entry` of this directory (of a new one: by now). */
function isRootsOwn(directory: Stats, entry?: Stats): boolean {
  if (directory.uid !== 0) return false;
  const othersWrite = (directory.mode & OTHERS_WRITE) !== 0;
  return !othersWrite || ((directory.mode & STICKY) !== 0 && (entry === undefined || entry.uid === 0));
}

function leaveOrRefuse(dir: string, owner: Owner): HandedOver {
  const stat = statSync(dir, { throwIfNoEntry: false });
  if (stat?.isDirectory() && stat.uid === owner.uid) return { made: [], changed: 0, left: [] };
  throw new VpndError(
    'state-unreadable',
    `${dir} lies in a directory that others than root may change, so root does not give it away; make it yourself: install -d -m 700 -o ${owner.name} ${dir}`,
    { details: { path: dir } },
  );
}

function makeDirectories({ at, missing }: Place, owner: Owner): string[] {
  const made: string[] = [];
  try {
    for (const [i, name] of missing.entries()) {
      const path = join(made.at(-1) ?? at, name);
      const isLast = i === missing.length - 1;
      mkdirSync(path, { mode: 0o700 });
      made.push(path);
      // Whatever the umask: the daemon has to get through those above its own.
      if (isLast) chownSync(path, owner.uid, owner.gid);
      else chmodSync(path, 0o755);
    }
  } catch (thrown) {
    removeMade(made);
    throw thrown;
  }
  openUp(dirname(made.at(-1) ?? at));
  return made;
}

function handOverDirectory(at: string, owner: Owner): Omit<HandedOver, 'made'> {
  const stat = statSync(at);
  const names = readdirSync(at);
  openUp(dirname(at));
  if (stat.uid === owner.uid) return tally(names.map((name) => giveStray(join(at, name), owner)));
  if (stat.uid !== 0)
    throw new VpndError(
      'state-unreadable',
      `${at} belongs to the user with id ${stat.uid}, not to ${owner.name}: start with --user ${stat.uid}, or give it away: chown -R -h ${owner.name}: ${at}`,
      { details: { path: at } },
    );
  if (names.length > 0) {
    if (!OURS.some((name) => names.includes(name)))
      throw new VpndError(
        'state-unreadable',
        `${at} holds files that are not vpnd's, so root does not give it away; give another --state-dir`,
        { details: { path: at } },
      );
    // Not below the feet of a daemon that still runs as root.
    lockState(at).release();
  }
  return tally(give(at, owner));
}

/** The one directory above state directories that is vpnd's own must let its users through. */
function openUp(directory: string): void {
  if (directory !== STATE_ROOT) return;
  const stat = lstatSync(directory);
  if (stat.isDirectory() && stat.uid === 0 && (stat.mode & 0o055) !== 0o055) chmodSync(directory, 0o755);
}

type Given = 'changed' | 'nothing' | { readonly left: string };

function tally(all: readonly Given[]): Omit<HandedOver, 'made'> {
  return {
    changed: all.filter((one) => one === 'changed').length,
    left: all.flatMap((one) => (typeof one === 'string' ? [] : [one.left])),
  };
}

/** Contents first: as long as a directory is root's, nobody else changes what is in it. */
function give(path: string, owner: Owner): Given[] {
  const stat = lstatSync(path);
  if (stat.isDirectory()) {
    const inside = readdirSync(path).flatMap((name) => give(join(path, name), owner));
    lchownSync(path, owner.uid, owner.gid);
    return [...inside, 'changed'];
  }
  if (stat.uid === owner.uid) return ['nothing'];
  if (stat.isSocket()) {
    lchownSync(path, owner.uid, owner.gid);
    return ['changed'];
  }
  return [stat.isFile() ? giveFile(path, owner) : { left: `${path} is no regular file` }];
}

/** What root left in a directory that is the owner's already: by `vpnd clean`, or while a daemon ran with --user root. */
function giveStray(path: string, owner: Owner): Given {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat?.isFile() && stat.uid === 0 && owner.uid !== 0 ? giveFile(path, owner) : 'nothing';
}

/** By descriptor, and only where it has this one name: a second one could be a file of the system's. */
function giveFile(path: string, owner: Owner): Given {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) return { left: `${path} is no regular file` };
    if (stat.nlink !== 1) return { left: `${path} has another name elsewhere (a hard link)` };
    fchownSync(fd, owner.uid, owner.gid);
    return 'changed';
  } finally {
    closeSync(fd);
  }
}
