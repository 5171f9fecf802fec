import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { type HostCheck, hostChecks } from '../../dataplane/detect.js';
import { findProgram } from '../../dataplane/run.js';
import { CLOCK_TOLERANCE } from '../core/auth.js';
import type { Role } from '../model/role.js';
import type { Millis } from '../model/time.js';
import { type Accounts, systemAccounts, userOf } from './account.js';
import { checkResolver } from './doctor-dns.js';
import { type Check, fail, ok, skip, type Verdict } from './doctor-report.js';

/** A clock before this was never set: the certificates of any overlay are younger. */
const PLAUSIBLE_SINCE = Date.UTC(2025, 0, 1);

/** What this machine must offer to the role. base changes nothing in the kernel. */
export function machineChecks(role: Role, clockOffset?: Millis): readonly Check[] {
  return [
    { name: 'user', run: () => checkUser(role) },
    ...(role === 'base' ? [] : forwardingChecks(hostChecks())),
    ...(role === 'client' ? [{ name: 'resolver', run: () => checkResolver() }] : []),
    { name: 'clock', run: () => checkClock(clockOffset) },
  ];
}

/** Whom a daemon that root starts would become. Asks; makes nothing. */
export async function checkUser(
  role: Role,
  uid = process.geteuid?.(),
  find: Accounts['find'] = systemAccounts.find,
  program: (name: string) => string | undefined = findProgram,
): Promise<Verdict> {
  const name = userOf(role);
  if (uid !== 0) return ok(`a daemon started here runs as this user (id ${uid})`);
  if (program('setpriv') === undefined) {
    return fail(`setpriv is missing, by which a daemon started by root becomes ${name}`, 'apt-get install util-linux');
  }
  const account = await find(name);
  if (account !== undefined) return ok(`a daemon started by root becomes ${name} (id ${account.uid})`);
  if (program('useradd') !== undefined) return ok(`a daemon started by root becomes ${name}, made at the first start`);
  return fail(`there is no user ${name}, and no useradd to make it with`, 'make it, or name another with --user');
}

/** The data plane's own checks; a missing TUN device is no fault where the kernel has WireGuard itself. */
export function forwardingChecks(checks: readonly HostCheck[]): readonly Check[] {
  const wireguard = checks.find((check) => check.name === 'wireguard');
  return checks.map((check) => ({
    name: check.name,
    run: async () => {
      const found = await check.run();
      if (found.ok) return ok(found.value);
      if (check.name === 'tun') {
        const engine = await wireguard?.run();
        if (engine?.ok && engine.value.includes('kernel')) return skip('not needed: the kernel has WireGuard itself');
      }
      return fail(found.error.message, '');
    },
  }));
}

/** Against the supervisor's clock where a stream has been up, else by whether anything keeps this one right. */
async function checkClock(offset: Millis | undefined): Promise<Verdict> {
  const now = new Date();
  const text = `${now.toISOString().slice(0, 19)}Z`;
  if (now.getTime() < PLAUSIBLE_SINCE) return fail(`the clock says ${text}`, 'set it, and keep it set (NTP)');
  if (offset !== undefined) {
    const apart = `${text}, ${Math.abs(offset / 1000).toFixed(1)} s ${offset < 0 ? 'ahead of' : 'behind'} the supernode's`;
    if (Math.abs(offset) <= CLOCK_TOLERANCE) return ok(apart);
    return fail(apart, 'set it (timedatectl set-ntp true); more than 5 minutes apart is refused');
  }
  if (existsSync('/run/systemd/timesync/synchronized')) return ok(`${text}, kept by systemd-timesyncd`);
  const synchronized = await timedatectl();
  if (synchronized === 'yes') return ok(`${text}, kept by NTP`);
  if (synchronized === 'no') {
    return fail(`${text}, kept by nobody`, 'switch NTP on (timedatectl set-ntp true); 5 minutes off are refused');
  }
  return skip(`${text}; whether anything keeps it right cannot be told here`);
}

/** `yes`, `no`, or undefined where systemd does not run. */
function timedatectl(): Promise<string | undefined> {
  const path = '/usr/bin/timedatectl';
  if (!existsSync(path)) return Promise.resolve(undefined);
  return new Promise((resolve) => {
    execFile(path, ['show', '--property=NTPSynchronized', '--value'], { timeout: 3_000, env: {} }, (error, stdout) => {
      const word = stdout.trim();
      resolve(error === null && (word === 'yes' || word === 'no') ? word : undefined);
    });
  });
}
