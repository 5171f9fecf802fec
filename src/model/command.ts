import type { Endpoint, IpAddress, Port } from './address.js';
import type { Bytes } from './bytes.js';
import type { CommandId, PeerId, SessionId } from './ids.js';
import type { WireGuardPublicKey } from './keys.js';
import type { Signed } from './membership.js';
import type { InnerAddresses } from './offer.js';
import type { Path } from './role.js';
import type { Instant, Millis } from './time.js';

/** Seconds; often enough for every home router: RFC 4787 REQ-5 allows UDP mappings to end after two minutes, many end sooner. */
export const KEEPALIVE_S = 25;

/** SETUP_EXIT: let one client key through, from one inner address. */
export interface SetupExit {
  readonly kind: 'setup-exit';
  readonly clientKey: WireGuardPublicKey;
  readonly inner: InnerAddresses;
  /** Where the exit sends to, opening its own NAT; undefined when the client comes to the exit. */
  readonly endpoint: Endpoint | undefined;
  /** Seconds; 0 for none. */
  readonly keepalive: number;
  /** The client's ML-KEM-768 key; empty where it takes no part in it, or the pre-shared key stays as it is. */
  readonly kemKey: Bytes;
  /** Which of its keys the exit has given the session, in its own ledger alone: never on the wire. */
  readonly exitKey?: WireGuardPublicKey | undefined;
  /** What the exit has made of it, in its own ledger alone: never on the wire. */
  readonly preshared?: Preshared | undefined;
}

/** A session's WireGuard pre-shared key as its exit keeps it, for as long as the session lives. */
export interface Preshared {
  /** SHA-256 of the client's ML-KEM key: asked again with the same one, the exit answers the same. */
  readonly kemKeyHash: Bytes;
  readonly ciphertext: Bytes;
  /** Base64, newest first. More than one until a handshake has shown which of them the client has. */
  readonly keys: readonly string[];
  readonly since: Instant;
}

/** Where a relay port sends what comes from its peer. */
export type RelayNext =
  | { readonly kind: 'hop'; readonly endpoint: Endpoint }
  /** A second port of the same supernode, which faces the session's other peer. */
  | { readonly kind: 'pair'; readonly port: Port };

/** RELAY_SETUP: forward one UDP port. */
export interface RelaySetup {
  readonly kind: 'relay-setup';
  readonly port: Port;
  readonly localIp: IpAddress;
  readonly vouched: readonly IpAddress[];
  readonly next: RelayNext;
}

/** RELAY_UPDATE: send there from now on. */
export interface RelayUpdate {
  readonly kind: 'relay-update';
  readonly endpoint: Endpoint;
  /** Seconds; 0 for none. */
  readonly keepalive: number;
  /** What the session's path is with this endpoint. */
  readonly path: Path;
}

/** ROTATE_PEER: the client is to replace this session by another, make before break. */
export interface RotatePeer {
  readonly kind: 'rotate-peer';
  readonly reason: string;
  /** Ask another supernode: the one that says this drains. */
  readonly leaveSupernode: boolean;
  /** The exit carries no traffic any more. */
  readonly urgent: boolean;
  readonly avoidExits: readonly PeerId[];
}

export interface Disconnect {
  readonly kind: 'disconnect';
  readonly reason: string;
}

export type Desired = SetupExit | RelaySetup | RelayUpdate | RotatePeer | Disconnect;
export type CommandKind = Desired['kind'];

/** An idempotent order of a supervisor. */
export interface Command {
  readonly id: CommandId;
  readonly session: SessionId;
  readonly generation: number;
  /** How long the state stays valid with nobody renewing it, from when it is applied. */
  readonly lease: Millis;
  readonly desired: Desired;
}

/** What an applied command answers with. */
export interface CommandDone {
  /** SETUP_EXIT's signed offer. */
  readonly offer: Signed | undefined;
}
