import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { launch } from '../../dataplane/launch.js';
import { cleanEnvironment, findProgram } from '../../dataplane/run.js';
import type { Owner } from '../identity/state-owner.js';
import { VpndError } from '../model/errors.js';
import type { Role } from '../model/role.js';

/** A user of this machine. */
export type Account = Owner;

/** base has a user of its own, so that a supernode beside it that is broken into cannot read the CA's key. */
export const userOf = (role: Role): string => (role === 'base' ? 'vpnd-base' : 'vpnd');

/** How long another daemon's first start may hold /etc/passwd, in tries of this many ms. */
const LOCKED_TRIES = 10;
const LOCKED_WAIT = 200;
const TOOL_LIMIT = 10_000;

/** How accounts are asked for and made. */
export interface Accounts {
  /** By name or number; a number that nobody has is a user without a name. */
  find(user: string): Promise<Account | undefined>;
  make(name: string): Promise<void>;
}

export const systemAccounts: Accounts = { find: findAccount, make: makeAccount };

/**
 * The account that a daemon started by root becomes; the role's own is made where it is missing. Throws VpndError
 * `bad-config` (no such user), `no-tool` and `no-root` (it cannot be made).
 */
export async function accountFor(role: Role, user: string | undefined, accounts = systemAccounts): Promise<Account> {
  const name = user ?? userOf(role);
  const found = await accounts.find(name);
  if (found !== undefined) return found;
  if (name !== userOf(role)) {
    throw new VpndError(
      'bad-config',
      `--user: there is no user '${name}' on this machine; make it (useradd --system ${name}), or leave --user out`,
    );
  }
  let why: unknown;
  for (let attempt = 0; attempt < LOCKED_TRIES; attempt++) {
    if (attempt > 0) await pause(LOCKED_WAIT);
    await accounts.make(name).catch((thrown: unknown) => {
      why = thrown;
    });
    // Two daemons that start for the first time make it at the same time: it counts that it is there.
    const made = await accounts.find(name);
    if (made !== undefined) return made;
    if (!(why instanceof VpndError) || !why.retryable) break;
  }
  throw why;
}

async function findAccount(user: string): Promise<Account | undefined> {
  const line = passwdLine(await passwd(user), user);
  if (line !== undefined) return line;
  const uid = /^\d+$/.test(user) ? Number(user) : undefined;
  return uid === undefined ? undefined : { name: user, uid, gid: uid };
}

/** The system's user database where it can be asked, else the file. */
async function passwd(user: string): Promise<string> {
  const getent = findProgram('getent');
  if (getent === undefined) return readFileSync('/etc/passwd', 'utf8');
  const asked = { path: getent, args: ['passwd', user], env: cleanEnvironment(), input: undefined };
  const ended = await launch({ ...asked, timeoutMs: TOOL_LIMIT });
  return ended.kind === 'ended' ? ended.stdout : '';
}

/** `vpnd:x:998:997::/var/lib/vpnd:/usr/sbin/nologin` of passwd(5). */
function passwdLine(text: string, user: string): Account | undefined {
  for (const line of text.split('\n')) {
    const [name = '', , uid = '', gid = ''] = line.split(':');
    if ((name === user || uid === user) && /^\d+$/.test(uid) && /^\d+$/.test(gid)) {
      return { name, uid: Number(uid), gid: Number(gid) };
    }
  }
  return undefined;
}

/** What the runbook does by hand for the units of systemd. */
async function makeAccount(name: string): Promise<void> {
  const path = findProgram('useradd');
  const otherwise = `make the user ${name} yourself, or name one with --user (a number will do), or give --user root`;
  if (path === undefined) {
    throw new VpndError('no-tool', `there is no user ${name} to run as, and no useradd to make it with; ${otherwise}`, {
      details: { tool: 'useradd' },
    });
  }
  const args = [
    ...['--system', '--user-group', '--no-create-home', '--home-dir', '/var/lib/vpnd'],
    ...['--shell', '/usr/sbin/nologin', name],
  ];
  const ended = await launch({ path, args, env: cleanEnvironment(), input: undefined, timeoutMs: TOOL_LIMIT });
  if (ended.kind === 'ended' && ended.code === 0) return;
  const said = ended.kind === 'ended' ? ended.stderr.trim().split('\n')[0] || `exit status ${ended.code}` : ended.why;
  throw new VpndError('no-root', `there is no user ${name} to run as, and it cannot be made (${said}); ${otherwise}`, {
    retryable: /try again later|cannot lock/.test(said),
  });
}
