import { readFileSync } from 'node:fs';
import { VpndError } from '../model/errors.js';
import type { ForwardingConfig } from './start-role.js';

const CAP_NET_ADMIN = 12n;

/** Whether this process may change interfaces, routes and nftables: its effective capabilities, whoever it runs as. */
export function hasNetAdmin(read: (path: string) => string = (path) => readFileSync(path, 'utf8')): boolean {
  try {
    const mask = /^CapEff:\s*([0-9a-fA-F]+)$/m.exec(read('/proc/self/status'))?.[1];
    return mask !== undefined && ((BigInt(`0x${mask}`) >> CAP_NET_ADMIN) & 1n) === 1n;
  } catch {
    return process.geteuid?.() === 0;
  }
}

/** Throws `no-root` where the data plane could not be changed. */
export async function requirePrivileges(config: ForwardingConfig): Promise<void> {
  if (config.dataplane === 'memory' || hasNetAdmin()) return;
  throw new VpndError(
    'no-root',
    `vpnd ${config.role} changes interfaces and nftables: run it as root or with CAP_NET_ADMIN (--dataplane memory forwards nothing and needs neither)`,
  );
}
