import { execFile } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import type { Role } from '../model/role.js';
import { type Check, fail, ok, skip, type Verdict } from './doctor-report.js';
import { hasNetAdmin } from './privileges.js';

const TUN = '/dev/net/tun';
/** A clock before this was never set: the certificates of any overlay are younger. */
const PLAUSIBLE_SINCE = Date.UTC(2025, 0, 1);

/** What this machine must offer to the role. base changes nothing in the kernel. */
export function machineChecks(role: Role): readonly Check[] {
  const kernel: readonly Check[] = role === 'base' ? [] : forwardingChecks();
  return [...kernel, { name: 'clock', run: checkClock }];
}

function forwardingChecks(): readonly Check[] {
  return [
    {
      name: 'privileges',
      run: async () =>
        hasNetAdmin()
          ? ok('this user may change interfaces and nftables')
          : fail('this user may not change interfaces and nftables', 'run as root, or with CAP_NET_ADMIN'),
    },
    { name: 'tun', run: async () => checkTun(TUN) },
  ];
}

export function checkTun(path: string): Verdict {
  try {
    return statSync(path).isCharacterDevice()
      ? ok(`${path} is there`)
      : fail(`${path} is no device`, 'load the tun module (modprobe tun)');
  } catch {
    return fail(`${path} is missing`, 'load the tun module (modprobe tun), or give the container the device');
  }
}

async function checkClock(): Promise<Verdict> {
  const now = new Date();
  const text = `${now.toISOString().slice(0, 19)}Z`;
  if (now.getTime() < PLAUSIBLE_SINCE) return fail(`the clock says ${text}`, 'set it, and keep it set (NTP)');
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
