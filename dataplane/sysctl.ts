import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Log } from '../src/core/ports/log.js';
import { VpndError } from '../src/model/errors.js';

/**
 * Kernel settings, by their files: /proc/sys shows the network namespace of whoever reads it. They are set, never set
 * back: other programs may have come to need them.
 */
const ROOT = '/proc/sys/net';

/** True when it was changed; rejects a kernel that does not let it be. */
function set(path: string, value: string): boolean {
  const file = `${ROOT}/${path}`;
  if (read(path) === value) return false;
  try {
    writeFileSync(file, value);
  } catch (cause) {
    throw new VpndError('dataplane', `${file} must be ${value} and cannot be written: set it on the host`, { cause });
  }
  return true;
}

const read = (path: string): string | undefined => {
  try {
    return readFileSync(`${ROOT}/${path}`, 'utf8').trim();
  } catch {
    return undefined;
  }
};

export const forwardIpv4 = (): boolean => set('ipv4/ip_forward', '1');

/**
 * A host that forwards IPv6 stops listening to router advertisements, and would lose the default route it got from
 * one: interfaces that listened are told to go on (accept_ra = 2).
 */
export function forwardIpv6(): boolean {
  if (!existsSync(`${ROOT}/ipv6`)) throw new VpndError('dataplane', 'this kernel has no IPv6');
  if (read('ipv6/conf/all/forwarding') === '1') return false;
  for (const name of readdirSync(`${ROOT}/ipv6/conf`)) {
    if (name !== 'all' && read(`ipv6/conf/${name}/accept_ra`) === '1') set(`ipv6/conf/${name}/accept_ra`, '2');
  }
  return set('ipv6/conf/all/forwarding', '1');
}

/** A strict reverse path filter (RFC 3704) asks for the way back as it is for packets with the same mark. */
export const filterByMark = (): boolean => set('ipv4/conf/all/src_valid_mark', '1');

/** A host with IPv6 turned off by default still needs it inside the tunnel. */
export function enableIpv6(device: string): boolean {
  return existsSync(`${ROOT}/ipv6`) ? set(`ipv6/conf/${device}/disable_ipv6`, '0') : false;
}

/** Keep the kernel from giving relay ports to sockets. What others have reserved stays. */
export function reservePorts(range: { readonly from: number; readonly to: number }, log: Log): void {
  const path = 'ipv4/ip_local_reserved_ports';
  const present = read(path);
  if (present === undefined || includesRange(present, range)) return;
  try {
    writeFileSync(
      `${ROOT}/${path}`,
      present === '' ? `${range.from}-${range.to}` : `${present},${range.from}-${range.to}`,
    );
  } catch (err) {
    log.warn(`relay ports ${range.from}-${range.to} are not reserved: other programs' sockets may take them`, { err });
  }
}

/** Whether `1-5,9` covers all of a range. */
export function includesRange(list: string, range: { readonly from: number; readonly to: number }): boolean {
  let next = range.from;
  const spans = list
    .split(',')
    .filter((span) => span !== '')
    .map((span) => span.split('-').map(Number))
    .map(([from, to]) => [from ?? 0, to ?? from ?? 0] as const)
    .sort((a, b) => a[0] - b[0]);
  for (const [from, to] of spans) if (from <= next && to >= next) next = to + 1;
  return next > range.to;
}
