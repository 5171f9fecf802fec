import type { Cidr, Endpoint, IpAddress, Port } from './address.js';
import type { RelayNext } from './command.js';
import type { SessionId } from './ids.js';
import type { WireGuardPrivateKey, WireGuardPublicKey } from './keys.js';
import type { Instant } from './time.js';

/**
 * The desired state of one node's data plane: a set of units, each complete in itself, each with an id of its own.
 * What is not in the set and carries vpnd's names is residue. `dataplane/` makes Linux equal to it.
 */
export type Unit = DeviceUnit | PeerUnit | RelayUnit | EgressUnit | FullTunnelUnit | KillSwitchUnit | ShaperUnit;

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
  /** Firewall mark of the packets that WireGuard itself sends; none unless given. */
  readonly mark?: number | undefined;
}

/**
 * The mark of what a client's WireGuard sends: with the endpoint's address and port it is what a kill switch knows a
 * tunnel's packets by, since no program without CAP_NET_ADMIN can set it.
 */
export const TUNNEL_MARK = 0x76706e01;

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
  /** Never reached, besides special addresses and this machine's own: what the owner names. */
  readonly forbidden: readonly Cidr[];
  /** Neither are the networks that this machine is connected to, followed as they change; IPv6 ones as the /56 around. */
  readonly forbidOnLink: boolean;
  readonly limits: ConnectionLimits;
}

/** How much of connection tables, this machine's and its router's, is lent; 0 for no limit. */
export interface ConnectionLimits {
  /** New connections a second of one inner address; ten seconds' worth may come at once. */
  readonly newPerSession: number;
  /** New connections a second of all sessions. */
  readonly newInAll: number;
  /** Connections that one inner address has open at a time. */
  readonly openPerSession: number;
}

/**
 * What clients of a device may send, and as much again receive: packets inside the tunnel, in bits a second, 0 for no
 * limit. Sessions, which are the device's peers, share it evenly. At least one of the two is set.
 */
export interface ShaperUnit {
  readonly kind: 'shaper';
  readonly device: InterfaceName;
  /** All sessions together. */
  readonly rate: number;
  readonly sessionRate: number;
}

/** What an exit refuses, each counted by the kernel and never forwarded. Words of metrics and status. */
export const VIOLATIONS = [
  // from an address that is not the session's
  'source',
  // private, link-local, metadata, multicast and reserved addresses
  'special-address',
  // this machine, the networks it is connected to, and those its owner names
  'own-network',
  'other-client',
  // port 25
  'mail',
  'new-connections',
  'open-connections',
] as const;
export type Violation = (typeof VIOLATIONS)[number];

/** What the egresses of a data plane have refused and carried since they were made. */
export interface EgressObservation {
  /** Packets, by what they violated. */
  readonly refused: Readonly<Record<Violation, number>>;
  /** Bytes inside tunnels: from clients to the internet, and back. */
  readonly fromClients: number;
  readonly toClients: number;
  /** Refused because this machine is connected to them. */
  readonly onLink: readonly Cidr[];
  /** Refused at every exit: private, link-local, metadata, multicast and reserved addresses. */
  readonly special: readonly Cidr[];
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

/** Packets that are let past a client's tunnels: to exactly this address and port, and no wider (TunnelCrack, CVE-2023-36672). */
export interface Exemption {
  readonly protocol: 'tcp' | 'udp';
  readonly endpoint: Endpoint;
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
  readonly exempt: readonly Exemption[];
  /** `block` where the exit has no IPv6: refused locally, never leaked. */
  readonly ipv6: 'tunnel' | 'block';
  readonly pin: EndpointPin | undefined;
}

/**
 * While it is there nothing leaves this machine but by tunnels, and what is said here: no routes, rules or devices are
 * needed for that, and none undoes it. It stands without any tunnel, too.
 */
export interface KillSwitchUnit {
  readonly kind: 'kill-switch';
  /** Interfaces of tunnels, whether they are there at present or not. */
  readonly devices: readonly InterfaceName[];
  /** Where tunnels' own packets go: only what has TUNNEL_MARK, by UDP. */
  readonly endpoints: readonly Endpoint[];
  /** The daemon's own streams and probes: only from sockets of its user. */
  readonly own: readonly Exemption[];
  /** Private networks beside this machine may be reached, and discovery on them (mDNS, SSDP). Never public addresses. */
  readonly lan: boolean;
  /** Networks that are reached outside the tunnels, as if there were none. */
  readonly exclude: readonly Cidr[];
  /** It is kept on file as well, to be put in force at the next boot before any network is up. */
  readonly persist: boolean;
}

declare const unitId: unique symbol;
/** `device/wg-exit`, `peer/wg-exit/<key>`, `relay/40001`, `egress/wg-exit`, `full-tunnel/wg-client`, `kill-switch/client`. */
export type UnitId = string & { readonly [unitId]: true };

/** A machine has one. */
export const KILL_SWITCH = 'kill-switch/client' as UnitId;

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
    case 'shaper':
      return `shaper/${unit.device}` as UnitId;
    case 'kill-switch':
      return KILL_SWITCH;
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
