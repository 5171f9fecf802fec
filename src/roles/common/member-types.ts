import type { DialTarget, StreamEnd, TlsIdentity } from '../../core/ports/network.js';
import type { NetworkState } from '../../core/ports/network-watch.js';
import type { Bytes } from '../../model/bytes.js';
import type { Command, CommandDone } from '../../model/command.js';
import type { Load, SupernodeInfo } from '../../model/directory.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { WireGuardPublicKey } from '../../model/keys.js';
import type { Membership, Signed } from '../../model/membership.js';
import type { AuthResponse, Capabilities, News } from '../../model/messages.js';
import type { SessionDigest } from '../../model/session.js';
import type { Instant, Millis } from '../../model/time.js';
import type { Enrolment } from './enrol.js';
import type { Line } from './line.js';
import type { Revocations, RevocationsChanged } from './revocations.js';
import type { Upstream } from './upstream.js';

/** What a node says of itself on its streams. */
export interface MemberSelf {
  readonly wireguardKey: WireGuardPublicKey | undefined;
  readonly capabilities: () => Capabilities;
  /** Those that this supervisor knows: another's are nothing to repair for it. */
  readonly sessions: (supervisor: PeerId | undefined) => readonly SessionDigest[];
  /** Supernodes that own sessions of this node, the most important first; asked for often. */
  readonly homes?: () => readonly PeerId[];
  /** Supernodes that are to be turned to after all others: they are reached, and cannot give what is wanted. */
  readonly lastChoice?: () => readonly PeerId[];
  /** Supernodes that are not to learn of this node at present: not dialled, but where it has sessions. */
  readonly never?: () => readonly PeerId[];
  /** Ask no supernode how far away it is: those that are only asked would learn this node's address. */
  readonly discreet?: boolean;
  readonly load?: () => Load;
  readonly supernode?: () => SupernodeInfo;
}

/** `supervisor` is the supernode that the line goes to; undefined for base. */
export interface MemberHandlers {
  up?(welcome: AuthResponse, supervisor: PeerId | undefined): Promise<void> | void;
  down?(end: StreamEnd, supervisor: PeerId | undefined): void;
  command?(command: Command, supervisor: PeerId): Promise<CommandDone>;
  news?(news: News, supervisor: PeerId | undefined): void;
  /** WireGuard datagrams of a session, where no UDP gets through. */
  datagrams?(session: SessionId, packets: readonly Bytes[], supervisor: PeerId): void;
  /** Once per wake: the machine slept, or this process was stopped. The lines are being dialled anew already. */
  woke?(): void;
  /** The machine is on another network, back on one, or on none; but for that, the lines are being dialled anew already. */
  networkChanged?(state: NetworkState): void;
  /** Others were shut out, or let in again; nobody is dialled any more who is out. */
  revoked?(change: RevocationsChanged): void;
  /** A certificate was renewed. */
  certified?(): void;
  /** base goes by other keys or CAs. */
  anchored?(): void;
  changed(): void;
}

/** A node's place in the overlay: its enrolment, kept fresh, and its streams to its supervisors. */
export interface Member {
  readonly id: PeerId;
  readonly startedAt: Instant;
  /** base's keys of the moment. */
  readonly baseKey: { readonly keys: readonly Bytes[] };
  /** PEM of the overlay's CAs. */
  ca(): string;
  /** base's statements of both, as this node knows them; none before the first change. */
  anchors(): readonly Signed[];
  /** The main line's, at the time it is asked for: hold a line instead where the supervisor must stay the same. */
  readonly upstream: Upstream;
  /** One for supernodes; two for exits and clients, of which the second may be idle. */
  lines(): readonly Line[];
  /** The one to `homes()[0]`, else one that is up, else the first. */
  main(): Line;
  /** Connected to it and authenticated. */
  lineTo(supernode: PeerId): Line | undefined;
  /** Keep the second line connected, to another supernode than the first, even without a session there. */
  wantSecond(want: boolean): void;
  readonly revocations: Revocations;
  membership(): Membership;
  enrolment(): Enrolment;
  /** As the lines turn to them, best first; for a client, its homes and those within reach in the first eight. */
  supernodes(): readonly SupernodeInfo[];
  baseTargets(): readonly DialTarget[];
  /** Supernodes only; throws for others. */
  tlsIdentity(): TlsIdentity;
  /** Whether UDP reaches the main line's supernode; undefined before it was tried. */
  udp(): 'through' | 'blocked' | undefined;
  /** The supervisor's clock less this machine's, as of the last connection. */
  clockOffset(): Millis | undefined;
  health(): { readonly ok: boolean; readonly detail: string };
  start(): void;
  stop(): Promise<void>;
}
