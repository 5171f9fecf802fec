import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  AddressPlanSchema,
  AuthRequestSchema,
  AuthResponseSchema,
  CapabilitiesSchema,
  AddressPlan as WireAddressPlan,
  AuthRequest as WireAuthRequest,
  AuthResponse as WireAuthResponse,
  Capabilities as WireCapabilities,
} from '../../gen/vpnd/v1/control_pb.js';
import { type Cidr, familyOf, parseCidr } from '../../model/address.js';
import { VpndError } from '../../model/errors.js';
import { wireGuardKeyBytes } from '../../model/keys.js';
import type { AddressPlan, AuthRequest, AuthResponse, Capabilities } from '../../model/messages.js';
import { parseCountry, parseRegion } from '../../model/role.js';
import { ms } from '../../model/time.js';
import {
  endpointToWire,
  optionalEndpointFromWire,
  optionalSignedFromWire,
  requiredEndpointFromWire,
  roleFromWire,
  roleToWire,
  signedFromWire,
  signedToWire,
  supernodeFromWire,
  supernodesFromWire,
  supernodesToWire,
  supernodeToWire,
} from './common.js';
import {
  bytes,
  clean,
  instant,
  ipOf,
  list,
  malformed,
  must,
  optional,
  quantity,
  required,
  text,
  wireGuardKey,
} from './fields.js';
import {
  KEY_BYTES,
  MAX_BLOCKS,
  MAX_LABEL,
  MAX_NONCE_BYTES,
  MAX_SESSION_DIGESTS,
  MIN_NONCE_BYTES,
  PROBE_TOKEN_BYTES,
  SIGNATURE_BYTES,
} from './limits.js';
import { digestFromWire, digestToWire } from './session.js';

const NO_KEY = new Uint8Array(KEY_BYTES);

const capabilitiesToWire = (of: Capabilities): MessageInitShape<typeof CapabilitiesSchema> => ({
  software: clean(of.software, MAX_LABEL),
  ipv6: of.ipv6,
  ...(of.publicEndpoint && { publicEndpoint: endpointToWire(of.publicEndpoint) }),
  country: of.country ?? '',
  maxMbps: of.maxMbps,
  sessionCapacity: of.sessionCapacity,
});

const capabilitiesFromWire = (wire: WireCapabilities): Capabilities => ({
  software: text(wire.software, 'software', MAX_LABEL),
  ipv6: wire.ipv6,
  publicEndpoint: optionalEndpointFromWire(wire.publicEndpoint, 'public_endpoint'),
  country: optional(wire.country, parseCountry, 'country'),
  maxMbps: quantity(wire.maxMbps, 'max_mbps'),
  sessionCapacity: wire.sessionCapacity,
});

export function authRequestToWire(request: AuthRequest): MessageInitShape<typeof AuthRequestSchema> {
  // A digest that is cut would read as "these sessions are gone" and have them torn down.
  if (request.sessions.length > MAX_SESSION_DIGESTS)
    throw new VpndError('internal', `${request.sessions.length} sessions do not fit an AuthRequest`);
  return {
    protocolVersion: request.protocolVersion,
    clientNonce: request.clientNonce,
    membership: signedToWire(request.membership),
    role: roleToWire(request.role),
    region: request.region,
    wireguardKey: request.wireguardKey === undefined ? NO_KEY : wireGuardKeyBytes(request.wireguardKey),
    timestampMs: BigInt(request.timestamp),
    signature: request.signature,
    capabilities: capabilitiesToWire(request.capabilities),
    sessions: request.sessions.map(digestToWire),
    ...(request.supernode && { supernode: supernodeToWire(request.supernode) }),
    ...(request.revocations && { revocations: signedToWire(request.revocations) }),
  };
}

export const authRequestFromWire = (wire: WireAuthRequest): AuthRequest => ({
  kind: 'auth-request',
  protocolVersion: wire.protocolVersion,
  clientNonce: bytes(wire.clientNonce, 'client_nonce', MIN_NONCE_BYTES, MAX_NONCE_BYTES),
  membership: signedFromWire(wire.membership, 'membership'),
  role: roleFromWire(wire.role),
  region: must(parseRegion(wire.region), 'region'),
  wireguardKey: bytes(wire.wireguardKey, 'wireguard_key', KEY_BYTES).every((byte) => byte === 0)
    ? undefined
    : wireGuardKey(wire.wireguardKey, 'wireguard_key'),
  timestamp: instant(wire.timestampMs, 'timestamp_ms'),
  signature: bytes(wire.signature, 'signature', SIGNATURE_BYTES),
  capabilities: capabilitiesFromWire(required(wire.capabilities, 'capabilities')),
  sessions: list(wire.sessions, 'sessions', MAX_SESSION_DIGESTS, digestFromWire),
  supernode: wire.supernode === undefined ? undefined : supernodeFromWire(wire.supernode),
  revocations: optionalSignedFromWire(wire.revocations, 'revocations'),
});

const planToWire = (plan: AddressPlan): MessageInitShape<typeof AddressPlanSchema> => ({
  blocksIpv4: plan.blocksIpv4.slice(0, MAX_BLOCKS),
  blocksIpv6: plan.blocksIpv6.slice(0, MAX_BLOCKS),
  gatewayIpv4: plan.gatewayIpv4,
  gatewayIpv6: plan.gatewayIpv6,
  poolIpv4: plan.poolIpv4,
  poolIpv6: plan.poolIpv6,
});

function network(family: 4 | 6, value: string, field: string): Cidr {
  const parsed = must(parseCidr(value), field);
  return familyOf(parsed) === family ? parsed : malformed(field);
}

const planFromWire = (wire: WireAddressPlan): AddressPlan => ({
  blocksIpv4: list(wire.blocksIpv4, 'blocks_ipv4', MAX_BLOCKS, (value) => network(4, value, 'blocks_ipv4')),
  blocksIpv6: list(wire.blocksIpv6, 'blocks_ipv6', MAX_BLOCKS, (value) => network(6, value, 'blocks_ipv6')),
  gatewayIpv4: ipOf(4, wire.gatewayIpv4, 'gateway_ipv4'),
  gatewayIpv6: ipOf(6, wire.gatewayIpv6, 'gateway_ipv6'),
  poolIpv4: network(4, wire.poolIpv4, 'pool_ipv4'),
  poolIpv6: network(6, wire.poolIpv6, 'pool_ipv6'),
});

export const authResponseToWire = (response: AuthResponse): MessageInitShape<typeof AuthResponseSchema> => ({
  serverTimeMs: BigInt(response.serverTime),
  pingIntervalMs: response.pingInterval,
  silenceLimitMs: response.silenceLimit,
  observed: endpointToWire(response.observed),
  supernodes: supernodesToWire(response.supernodes),
  ...(response.addressPlan && { addressPlan: planToWire(response.addressPlan) }),
  probeToken: response.probeToken,
  ...(response.revocations && { revocations: signedToWire(response.revocations) }),
});

export const authResponseFromWire = (wire: WireAuthResponse): AuthResponse => ({
  kind: 'auth-response',
  serverTime: instant(wire.serverTimeMs, 'server_time_ms'),
  pingInterval: ms(wire.pingIntervalMs),
  silenceLimit: ms(wire.silenceLimitMs),
  observed: requiredEndpointFromWire(wire.observed, 'observed'),
  supernodes: supernodesFromWire(wire.supernodes),
  addressPlan: wire.addressPlan === undefined ? undefined : planFromWire(wire.addressPlan),
  probeToken: bytes(wire.probeToken, 'probe_token', PROBE_TOKEN_BYTES),
  revocations: optionalSignedFromWire(wire.revocations, 'revocations'),
});
