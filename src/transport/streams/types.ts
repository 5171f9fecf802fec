import type { BaseKey } from '../../core/ports/authority.js';
import type { StreamEnd } from '../../core/ports/network.js';
import type { RateLimit } from '../../core/rate-limit.js';
import type { Endpoint } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { Load, SupernodeInfo } from '../../model/directory.js';
import type { VpndError } from '../../model/errors.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { WireGuardPublicKey } from '../../model/keys.js';
import type { Membership, Signed } from '../../model/membership.js';
import type { AuthResponse, Capabilities, InfoAnswer, InfoQuestion, News } from '../../model/messages.js';
import type { Result } from '../../model/result.js';
import type { MemberRole, Region } from '../../model/role.js';
import type { ExitRequest, SessionDigest, SessionGrant } from '../../model/session.js';
import type { Instant, Millis } from '../../model/time.js';

/** A node whose stream is up. One object per stream; `latency` and `load` follow the heartbeats. */
export interface ConnectedPeer {
  readonly id: PeerId;
  /** The role this stream is for. */
  readonly role: MemberRole;
  readonly region: Region;
  readonly membership: Membership;
  readonly signedMembership: Signed;
  readonly remote: Endpoint;
  readonly wireguardKey: WireGuardPublicKey | undefined;
  readonly capabilities: Capabilities;
  /** What the node said it held when it connected. */
  readonly sessions: readonly SessionDigest[];
  /** Of supernodes, and nobody else. */
  readonly supernode: SupernodeInfo | undefined;
  /** The list of revocations it said it held, not checked. */
  readonly revocations: Signed | undefined;
  /** The last round trip; undefined before the first heartbeat. */
  readonly latency: Millis | undefined;
  /** As last reported. */
  readonly load: Load | undefined;
  readonly since: Instant;
  /** 16 bytes, known to both ends of this stream. */
  readonly probeToken: Bytes;
}

/** What a supervisor does with its streams. Whatever a handler throws is answered or logged, and ends nothing else. */
export interface StreamHandlers {
  /** The peer is up; also when its newer stream took the place of an older one, for which nothing else is called. */
  connected(peer: ConnectedPeer): void;
  /** The peer is gone. Not called for a stream that a newer one of the same peer replaced. */
  disconnected(peer: ConnectedPeer, end: StreamEnd): void;
  exitRequest?(peer: ConnectedPeer, request: ExitRequest): Promise<SessionGrant>;
  info?(peer: ConnectedPeer, question: InfoQuestion): Promise<InfoAnswer>;
  news?(peer: ConnectedPeer, news: News): void;
  /** WireGuard datagrams of a client that gets none through by UDP. They count against no limit of messages. */
  datagrams?(peer: ConnectedPeer, session: SessionId, packets: readonly Bytes[]): void;
  /** What this supervisor adds to AuthResponse. */
  welcome(peer: ConnectedPeer): Promise<Pick<AuthResponse, 'supernodes' | 'addressPlan'>>;
  /** Asked before anything else is looked at, and again before the stream is up: who was shut out gets no further. */
  barred?(claimed: PeerId): VpndError | undefined;
  /** The list of revocations that this supervisor holds, for AuthResponse. */
  revocations?(): Signed | undefined;
  /** A last word after authentication: revoked, full (with the next candidates in its details). */
  authorize?(peer: ConnectedPeer): Result<void, VpndError>;
}

export interface StreamManagerOptions {
  /** Undefined for base. */
  readonly self: PeerId | undefined;
  readonly baseKey: BaseKey;
  /** Roles that may connect. */
  readonly roles: readonly MemberRole[];
  /** Whether the connection must carry the peer's own TLS certificate. */
  readonly requireCertificate: boolean;
  /** Peers at once. */
  readonly capacity: number;
  readonly pingInterval?: Millis;
  readonly silenceLimit?: Millis;
  /** Streams opened per address (/64 for IPv6), and AuthRequests per claimed peer id; both before any signature check. */
  readonly limits?: {
    readonly address?: Omit<RateLimit, 'maxKeys'>;
    readonly peer?: Omit<RateLimit, 'maxKeys'>;
  };
  /** Streams at once that have not authenticated yet; one more crowds out the oldest of the address with most. */
  readonly maxUnauthenticated?: number;
}
