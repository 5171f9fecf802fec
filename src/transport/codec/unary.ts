import {
  create,
  type DescMessage,
  type DescMethod,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf';
import {
  Base,
  FetchAnchorsRequestSchema,
  RegisterPeerRequestSchema,
  RegisterPeerResponseSchema,
  RequestExitRegionRequestSchema,
  RequestExitRegionResponseSchema,
} from '../../gen/vpnd/v1/base_pb.js';
import { RenewalResultSchema, RenewalSchema } from '../../gen/vpnd/v1/control_pb.js';
import {
  CloseSessionRequestSchema,
  CloseSessionResponseSchema,
  MoveSessionsRequestSchema,
  MoveSessionsResponseSchema,
  OpenSessionRequestSchema,
  OpenSessionResponseSchema,
  RequestExitPeerRequestSchema,
  RequestExitPeerResponseSchema,
  Supernode,
  UpdateSessionRequestSchema,
  UpdateSessionResponseSchema,
} from '../../gen/vpnd/v1/supernode_pb.js';
import { AnchorChainSchema } from '../../gen/vpnd/v1/types_pb.js';
import type { Bytes } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import { idBytes, keyOf } from '../../model/ids.js';
import { wireGuardKeyBytes } from '../../model/keys.js';
import type { UnaryCalls, UnaryName } from '../../model/messages.js';
import { err, ok, type Result } from '../../model/result.js';
import { parseRegion } from '../../model/role.js';
import { ms } from '../../model/time.js';
import { chainFromWire, chainToWire } from './anchors.js';
import {
  endpointToWire,
  optionalEndpointFromWire,
  pathFromWire,
  pathToWire,
  requiredEndpointFromWire,
  roleFromWire,
  roleToWire,
  signedFromWire,
  signedToWire,
  supernodesFromWire,
  supernodesToWire,
} from './common.js';
import {
  bytes,
  clean,
  instant,
  ipOf,
  list,
  must,
  optional,
  optionalBytes,
  optionalMillis,
  optionalPeer,
  optionalQuantity,
  parsing,
  peer,
  pem,
  safeInteger,
  session,
  text,
  wireGuardKey,
} from './fields.js';
import { renewalFromWire, renewalResultFromWire, renewalResultToWire, renewalToWire } from './info.js';
import {
  KEM_KEY_BYTES,
  KEY_BYTES,
  MAX_CSR_BYTES,
  MAX_EXITS,
  MAX_MOVED_SESSIONS,
  MAX_PEM,
  MAX_REGIONS,
  MAX_SECRET_BYTES,
  MAX_TEXT,
  MIN_SECRET_BYTES,
  SIGNATURE_BYTES,
} from './limits.js';
import { candidateFromWire, candidateToWire, filterFromWire, filterToWire } from './session.js';

export interface MessageCodec<T> {
  encode(value: T): Bytes;
  /** Never throws. Errors: bad-message. */
  decode(bytes: Bytes): Result<T, VpndError>;
}

export interface UnaryCodec<M extends UnaryName> {
  /** `/vpnd.v1.Base/RegisterPeer` */
  readonly path: string;
  readonly request: MessageCodec<UnaryCalls[M][0]>;
  readonly response: MessageCodec<UnaryCalls[M][1]>;
}

function codec<S extends DescMessage, T>(
  schema: S,
  toWire: (value: T) => MessageInitShape<S>,
  fromWire: (wire: MessageShape<S>) => T,
): MessageCodec<T> {
  return {
    encode: (value) => toBinary(schema, create(schema, toWire(value))),
    decode: (wire) => {
      const parsed = parsing(schema.name, () => fromWire(fromBinary(schema, wire)));
      if (!parsed.ok) return parsed;
      // A call, unlike a message on a stream, has somebody waiting: what is not understood has to be answered.
      return parsed.value.known
        ? ok(parsed.value.value)
        : err(new VpndError('bad-message', `${schema.name}: unknown ${parsed.value.what}`));
    },
  };
}

const pathOf = (method: DescMethod): string => `/${method.parent.typeName}/${method.name}`;

/** How each unary call travels. */
export const UNARY: { readonly [M in UnaryName]: UnaryCodec<M> } = {
  registerPeer: {
    path: pathOf(Base.method.registerPeer),
    request: codec(
      RegisterPeerRequestSchema,
      (request) => ({
        tokenSecret: request.tokenSecret,
        peerKey: keyOf(request.peer),
        role: roleToWire(request.role),
        region: request.region ?? '',
        csr: request.csr,
        timestampMs: BigInt(request.timestamp),
        signature: request.signature,
      }),
      (wire) => ({
        tokenSecret: bytes(wire.tokenSecret, 'token_secret', MIN_SECRET_BYTES, MAX_SECRET_BYTES),
        peer: peer(wire.peerKey, 'peer_key'),
        role: roleFromWire(wire.role),
        region: optional(wire.region, parseRegion, 'region'),
        csr: bytes(wire.csr, 'csr', 0, MAX_CSR_BYTES),
        timestamp: instant(wire.timestampMs, 'timestamp_ms'),
        signature: bytes(wire.signature, 'signature', SIGNATURE_BYTES),
      }),
    ),
    response: codec(
      RegisterPeerResponseSchema,
      (response) => ({
        membership: signedToWire(response.membership),
        baseKey: response.baseKey,
        caCertificate: response.caCertificate,
        certificate: response.certificate,
        supernodes: supernodesToWire(response.supernodes),
        serverTimeMs: BigInt(response.serverTime),
      }),
      (wire) => ({
        membership: signedFromWire(wire.membership, 'membership'),
        baseKey: bytes(wire.baseKey, 'base_key', KEY_BYTES),
        caCertificate: pem(wire.caCertificate, 'ca_certificate', MAX_PEM),
        certificate: pem(wire.certificate, 'certificate', MAX_PEM),
        supernodes: supernodesFromWire(wire.supernodes),
        serverTime: instant(wire.serverTimeMs, 'server_time_ms'),
      }),
    ),
  },
  renewMembership: {
    path: pathOf(Base.method.renewMembership),
    request: codec(RenewalSchema, renewalToWire, renewalFromWire),
    response: codec(RenewalResultSchema, renewalResultToWire, renewalResultFromWire),
  },
  fetchAnchors: {
    path: pathOf(Base.method.fetchAnchors),
    request: codec(
      FetchAnchorsRequestSchema,
      () => ({}),
      () => ({}),
    ),
    response: codec(
      AnchorChainSchema,
      ({ chain }) => chainToWire(chain),
      (wire) => ({ chain: chainFromWire(wire) }),
    ),
  },
  requestExitRegion: {
    path: pathOf(Base.method.requestExitRegion),
    request: codec(
      RequestExitRegionRequestSchema,
      (request) => ({ region: request.region ?? '' }),
      (wire) => ({ region: optional(wire.region, parseRegion, 'region') }),
    ),
    response: codec(
      RequestExitRegionResponseSchema,
      (response) => ({
        supernodes: supernodesToWire(response.supernodes),
        regions: response.regions.slice(0, MAX_REGIONS),
      }),
      (wire) => ({
        supernodes: supernodesFromWire(wire.supernodes),
        regions: list(wire.regions, 'regions', MAX_REGIONS, (region) => must(parseRegion(region), 'regions')),
      }),
    ),
  },
  requestExitPeer: {
    path: pathOf(Supernode.method.requestExitPeer),
    request: codec(
      RequestExitPeerRequestSchema,
      (request) => ({
        ...filterToWire(request),
        exitKey: request.exit === undefined ? new Uint8Array() : keyOf(request.exit),
        minMbps: request.minMbps ?? 0,
        maxLatencyMs: request.maxLatency ?? 0,
        limit: request.limit,
      }),
      (wire) => ({
        ...filterFromWire(wire),
        exit: optionalPeer(wire.exitKey, 'exit_key'),
        minMbps: optionalQuantity(wire.minMbps, 'min_mbps'),
        maxLatency: optionalMillis(wire.maxLatencyMs, 'max_latency_ms'),
        limit: wire.limit,
      }),
    ),
    response: codec(
      RequestExitPeerResponseSchema,
      (response) => ({ exits: response.exits.slice(0, MAX_EXITS).map(candidateToWire) }),
      (wire) => ({ exits: list(wire.exits, 'exits', MAX_EXITS, candidateFromWire) }),
    ),
  },
  openSession: {
    path: pathOf(Supernode.method.openSession),
    request: codec(
      OpenSessionRequestSchema,
      (request) => ({
        sessionId: idBytes(request.session),
        generation: BigInt(request.generation),
        exitKey: keyOf(request.exit),
        clientKey: wireGuardKeyBytes(request.clientKey),
        kemKey: request.kemKey,
        innerIpv4: request.innerIpv4,
        innerIpv6: request.innerIpv6,
        leaseMs: request.lease,
        path: pathToWire(request.path),
        ...(request.previousHop && { previousHop: endpointToWire(request.previousHop) }),
      }),
      (wire) => ({
        session: session(wire.sessionId),
        generation: safeInteger(wire.generation, 'generation'),
        exit: peer(wire.exitKey, 'exit_key'),
        clientKey: wireGuardKey(wire.clientKey, 'client_key'),
        kemKey: optionalBytes(wire.kemKey, 'kem_key', KEM_KEY_BYTES),
        innerIpv4: ipOf(4, wire.innerIpv4, 'inner_ipv4'),
        innerIpv6: ipOf(6, wire.innerIpv6, 'inner_ipv6'),
        lease: ms(wire.leaseMs),
        path: pathFromWire(wire.path),
        previousHop: optionalEndpointFromWire(wire.previousHop, 'previous_hop'),
      }),
    ),
    response: codec(
      OpenSessionResponseSchema,
      (response) => ({
        endpoint: endpointToWire(response.endpoint),
        offer: signedToWire(response.offer),
        exitMembership: signedToWire(response.exitMembership),
      }),
      (wire) => ({
        endpoint: requiredEndpointFromWire(wire.endpoint, 'endpoint'),
        offer: signedFromWire(wire.offer, 'offer'),
        exitMembership: signedFromWire(wire.exitMembership, 'exit_membership'),
      }),
    ),
  },
  closeSession: {
    path: pathOf(Supernode.method.closeSession),
    request: codec(
      CloseSessionRequestSchema,
      (request) => ({
        sessionId: idBytes(request.session),
        generation: BigInt(request.generation),
        reason: clean(request.reason, MAX_TEXT),
      }),
      (wire) => ({
        session: session(wire.sessionId),
        generation: safeInteger(wire.generation, 'generation'),
        reason: text(wire.reason, 'reason', MAX_TEXT),
      }),
    ),
    response: codec(
      CloseSessionResponseSchema,
      () => ({}),
      () => ({}),
    ),
  },
  updateSession: {
    path: pathOf(Supernode.method.updateSession),
    request: codec(
      UpdateSessionRequestSchema,
      (request) => ({
        sessionId: idBytes(request.session),
        generation: BigInt(request.generation),
        path: pathToWire(request.path),
        ...(request.clientEndpoint && { clientEndpoint: endpointToWire(request.clientEndpoint) }),
        settled: request.settled,
      }),
      (wire) => ({
        session: session(wire.sessionId),
        generation: safeInteger(wire.generation, 'generation'),
        path: pathFromWire(wire.path),
        clientEndpoint: optionalEndpointFromWire(wire.clientEndpoint, 'client_endpoint'),
        settled: wire.settled,
      }),
    ),
    response: codec(
      UpdateSessionResponseSchema,
      (response) => ({ endpoint: endpointToWire(response.endpoint) }),
      (wire) => ({ endpoint: requiredEndpointFromWire(wire.endpoint, 'endpoint') }),
    ),
  },
  moveSessions: {
    path: pathOf(Supernode.method.moveSessions),
    request: codec(
      MoveSessionsRequestSchema,
      (request) => ({
        sessionIds: request.sessions.slice(0, MAX_MOVED_SESSIONS).map(idBytes),
        reason: clean(request.reason, MAX_TEXT),
        rekey: request.rekey ?? false,
        leaveExit: request.leaveExit,
        urgent: request.urgent,
      }),
      (wire) => ({
        sessions: list(wire.sessionIds, 'session_ids', MAX_MOVED_SESSIONS, session),
        reason: text(wire.reason, 'reason', MAX_TEXT),
        rekey: wire.rekey,
        leaveExit: wire.leaveExit,
        urgent: wire.urgent,
      }),
    ),
    response: codec(
      MoveSessionsResponseSchema,
      () => ({}),
      () => ({}),
    ),
  },
};
