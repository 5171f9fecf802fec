import type { Identity } from '../../core/ports/crypto.js';
import type { DialTarget, StreamEnd } from '../../core/ports/network.js';
import type { Bytes } from '../../model/bytes.js';
import type { Command, CommandDone } from '../../model/command.js';
import type { Load, SupernodeInfo } from '../../model/directory.js';
import type { VpndError } from '../../model/errors.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { WireGuardPublicKey } from '../../model/keys.js';
import type { Signed } from '../../model/membership.js';
import type { AuthResponse, Capabilities, News } from '../../model/messages.js';
import type { MemberRole, Region } from '../../model/role.js';
import type { SessionDigest } from '../../model/session.js';
import type { Instant, Millis } from '../../model/time.js';

export interface UpstreamOptions {
  readonly identity: Identity;
  readonly role: MemberRole;
  readonly region: Region;
  /** Asked for at every attempt, so that a renewed one is used. */
  readonly membership: () => Signed;
  readonly wireguardKey?: WireGuardPublicKey | undefined;
  readonly capabilities: () => Capabilities;
  /** Sessions that the supervisor being dialled (undefined for base) is to know; asked for at every attempt. */
  readonly sessions: (supervisor: PeerId | undefined) => readonly SessionDigest[];
  /** Supernodes, and nobody else. */
  readonly supernode?: () => SupernodeInfo;
  /** The list of revocations that this node holds, asked for at every attempt. */
  readonly revocations?: () => Signed | undefined;
  /** Best first. */
  readonly targets: () => readonly DialTarget[];
  /** Reported with every ping. */
  readonly load?: () => Load;
}

/** `from` and `target` are the supervisor that the stream goes to. */
export interface UpstreamHandlers {
  up(welcome: AuthResponse, target: DialTarget): void;
  down(end: StreamEnd, target: DialTarget): void;
  /** Must be idempotent by the command's id: an answer that got lost is asked for again. */
  command?(command: Command, from: DialTarget): Promise<CommandDone>;
  news?(news: News, from: DialTarget): void;
  /** WireGuard datagrams of a session, where no UDP gets through. */
  datagrams?(session: SessionId, packets: readonly Bytes[], from: DialTarget): void;
  /** This machine, or this process, was stopped for a while; the stream is being dialled anew already. */
  woke?(): void;
  /** The status is another one. */
  changed?(): void;
}

export interface UpstreamStatus {
  readonly state: 'down' | 'dialing' | 'authenticating' | 'up';
  /** Who is being dialled or connected. */
  readonly supervisor?: DialTarget;
  readonly since: Instant;
  readonly latency?: Millis;
  /** Why the link is not up. */
  readonly lastError?: VpndError;
}
