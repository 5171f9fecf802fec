import type { Endpoint } from './address.js';
import type { Bytes } from './bytes.js';
import type { PeerId, SessionId } from './ids.js';
import type { WireGuardPublicKey } from './keys.js';
import type { Signed } from './membership.js';
import type { Country, Path, Privacy, Region } from './role.js';
import type { Millis } from './time.js';

/** What a client wishes of its exit. Undefined means no wish. */
export interface ExitWish {
  readonly region: Region | undefined;
  readonly country: Country | undefined;
  readonly pool: string | undefined;
  readonly exit: PeerId | undefined;
  readonly minMbps: number | undefined;
  readonly maxLatency: Millis | undefined;
  readonly privacy: Privacy;
}

/** A wish together with the keys of the session it asks for. */
export interface ExitRequest extends ExitWish {
  readonly requestId: number;
  readonly sessionKey: WireGuardPublicKey;
  /** A fresh ML-KEM-768 public key; empty where the client takes no part in it. */
  readonly kemKey: Bytes;
  /** It may stay without traffic for as long as it lives. */
  readonly standby: boolean;
  /** Exits that will not do. */
  readonly avoidExits: readonly PeerId[];
  /** Supernodes to be kept off the path where another way exists; the first one above all. */
  readonly avoidSupernodes: readonly PeerId[];
}

/** All a client needs to bring a tunnel up. */
export interface SessionGrant {
  readonly session: SessionId;
  readonly generation: number;
  readonly lease: Millis;
  readonly endpoint: Endpoint;
  /** Seconds; 0 for none. */
  readonly keepalive: number;
  readonly path: Path;
  /** Supernodes on the path, from the client outwards. */
  readonly via: readonly PeerId[];
  readonly offer: Signed;
  readonly exitMembership: Signed;
  readonly exitRegion: Region;
  readonly exitCountry: Country | undefined;
  readonly reasons: readonly string[];
}

export interface SessionDigest {
  readonly session: SessionId;
  readonly generation: number;
}
