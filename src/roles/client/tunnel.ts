import type { Cidr, Endpoint } from '../../model/address.js';
import { hostCidr } from '../../model/address.js';
import { type EndpointPin, type InterfaceName, TUNNEL_MARK, type TunnelUse, type Unit } from '../../model/dataplane.js';
import type { WireGuardKeyPair, WireGuardPublicKey } from '../../model/keys.js';
import { INNER_MTU } from '../common/exit-units.js';
import { knockingPeer } from '../common/knock.js';
import type { Exemption } from './exemptions.js';
import type { HeldSession } from './held-session.js';

/** One of the client's WireGuard interfaces, with a session of its own. A value: changed by being replaced. */
export interface Tunnel {
  /** 0, 1 or 2. */
  readonly slot: number;
  readonly device: InterfaceName;
  readonly table: number;
  readonly keys: WireGuardKeyPair;
  readonly use: TunnelUse;
  /** Undefined while it is still being asked for: the device is there, and nothing goes through it. */
  readonly held: HeldSession | undefined;
  /** The session is over, and what would go through the tunnel is held until there is another. */
  readonly holds: boolean;
  readonly pin: EndpointPin | undefined;
  /** It is being looked for whether packets get through directly. */
  readonly search: Search | undefined;
  /** Datagrams go inside the stream to the supernode: WireGuard sends here, on the loopback. */
  readonly carriedAt: Endpoint | undefined;
}

/** While a direct way is looked for, the tunnel's packets take the way they had (way-search.ts). */
export interface Search {
  /** Where the exit is, as its relay has seen it. */
  readonly at: Endpoint;
  /** Knocks there; nobody has its private key. */
  readonly knock: WireGuardPublicKey;
  /** For a moment packets do go there. */
  readonly glimpse: boolean;
}

/** A tunnel that has its session. */
export type HeldTunnel = Tunnel & { readonly held: HeldSession };
export const hasSession = (tunnel: Tunnel): tunnel is HeldTunnel => tunnel.held !== undefined;

/** Whether its session is there and may carry packets: it neither only holds traffic nor stands in a dead one's place. */
export const isInForce = (tunnel: Tunnel): tunnel is HeldTunnel =>
  hasSession(tunnel) && !tunnel.holds && tunnel.use !== 'dead';

/** What a tunnel asks of the data plane. */
export function tunnelUnits(tunnel: Tunnel, exempt: readonly Exemption[]): readonly Unit[] {
  const { device, keys, held, search } = tunnel;
  const addresses = held === undefined ? [] : [hostCidr(held.inner.ipv4), hostCidr(held.inner.ipv6)];
  const units: Unit[] = [
    {
      kind: 'device',
      name: device,
      privateKey: keys.privateKey,
      listenPort: undefined,
      mtu: INNER_MTU,
      addresses,
      mark: TUNNEL_MARK,
    },
  ];
  if (held === undefined) return units;
  if (isInForce(tunnel)) {
    units.push({
      kind: 'peer',
      device,
      publicKey: held.exitKey,
      presharedKey: held.preshared?.key,
      allowedIps: ['0.0.0.0/0' as Cidr, '::/0' as Cidr],
      endpoint: tunnel.carriedAt ?? (search?.glimpse ? search.at : held.endpoint),
      keepalive: held.keepalive,
    });
    if (search !== undefined) units.push(knockingPeer(device, search.knock, search.at));
  }
  const ways = [
    held.endpoint,
    ...(held.relay === undefined ? [] : [held.relay.endpoint]),
    ...(search === undefined ? [] : [search.at]),
  ];
  const own = new Map(ways.map((endpoint) => [`${endpoint.ip} ${endpoint.port}`, endpoint]));
  units.push({
    kind: 'full-tunnel',
    device,
    use: tunnel.use,
    table: tunnel.table,
    sources: [held.inner.ipv4, held.inner.ipv6],
    exempt: [...[...own.values()].map((endpoint) => ({ protocol: 'udp' as const, endpoint })), ...exempt],
    ipv6: held.ipv6 ? 'tunnel' : 'block',
    // What comes directly is counted, and must not turn WireGuard round.
    pin: search === undefined ? tunnel.pin : { from: search.at, to: held.endpoint },
  });
  return units;
}
