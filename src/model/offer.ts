import type { IpAddress } from './address.js';
import type { Bytes } from './bytes.js';
import type { SessionId } from './ids.js';
import type { WireGuardPublicKey } from './keys.js';
import type { Instant } from './time.js';

/** The inner addresses of one session: one of each family, and the gateway every exit answers on. */
export interface InnerAddresses {
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  readonly gatewayIpv4: IpAddress;
  readonly gatewayIpv6: IpAddress;
}

/** An exit's statement of the keys and addresses of one session. Travels as `Signed`. */
export interface Offer {
  readonly session: SessionId;
  readonly clientKey: WireGuardPublicKey;
  readonly exitKey: WireGuardPublicKey;
  readonly inner: InnerAddresses;
  /** ML-KEM-768 ciphertext, 1088 bytes; empty where the exit takes no part in it, or was not asked. */
  readonly kemCiphertext: Bytes;
  /** SHA-256 of the encapsulation key that the exit was given for it, so that a client sees when it was another; empty without one. */
  readonly kemKeyHash: Bytes;
  readonly expires: Instant;
  /** Whether the exit carries IPv6 to the internet; where it does not, the client blocks IPv6. */
  readonly ipv6: boolean;
}
