import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, unlinkSync } from 'node:fs';
import { VpndError } from '../src/model/errors.js';
import { answersAt } from './uapi-socket.js';

/** Where wireguard-go has the sockets of its devices; it knows no other place. */
const SOCKETS = '/run/wireguard';
/** A client has up to three devices, of which the later ones have a number behind the name. */
const SUFFIXES = ['', '-1', '-2'];

export interface NewOwner {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Lets a user run wireguard-go, as root: its directory of sockets stays root's where it is, is opened to the user's
 * group, and nobody can remove the sockets of others there (sticky). A socket that a dead engine of root's left is removed,
 * since the user could not. One that lives keeps its own, which cannot be handed over (it ends when its socket changes in any
 * way): the daemon finds that the device does not answer it, and makes it anew. Throws `dataplane` where the directory
 * is another user's.
 */
export async function prepareWireGuard(
  { interface: device }: { readonly interface: string },
  owner: NewOwner,
): Promise<void> {
  const stat = lstatSync(SOCKETS, { throwIfNoEntry: false });
  if (stat === undefined) {
    mkdirSync(SOCKETS, { mode: 0o755 });
    open(0o755, owner);
    return;
  }
  if (!stat.isDirectory()) throw new VpndError('dataplane', `${SOCKETS} is not a directory; remove it`);
  if (stat.uid === owner.uid) return;
  const isOpen = stat.gid === owner.gid && (stat.mode & 0o070) === 0o070;
  // Another user's, or shared with another group, and in use.
  const isTaken = stat.uid !== 0 || (stat.gid !== 0 && stat.gid !== owner.gid && (stat.mode & 0o020) !== 0);
  if (isTaken && readdirSync(SOCKETS).length > 0) {
    throw new VpndError(
      'dataplane',
      `${SOCKETS} belongs to another user (id ${stat.uid || stat.gid}), and WireGuard devices of that one are in it; start vpnd as the same user (--user)`,
    );
  }
  if (!isOpen || stat.uid !== 0) open(stat.mode & 0o755, owner);
  for (const suffix of SUFFIXES) await removeDead(`${SOCKETS}/${device}${suffix}.sock`);
}

function open(mode: number, owner: NewOwner): void {
  chownSync(SOCKETS, 0, owner.gid);
  chmodSync(SOCKETS, mode | 0o1070);
}

async function removeDead(path: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (stat?.isSocket() && stat.uid === 0 && !(await answersAt(path))) unlinkSync(path);
}
