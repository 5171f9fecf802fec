import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  ExitCandidateSchema,
  ExitRequestSchema,
  SessionDigestSchema,
  SessionGrantSchema,
  ExitCandidate as WireExitCandidate,
  ExitRequest as WireExitRequest,
  SessionDigest as WireSessionDigest,
  SessionGrant as WireSessionGrant,
} from '../../gen/vpnd/v1/control_pb.js';
import type { ExitCandidate } from '../../model/directory.js';
import { idBytes, keyOf } from '../../model/ids.js';
import { wireGuardKeyBytes } from '../../model/keys.js';
import type { ExitFilter } from '../../model/messages.js';
import { parseCountry, parseRegion } from '../../model/role.js';
import type { ExitRequest, SessionDigest, SessionGrant } from '../../model/session.js';
import { ms } from '../../model/time.js';
import {
  endpointToWire,
  keepaliveFromWire,
  loadFromWire,
  loadToWire,
  optionalEndpointFromWire,
  pathFromWire,
  pathToWire,
  privacyFromWire,
  privacyToWire,
  requiredEndpointFromWire,
  signedFromWire,
  signedToWire,
} from './common.js';
import {
  clean,
  list,
  malformed,
  must,
  optional,
  optionalBytes,
  optionalMillis,
  optionalPeer,
  optionalQuantity,
  peer,
  quantity,
  required,
  safeInteger,
  session,
  text,
  wireGuardKey,
} from './fields.js';
import { KEM_KEY_BYTES, MAX_AVOIDED, MAX_LABEL, MAX_REASONS, MAX_TEXT, MAX_VIA } from './limits.js';

export const filterToWire = (filter: ExitFilter): { region: string; country: string; pool: string } => ({
  region: filter.region ?? '',
  country: filter.country ?? '',
  pool: clean(filter.pool ?? '', MAX_LABEL),
});

export const filterFromWire = (wire: { region: string; country: string; pool: string }): ExitFilter => ({
  region: optional(wire.region, parseRegion, 'region'),
  country: optional(wire.country, parseCountry, 'country'),
  pool: text(wire.pool, 'pool', MAX_LABEL) || undefined,
});

export const candidateToWire = (exit: ExitCandidate): MessageInitShape<typeof ExitCandidateSchema> => ({
  peerKey: keyOf(exit.id),
  supernodeKey: keyOf(exit.supernode),
  region: exit.region,
  country: exit.country ?? '',
  pool: clean(exit.pool, MAX_LABEL),
  ipv6: exit.ipv6,
  load: loadToWire(exit.load),
  maxMbps: exit.maxMbps,
  latencyMs: exit.latency ?? 0,
  ...(exit.publicEndpoint && { publicEndpoint: endpointToWire(exit.publicEndpoint) }),
  egress: exit.egress,
  family: exit.family,
});

export const candidateFromWire = (wire: WireExitCandidate): ExitCandidate => ({
  id: peer(wire.peerKey, 'exit.peer_key'),
  supernode: peer(wire.supernodeKey, 'exit.supernode_key'),
  region: must(parseRegion(wire.region), 'exit.region'),
  country: optional(wire.country, parseCountry, 'exit.country'),
  pool: text(wire.pool, 'exit.pool', MAX_LABEL),
  ipv6: wire.ipv6,
  load: loadFromWire(required(wire.load, 'exit.load')),
  maxMbps: quantity(wire.maxMbps, 'exit.max_mbps'),
  latency: optionalMillis(wire.latencyMs, 'exit.latency_ms'),
  publicEndpoint: optionalEndpointFromWire(wire.publicEndpoint, 'exit.public_endpoint'),
  egress: wire.egress,
  family: wire.family === 4 || wire.family === 6 ? wire.family : malformed('exit.family'),
});

export const exitRequestToWire = (request: ExitRequest): MessageInitShape<typeof ExitRequestSchema> => ({
  requestId: BigInt(request.requestId),
  ...filterToWire(request),
  exitKey: request.exit === undefined ? new Uint8Array() : keyOf(request.exit),
  minMbps: request.minMbps ?? 0,
  maxLatencyMs: request.maxLatency ?? 0,
  privacy: privacyToWire(request.privacy),
  sessionKey: wireGuardKeyBytes(request.sessionKey),
  kemKey: request.kemKey,
  standby: request.standby,
  avoidExits: request.avoidExits.slice(0, MAX_AVOIDED).map(keyOf),
  avoidSupernodes: request.avoidSupernodes.slice(0, MAX_AVOIDED).map(keyOf),
});

export const exitRequestFromWire = (wire: WireExitRequest): ExitRequest => ({
  requestId: safeInteger(wire.requestId, 'request_id'),
  ...filterFromWire(wire),
  exit: optionalPeer(wire.exitKey, 'exit_key'),
  minMbps: optionalQuantity(wire.minMbps, 'min_mbps'),
  maxLatency: optionalMillis(wire.maxLatencyMs, 'max_latency_ms'),
  privacy: privacyFromWire(wire.privacy),
  sessionKey: wireGuardKey(wire.sessionKey, 'session_key'),
  kemKey: optionalBytes(wire.kemKey, 'kem_key', KEM_KEY_BYTES),
  standby: wire.standby,
  avoidExits: list(wire.avoidExits, 'avoid_exits', MAX_AVOIDED, (key) => peer(key, 'avoid_exits')),
  avoidSupernodes: list(wire.avoidSupernodes, 'avoid_supernodes', MAX_AVOIDED, (key) => peer(key, 'avoid_supernodes')),
});

export const grantToWire = (grant: SessionGrant): MessageInitShape<typeof SessionGrantSchema> => ({
  sessionId: idBytes(grant.session),
  generation: BigInt(grant.generation),
  leaseMs: grant.lease,
  endpoint: endpointToWire(grant.endpoint),
  keepaliveS: grant.keepalive,
  path: pathToWire(grant.path),
  via: grant.via.map(keyOf),
  offer: signedToWire(grant.offer),
  exitMembership: signedToWire(grant.exitMembership),
  exitRegion: grant.exitRegion,
  exitCountry: grant.exitCountry ?? '',
  reasons: grant.reasons.slice(0, MAX_REASONS).map((reason) => clean(reason, MAX_TEXT)),
});

export const grantFromWire = (wire: WireSessionGrant): SessionGrant => ({
  session: session(wire.sessionId),
  generation: safeInteger(wire.generation, 'generation'),
  lease: ms(wire.leaseMs),
  endpoint: requiredEndpointFromWire(wire.endpoint, 'endpoint'),
  keepalive: keepaliveFromWire(wire.keepaliveS),
  path: pathFromWire(wire.path),
  via: list(wire.via, 'via', MAX_VIA, (key) => peer(key, 'via')),
  offer: signedFromWire(wire.offer, 'offer'),
  exitMembership: signedFromWire(wire.exitMembership, 'exit_membership'),
  exitRegion: must(parseRegion(wire.exitRegion), 'exit_region'),
  exitCountry: optional(wire.exitCountry, parseCountry, 'exit_country'),
  reasons: list(wire.reasons, 'reasons', MAX_REASONS, (reason) => text(reason, 'reasons', MAX_TEXT)),
});

export const digestToWire = (digest: SessionDigest): MessageInitShape<typeof SessionDigestSchema> => ({
  sessionId: idBytes(digest.session),
  generation: BigInt(digest.generation),
});

export const digestFromWire = (wire: WireSessionDigest): SessionDigest => ({
  session: session(wire.sessionId),
  generation: safeInteger(wire.generation, 'generation'),
});
