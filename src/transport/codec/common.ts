import type { MessageInitShape } from '@bufbuild/protobuf';
import {
  type EndpointSchema,
  type HostPortSchema,
  type LoadSchema,
  type SignedMembership,
  type SupernodeInfoSchema,
  type Endpoint as WireEndpoint,
  type HostPort as WireHostPort,
  type Load as WireLoad,
  Path as WirePath,
  Privacy as WirePrivacy,
  Role as WireRole,
  type SupernodeInfo as WireSupernodeInfo,
} from '../../gen/vpnd/v1/types_pb.js';
import { type Endpoint, type HostPort, parseHostPort, parseIp, parsePort } from '../../model/address.js';
import type { Load, SupernodeInfo } from '../../model/directory.js';
import { keyOf } from '../../model/ids.js';
import type { Signed } from '../../model/membership.js';
import { type MemberRole, type Path, type Privacy, parseRegion } from '../../model/role.js';
import { bytes, ip, list, malformed, must, peer, port, quantity, required, upTo } from './fields.js';
import {
  MAX_ADDRESSES,
  MAX_KEEPALIVE,
  MAX_RELAY_IPS,
  MAX_STATEMENT_BYTES,
  MAX_SUPERNODES,
  SIGNATURE_BYTES,
} from './limits.js';

export const endpointToWire = (at: Endpoint): MessageInitShape<typeof EndpointSchema> => ({ ip: at.ip, port: at.port });

export const endpointFromWire = (wire: WireEndpoint, field: string): Endpoint => ({
  ip: ip(wire.ip, field),
  port: port(wire.port, field),
});

export const optionalEndpointToWire = (at: Endpoint | undefined): { endpoint?: { ip: string; port: number } } =>
  at === undefined ? {} : { endpoint: { ip: at.ip, port: at.port } };

export const optionalEndpointFromWire = (wire: WireEndpoint | undefined, field: string): Endpoint | undefined =>
  wire === undefined ? undefined : endpointFromWire(wire, field);

export const requiredEndpointFromWire = (wire: WireEndpoint | undefined, field: string): Endpoint =>
  endpointFromWire(required(wire, field), field);

export const hostPortToWire = (at: HostPort): MessageInitShape<typeof HostPortSchema> => ({
  host: at.host,
  port: at.port,
});

export function hostPortFromWire(wire: WireHostPort, field = 'address'): HostPort {
  // 253 characters are the longest name there is (RFC 1035, 2.3.4).
  if (wire.host.length > 253) return malformed(field);
  // A name or a bare address: brackets, or a colon in a name, would smuggle in a second port.
  if (/[[\]]/.test(wire.host) || (wire.host.includes(':') && !parseIp(wire.host).ok)) return malformed(field);
  return must(parseHostPort(wire.host, must(parsePort(wire.port), field)), field);
}

/** All signed statements have the same fields. */
export const signedToWire = (signed: Signed): Signed => ({
  body: signed.body,
  signature: signed.signature,
});

export function signedFromWire(wire: Pick<SignedMembership, 'body' | 'signature'> | undefined, field: string): Signed {
  const given = required(wire, field);
  return {
    body: bytes(given.body, field, 1, MAX_STATEMENT_BYTES),
    signature: bytes(given.signature, `${field}.signature`, SIGNATURE_BYTES),
  };
}

export const optionalSignedFromWire = (
  wire: Pick<SignedMembership, 'body' | 'signature'> | undefined,
  field: string,
): Signed | undefined => (wire === undefined ? undefined : signedFromWire(wire, field));

export const loadToWire = (load: Load): MessageInitShape<typeof LoadSchema> => load;

export const loadFromWire = (wire: WireLoad): Load => ({
  sessions: wire.sessions,
  sessionCapacity: wire.sessionCapacity,
  streams: wire.streams,
  cpuPercent: quantity(wire.cpuPercent, 'cpu_percent'),
  txMbps: quantity(wire.txMbps, 'tx_mbps'),
  rxMbps: quantity(wire.rxMbps, 'rx_mbps'),
});

export const supernodeToWire = (node: SupernodeInfo): MessageInitShape<typeof SupernodeInfoSchema> => ({
  peerKey: keyOf(node.id),
  region: node.region,
  addresses: node.addresses.slice(0, MAX_ADDRESSES).map(hostPortToWire),
  relayIps: node.relayIps.slice(0, MAX_RELAY_IPS),
  probePort: node.probePort ?? 0,
  draining: node.draining,
  load: loadToWire(node.load),
});

export const supernodeFromWire = (wire: WireSupernodeInfo): SupernodeInfo => ({
  id: peer(wire.peerKey, 'supernode.peer_key'),
  region: must(parseRegion(wire.region), 'supernode.region'),
  addresses: list(wire.addresses, 'supernode.addresses', MAX_ADDRESSES, (at) => hostPortFromWire(at)),
  relayIps: list(wire.relayIps, 'supernode.relay_ips', MAX_RELAY_IPS, (at) => ip(at, 'supernode.relay_ips')),
  probePort: wire.probePort === 0 ? undefined : port(wire.probePort, 'supernode.probe_port'),
  draining: wire.draining,
  load: loadFromWire(required(wire.load, 'supernode.load')),
});

export const supernodesToWire = (nodes: readonly SupernodeInfo[]) =>
  nodes.slice(0, MAX_SUPERNODES).map(supernodeToWire);
export const supernodesFromWire = (wire: readonly WireSupernodeInfo[]) =>
  list(wire, 'supernodes', MAX_SUPERNODES, supernodeFromWire);

const ROLES: Readonly<Record<MemberRole, WireRole>> = {
  supernode: WireRole.SUPERNODE,
  exit: WireRole.EXIT,
  client: WireRole.CLIENT,
};
const PATHS: Readonly<Record<Path, WirePath>> = {
  direct: WirePath.DIRECT,
  relay: WirePath.RELAY,
  relay2: WirePath.RELAY2,
};
const PRIVACIES: Readonly<Record<Privacy, WirePrivacy>> = {
  auto: WirePrivacy.AUTO,
  private: WirePrivacy.PRIVATE,
  direct: WirePrivacy.DIRECT,
};

function wordOf<T extends string>(table: Readonly<Record<T, number>>, value: number, field: string): T {
  for (const word in table) if (table[word] === value) return word;
  return malformed(field);
}

export const roleToWire = (role: MemberRole): WireRole => ROLES[role];
export const roleFromWire = (wire: WireRole): MemberRole => wordOf(ROLES, wire, 'role');
export const pathToWire = (path: Path): WirePath => PATHS[path];
export const pathFromWire = (wire: WirePath): Path => wordOf(PATHS, wire, 'path');
export const privacyToWire = (privacy: Privacy): WirePrivacy => PRIVACIES[privacy];
export const privacyFromWire = (wire: WirePrivacy): Privacy => wordOf(PRIVACIES, wire, 'privacy');

export const keepaliveFromWire = (wire: number): number => upTo(wire, 'keepalive_s', MAX_KEEPALIVE);
