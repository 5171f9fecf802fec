import type { Crypto } from '../../core/ports/crypto.js';
import type { Endpoint } from '../../model/address.js';
import { toBase64, utf8 } from '../../model/bytes.js';
import { KEEPALIVE_S } from '../../model/command.js';
import type { InterfaceName, PeerUnit } from '../../model/dataplane.js';
import type { SessionId } from '../../model/ids.js';
import type { WireGuardPublicKey } from '../../model/keys.js';

/** A public key that nobody has the private key of; another one for each `count`. */
export const knockKey = (crypto: Pick<Crypto, 'sha256'>, session: SessionId, count: number): WireGuardPublicKey =>
  toBase64(crypto.sha256(utf8(`vpnd/knock/${session}/${count}`))) as WireGuardPublicKey;

/**
 * A peer beside the session's own. As soon as it is put, WireGuard sends a handshake to `endpoint` out of the device's own
 * port: routers on the way take it for what it is, and whoever gets it drops it at its first MAC (WireGuard paper, section
 * 5.4.4). WireGuard repeats it after five seconds and no sooner; with another key it knocks at once.
 */
export const knockingPeer = (device: InterfaceName, publicKey: WireGuardPublicKey, endpoint: Endpoint): PeerUnit => ({
  kind: 'peer',
  device,
  publicKey,
  presharedKey: undefined,
  allowedIps: [],
  endpoint,
  keepalive: KEEPALIVE_S,
});
