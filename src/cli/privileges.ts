import { readFileSync } from 'node:fs';
import { checkNft, checkRoot, programsInherit } from '../../dataplane/detect.js';
import type { DaemonConfig } from '../config/types.js';
import { VpndError } from '../model/errors.js';

/** Of capabilities(7), as setpriv writes them. */
export type Capability = 'net_admin' | 'net_bind_service';

/** Throws `no-root` where interfaces and nftables cannot be changed. `what` is the command that would. */
export async function requirePrivileges(what: string, otherwise = ''): Promise<void> {
  const found = await checkRoot();
  if (!found.ok) {
    throw new VpndError(
      'no-root',
      `${what} changes interfaces and nftables: run it as root or with CAP_NET_ADMIN${otherwise}`,
      { cause: found.error },
    );
  }
  // Without: given to this program's file (setcap), and so not to those that it starts; unless they have it by themselves.
  if (programsInherit() || (await checkNft()).ok) return;
  throw new VpndError(
    'no-root',
    `${what} has CAP_NET_ADMIN, but the programs it starts (nft, ip, wg) do not get it: give it as an ambient capability (AmbientCapabilities= of systemd, setpriv --ambient-caps), or run it as root`,
  );
}

/** Throws `no-root` where a daemon has not what it needs. */
export async function requireCapabilities(config: DaemonConfig): Promise<void> {
  if (config.role === 'base' || config.dataplane === 'memory') return;
  await requirePrivileges(`vpnd ${config.role}`, ' (--dataplane memory forwards nothing and needs neither)');
}

/** What a daemon needs: CAP_NET_ADMIN where it forwards, and CAP_NET_BIND_SERVICE where a port of its is a privileged one. */
export function capabilitiesFor(config: DaemonConfig, firstFreePort = firstUnprivilegedPort()): readonly Capability[] {
  const forwards = config.role !== 'base' && config.dataplane !== 'memory';
  const low = portsOf(config).some((port) => port < firstFreePort);
  return [...(forwards ? (['net_admin'] as const) : []), ...(low ? (['net_bind_service'] as const) : [])];
}

function portsOf(config: DaemonConfig): readonly number[] {
  const metrics = config.metricsListen === undefined ? [] : [config.metricsListen.port];
  switch (config.role) {
    case 'base':
      return [...metrics, config.listen.port];
    case 'supernode': {
      const probe = config.probePort === undefined ? [] : [config.probePort];
      const listens = [config.listen, ...config.listenAlso].map(({ port }) => port);
      return [...metrics, ...listens, ...probe, ...(config.egress ? [config.wireguardPort] : [])];
    }
    case 'exit':
      return [...metrics, ...(config.wireguardPort === undefined ? [] : [config.wireguardPort])];
    case 'client':
      return metrics;
  }
}

const PRIVILEGED_PORTS = '/proc/sys/net/ipv4/ip_unprivileged_port_start';

function firstUnprivilegedPort(): number {
  try {
    return Number(readFileSync(PRIVILEGED_PORTS, 'utf8').trim());
  } catch {
    return 1024;
  }
}
