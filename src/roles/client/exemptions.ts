import { NOBODY } from '../../core/ports/login-page.js';
import { type Endpoint, parseIp } from '../../model/address.js';
import type { Exemption } from '../../model/dataplane.js';
import type { SupernodeInfo } from '../../model/directory.js';

export type { Exemption };

/** Supernodes a client must reach outside the tunnel: its own, and those it would turn to next. */
const EXEMPT_SUPERNODES = 8;

/**
 * Exact endpoints only: a wider exemption leaks (TunnelCrack, CVE-2023-36672). A supernode dialled by name is reached
 * on its relay addresses, which are the same machine's. And nobody's, where only a log-in page answers: a client that
 * holds all traffic can still say why.
 */
export function supernodeExemptions(supernodes: readonly SupernodeInfo[]): readonly Exemption[] {
  const seen = new Map<string, Exemption>();
  seen.set('nobody', { protocol: 'tcp', endpoint: NOBODY });
  const add = (protocol: 'tcp' | 'udp', endpoint: Endpoint) =>
    seen.set(`${protocol}/${endpoint.ip}/${endpoint.port}`, { protocol, endpoint });
  for (const one of supernodes.slice(0, EXEMPT_SUPERNODES)) {
    for (const { host, port } of one.addresses) {
      const literal = parseIp(host);
      for (const ip of literal.ok ? [literal.value] : one.relayIps) add('tcp', { ip, port });
    }
    if (one.probePort !== undefined) for (const ip of one.relayIps) add('udp', { ip, port: one.probePort });
  }
  return [...seen.values()];
}
