import type { Cidr, Endpoint, HostPort, IpAddress } from './address.js';
import type { Bytes } from './bytes.js';
import type { Command, CommandDone } from './command.js';
import type { ExitCandidate, Load, SupernodeInfo } from './directory.js';
import type { CommandId, PeerId, SessionId } from './ids.js';
import type { WireGuardPublicKey } from './keys.js';
import type { Signed } from './membership.js';
import type { RevocationChange } from './revocation.js';
import type { Country, MemberRole, Path, Region } from './role.js';
import type { ExitRequest, SessionDigest, SessionGrant } from './session.js';
import type { Instant, Millis } from './time.js';

/** The control protocol after parsing: every field checked, ids branded. docs/protocol.md describes the wire. */

/** A refusal as it travels. */
export interface Refusal {
  readonly code: string;
  readonly message: string;
  readonly details: Readonly<Record<string, string>>;
  readonly retryable: boolean;
}

export type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly error: Refusal };

export interface Capabilities {
  readonly software: string;
  readonly ipv6: boolean;
  readonly publicEndpoint: Endpoint | undefined;
  readonly country: Country | undefined;
  readonly maxMbps: number;
  readonly sessionCapacity: number;
}

export interface AuthRequest {
  readonly kind: 'auth-request';
  readonly protocolVersion: number;
  readonly clientNonce: Bytes;
  readonly membership: Signed;
  readonly role: MemberRole;
  readonly region: Region;
  /** Undefined where the node has no long-lived WireGuard key. */
  readonly wireguardKey: WireGuardPublicKey | undefined;
  readonly timestamp: Instant;
  readonly signature: Bytes;
  readonly capabilities: Capabilities;
  readonly sessions: readonly SessionDigest[];
  readonly supernode: SupernodeInfo | undefined;
  /** The list of revocations that the node holds; undefined while it holds none. */
  readonly revocations: Signed | undefined;
}

/**
 * The overlay's inner addresses: the blocks leased to a supernode (none for an exit), the gateway that every exit
 * answers on, and the pools all of them lie in.
 */
export interface AddressPlan {
  readonly blocksIpv4: readonly Cidr[];
  readonly blocksIpv6: readonly Cidr[];
  readonly gatewayIpv4: IpAddress;
  readonly gatewayIpv6: IpAddress;
  readonly poolIpv4: Cidr;
  readonly poolIpv6: Cidr;
}

export interface AuthResponse {
  readonly kind: 'auth-response';
  readonly serverTime: Instant;
  readonly pingInterval: Millis;
  readonly silenceLimit: Millis;
  readonly observed: Endpoint;
  readonly supernodes: readonly SupernodeInfo[];
  readonly addressPlan: AddressPlan | undefined;
  /** 16 bytes. */
  readonly probeToken: Bytes;
  /** The list of revocations that the supervisor holds; undefined while it holds none. */
  readonly revocations: Signed | undefined;
}

export interface PingRequest {
  readonly kind: 'ping';
  readonly id: number;
  readonly load: Load | undefined;
}
export interface PongResponse {
  readonly kind: 'pong';
  readonly id: number;
}
export interface CommandMessage {
  readonly kind: 'command';
  readonly command: Command;
}
export interface CommandResponse {
  readonly kind: 'command-response';
  readonly id: CommandId;
  readonly result: Outcome<CommandDone>;
}

/** A request for a fresh membership, and for a TLS certificate when a CSR is given. */
export interface Renewal {
  readonly peer: PeerId;
  /** PKCS#10 in DER; empty for nodes without a TLS certificate. */
  readonly csr: Bytes;
  readonly timestamp: Instant;
  readonly signature: Bytes;
}
export interface RenewalResult {
  readonly membership: Signed;
  /** PEM; empty when no CSR was given. */
  readonly certificate: string;
}

export interface ExitFilter {
  readonly region: Region | undefined;
  readonly country: Country | undefined;
  readonly pool: string | undefined;
}

export type InfoQuestion =
  | { readonly kind: 'list-exits'; readonly filter: ExitFilter }
  | { readonly kind: 'renewal'; readonly renewal: Renewal }
  /** Another pre-shared key for one of the sender's sessions, made with this fresh ML-KEM key. */
  | { readonly kind: 'rekey'; readonly session: SessionId; readonly kemKey: Bytes };
export type InfoAnswer =
  | { readonly kind: 'exits'; readonly exits: readonly ExitCandidate[] }
  | { readonly kind: 'renewal'; readonly result: RenewalResult }
  | { readonly kind: 'rekeyed'; readonly offer: Signed };

export interface InfoRequest {
  readonly kind: 'info-request';
  readonly requestId: number;
  readonly question: InfoQuestion;
}
export interface InfoResponse {
  readonly kind: 'info-response';
  readonly requestId: number;
  readonly result: Outcome<InfoAnswer>;
}
export interface ExitRequestMessage {
  readonly kind: 'exit-request';
  readonly request: ExitRequest;
}
export interface ExitResponse {
  readonly kind: 'exit-response';
  readonly requestId: number;
  readonly result: Outcome<SessionGrant>;
}

export type News =
  | { readonly kind: 'session-handshake'; readonly session: SessionId; readonly took: Millis }
  | { readonly kind: 'session-closed'; readonly session: SessionId; readonly reason: string }
  | {
      readonly kind: 'session-renewed';
      readonly session: SessionId;
      readonly generation: number;
      readonly lease: Millis;
    }
  | { readonly kind: 'directory'; readonly supernodes: readonly SupernodeInfo[] }
  /** The session's exit has lost its pre-shared key: its client is to ask for another one. */
  | { readonly kind: 'session-rekey'; readonly session: SessionId }
  /** An exit goes over to another WireGuard key: clients are to replace these sessions. */
  | { readonly kind: 'sessions-move'; readonly sessions: readonly SessionId[]; readonly reason: string }
  /** base goes by other keys or CAs: its statements, oldest first. */
  | { readonly kind: 'anchors'; readonly chain: readonly Signed[] }
  /** A client wants this path for its session: `direct`, or `relay` for the relays, however many. */
  | { readonly kind: 'session-path'; readonly session: SessionId; readonly path: Path; readonly reason: string }
  /** A supernode to base: what base publishes of it has changed. */
  | { readonly kind: 'supernode'; readonly supernode: SupernodeInfo }
  /** Who was shut out, to an end that holds an older list. */
  | { readonly kind: 'revocations'; readonly change: RevocationChange }
  /** The whole list, please: the change that came is of a list that this end does not hold. */
  | { readonly kind: 'revocations-wanted' }
  | { readonly kind: 'problem'; readonly code: string; readonly message: string };
export interface EventMessage {
  readonly kind: 'event';
  readonly news: News;
}

/** WireGuard datagrams inside the stream, where no UDP gets through. */
export interface DatagramsMessage {
  readonly kind: 'datagrams';
  readonly session: SessionId;
  readonly packets: readonly Bytes[];
}

export type ControlMessage =
  | AuthRequest
  | AuthResponse
  | PingRequest
  | PongResponse
  | CommandMessage
  | CommandResponse
  | InfoRequest
  | InfoResponse
  | ExitRequestMessage
  | ExitResponse
  | EventMessage
  | DatagramsMessage;

/** Enrolment with a join token. */
export interface RegisterPeerRequest {
  readonly tokenSecret: Bytes;
  readonly peer: PeerId;
  readonly role: MemberRole;
  /** Undefined to take the token's. */
  readonly region: Region | undefined;
  readonly csr: Bytes;
  readonly timestamp: Instant;
  readonly signature: Bytes;
}
export interface RegisterPeerResponse {
  readonly membership: Signed;
  /** base's Ed25519 public key, 32 bytes. */
  readonly baseKey: Bytes;
  /** PEM. */
  readonly caCertificate: string;
  /** PEM; empty but for supernodes. */
  readonly certificate: string;
  readonly supernodes: readonly SupernodeInfo[];
  readonly serverTime: Instant;
}
/** What base trusts and signs with, for nodes that have missed a change. */
export type FetchAnchorsRequest = Record<never, never>;
export interface FetchAnchorsResponse {
  /** base's statements, oldest first. */
  readonly chain: readonly Signed[];
}
export interface RequestExitRegionRequest {
  readonly region: Region | undefined;
}
export interface RequestExitRegionResponse {
  readonly supernodes: readonly SupernodeInfo[];
  readonly regions: readonly Region[];
}
export interface RequestExitPeerRequest extends ExitFilter {
  readonly exit: PeerId | undefined;
  readonly minMbps: number | undefined;
  readonly maxLatency: Millis | undefined;
  readonly limit: number;
}
export interface RequestExitPeerResponse {
  readonly exits: readonly ExitCandidate[];
}
export interface OpenSessionRequest {
  readonly session: SessionId;
  readonly generation: number;
  readonly exit: PeerId;
  readonly clientKey: WireGuardPublicKey;
  readonly kemKey: Bytes;
  readonly innerIpv4: IpAddress;
  readonly innerIpv6: IpAddress;
  readonly lease: Millis;
  readonly path: Path;
  /** The asking supernode's relay port; undefined for a direct path. */
  readonly previousHop: Endpoint | undefined;
}
export interface OpenSessionResponse {
  readonly endpoint: Endpoint;
  readonly offer: Signed;
  readonly exitMembership: Signed;
}
export interface CloseSessionRequest {
  readonly session: SessionId;
  readonly generation: number;
  readonly reason: string;
}

export interface UpdateSessionRequest {
  readonly session: SessionId;
  /** Greater than that of any request about this session before. */
  readonly generation: number;
  readonly path: Path;
  /** For `direct`: the client's address as the first relay has learned it. */
  readonly clientEndpoint: Endpoint | undefined;
  /** The direct path holds: the relay's state in the kernel may go. */
  readonly settled: boolean;
}
export interface UpdateSessionResponse {
  /** For `direct`: the exit's address as its relay port has learned it. Else the relay port. */
  readonly endpoint: Endpoint;
}
export interface MoveSessionsRequest {
  readonly sessions: readonly SessionId[];
  readonly reason: string;
  readonly leaveExit: boolean;
  readonly urgent: boolean;
  /** Not to be replaced: the exit has lost their pre-shared keys. */
  readonly rekey?: boolean | undefined;
}

/** The unary calls between nodes: name -> [request, response]. */
export interface UnaryCalls {
  registerPeer: [RegisterPeerRequest, RegisterPeerResponse];
  renewMembership: [Renewal, RenewalResult];
  fetchAnchors: [FetchAnchorsRequest, FetchAnchorsResponse];
  requestExitRegion: [RequestExitRegionRequest, RequestExitRegionResponse];
  requestExitPeer: [RequestExitPeerRequest, RequestExitPeerResponse];
  openSession: [OpenSessionRequest, OpenSessionResponse];
  closeSession: [CloseSessionRequest, Record<never, never>];
  updateSession: [UpdateSessionRequest, UpdateSessionResponse];
  moveSessions: [MoveSessionsRequest, Record<never, never>];
}
export type UnaryName = keyof UnaryCalls;

/** A join token as a person passes it on. */
export interface JoinToken {
  readonly base: readonly HostPort[];
  /** SHA-256 of the CA's SubjectPublicKeyInfo, 32 bytes. */
  readonly caKeyHash: Bytes;
  readonly secret: Bytes;
  readonly role: MemberRole;
  readonly region: Region;
  /** base's Ed25519 key, 32 bytes; undefined in tokens of before. */
  readonly baseKey?: Bytes | undefined;
}
