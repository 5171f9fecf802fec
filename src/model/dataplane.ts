import type { Cidr, Endpoint, IpAddress, Port } from './address.js';
import type { RelayNext } from './command.js';
import type { SessionId } from './ids.js';
import type { WireGuardPrivateKey, WireGuardPublicKey } from './keys.js';
import type { Instant } from './time.js';

/**
 * The desired state of one node's data plane: a set of units, each complete in itself, each with an id of its own.
 * What is not in the set and carries vpnd's names is residue. `dataplane/` makes Linux equal to it.
 */
export type Unit = DeviceUnit | PeerUnit | RelayUnit | EgressUnit | FullTunnelUnit;

declare const interfaceName: unique symbol;
/** A Linux interface name, at most 15 bytes, e.g. `wg-exit`. */
export type InterfaceName = string & { readonly [interfaceName]: true };

export const parseInterfaceName = (text: string): InterfaceName | undefined =>
  /^[a-z][a-z0-9_.-]{0,14}$/i.test(text) ? (text as InterfaceName) : undefined;

/** A WireGuard interface that is up. */
export interface DeviceUnit {
  readonly kind: 'device';
  readonly name: InterfaceName;
  readonly privateKey: WireGuardPrivateKey;
  /** UDP port; undefined lets the kernel choose. */
  readonly listenPort: Port | undefined;
  /** Bytes. 1420 leaves room for WireGuard over IPv6 in 1500. */
  readonly mtu: number;
  readonly addresses: readonly Cidr[];
}

/** One WireGuard peer of a device. */
export interface PeerUnit {
  readonly kind: 'peer';
  readonly device: InterfaceName;
  readonly publicKey: WireGuardPublicKey;
  /** Base64, 32 bytes; undefined for none. */
  readonly presharedKey: string | undefined;
  readonly allowedIps: readonly Cidr[];
  /** Where to send first; WireGuard roams afterwards. Undefined leaves whatever the kernel has learned. */
  readonly endpoint: Endpoint | undefined;
  /** Seconds; 0 for none. */
  readonly keepalive: number;
}

/** One relay port: what comes from its peer goes to `next`, and back. */
export interface RelayUnit {
  readonly kind: 'relay';
  readonly session: SessionId;
  readonly port: Port;
  /** This supernode's public address, of the family of all addresses in the unit. */
  readonly localIp: IpAddress;
  /** Addresses from which the peer behind NAT is learned; packets from elsewhere are dropped. */
  readonly vouched: readonly IpAddress[];
  readonly next: RelayNext;
  /** Where its peer was when the port was not the kernel's: what it starts with. Counts only from a vouched address. */
  readonly learned?: Endpoint | undefined;
}

/** Network address translation from a device's inner addresses to the internet. */
export interface EgressUnit {
  readonly kind: 'egress';
  readonly device: InterfaceName;
  readonly sources: readonly Cidr[];
  /** What is routed to the device, where that is not `sources`: of two devices with one network each has a part of it. */
  readonly routes?: readonly Cidr[] | undefined;
  /** Carry IPv6; where false, IPv6 from the device is refused with an ICMP error. */
  readonly ipv6: boolean;
  /** The gateway addresses, which the device itself answers on. */
  readonly gateways: readonly IpAddress[];
}

/**
 * What a tunnel is for. `active`: all of the client's traffic but what is exempt or bound to another tunnel's address;
 * one at a time (of several the one with the lowest table). `standby`: only what is bound to its inner address, which is
 * the daemon's own probes. `retiring`: connections that were open when another became active stay on it. `dead`: like
 * retiring, but nothing passes any more: local connections from its address are reset as soon as they send, and so is
 * whatever probes it. Where there are tunnels and none is active, everything that is not exempt, LAN or bound to a
 * tunnel's address is refused.
 */
export type TunnelUse = 'active' | 'standby' | 'retiring' | 'dead';

/**
 * While a tunnel moves between two ways to the same peer, packets still come by the old one, and WireGuard would roam
 * back to it with each: they are made to look as if they came from the new one.
 */
export interface EndpointPin {
  readonly from: Endpoint;
  /** The endpoint in use; of the same address family. */
  readonly to: Endpoint;
}

/** All of a client's traffic goes through a device, but for what is exempt. */
export interface FullTunnelUnit {
  readonly kind: 'full-tunnel';
  readonly device: InterfaceName;
  readonly use: TunnelUse;
  /** Routing table, one of its own for each tunnel. */
  readonly table: number;
  /** Inner addresses traffic leaves from. */
  readonly sources: readonly IpAddress[];
  /** What must not go through the tunnel: supernodes' and relays' exact endpoints. */
  readonly exempt: readonly { readonly protocol: 'tcp' | 'udp'; readonly endpoint: Endpoint }[];
  /** `block` where the exit has no IPv6: refused locally, never leaked. */
  readonly ipv6: 'tunnel' | 'block';
  readonly pin: EndpointPin | undefined;
}

declare const unitId: unique symbol;
/** `device/wg-exit`, `peer/wg-exit/<key>`, `relay/40001`, `egress/wg-exit`, `full-tunnel/wg-client`. */
export type UnitId = string & { readonly [unitId]: true };

export function unitIdOf(unit: Unit): UnitId {
  switch (unit.kind) {
    case 'device':
      return `device/${unit.name}` as UnitId;
    case 'peer':
      return `peer/${unit.device}/${unit.publicKey}` as UnitId;
    case 'relay':
      return `relay/${unit.port}` as UnitId;
    case 'egress':
      return `egress/${unit.device}` as UnitId;
    case 'full-tunnel':
      return `full-tunnel/${unit.device}` as UnitId;
  }
}

/** What a WireGuard peer has done so far. */
export interface PeerObservation {
  readonly device: InterfaceName;
  readonly publicKey: WireGuardPublicKey;
  readonly endpoint: Endpoint | undefined;
  /** Undefined before the first handshake. */
  readonly lastHandshake: Instant | undefined;
  readonly rxBytes: number;
  readonly txBytes: number;
}

/**
 * Packets of a device, both ways, since it was made. WireGuard's keepalives and handshakes are among them with the
 * kernel's engine, and not with wireguard-go: a packet sent and not answered is a reason to probe, and no more.
 */
export interface DeviceTraffic {
  readonly rxPackets: number;
  readonly txPackets: number;
}

/** How many packets came from each end of a pin since it was put in place. */
export interface PinObservation {
  readonly device: InterfaceName;
  readonly fromPackets: number;
  readonly toPackets: number;
}

export interface RelayObservation {
  readonly port: Port;
  /** The peer's endpoint as its packets showed it. */
  readonly learned: Endpoint | undefined;
}
