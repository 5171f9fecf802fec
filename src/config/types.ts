import type { OpeningHours } from '../core/hours.js';
import type { Cidr, Endpoint, HostPort, IpAddress, Port } from '../model/address.js';
import type { InterfaceName } from '../model/dataplane.js';
import type { Country, PostQuantum, Privacy, Region } from '../model/role.js';
import type { Millis } from '../model/time.js';

/** Which WireGuard engine carries packets: `auto` takes the kernel's where there is one, else wireguard-go. */
export type EngineChoice = 'auto' | 'kernel' | 'userspace' | 'memory';

/** What every daemon has. All configurations are frozen and checked whole before anything touches the system. */
export interface CommonConfig {
  /** Holds keys (0600), the SQLite file, the lock and the local API's socket. */
  readonly stateDir: string;
  /** Unix socket of the local API; `<stateDir>/vpnd.sock` unless set. */
  readonly socket: string;
  /** Whom a daemon started by root becomes: a name or a number; undefined for the role's own user. */
  readonly user: string | undefined;
  /** /metrics and /healthz; undefined turns them off. */
  readonly metricsListen: HostPort | undefined;
  readonly logLevel: 'debug' | 'info' | 'warn' | 'error';
  readonly logPrivacy: 'strict' | 'partial' | 'off';
}

/** How long what is over is kept. */
export interface RetentionConfig {
  /** Answers to commands, and tombstones of sessions. */
  readonly retainSessions: Millis;
  /** What `vpnd events` shows. */
  readonly retainEvents: Millis;
}

export interface BaseConfig extends CommonConfig {
  readonly role: 'base';
  readonly listen: HostPort;
  /** Addresses that join tokens carry, best first. */
  readonly advertise: readonly HostPort[];
  /** Inner addresses of the whole overlay. */
  readonly poolIpv4: Cidr;
  readonly poolIpv6: Cidr;
  /** Prefix length of the IPv4 blocks leased to supernodes; the IPv6 blocks are /64. */
  readonly blockLength: number;
  readonly membershipTtl: Millis;
  readonly certificateTtl: Millis;
  /** Entries of the audit log. */
  readonly retainAudit: Millis;
}

export interface MemberConfig extends CommonConfig {
  /** Join token, needed at the first start only. */
  readonly join: string | undefined;
  /** Must agree with the token's when given. */
  readonly region: Region | undefined;
}

export interface SupernodeConfig extends MemberConfig, RetentionConfig {
  readonly role: 'supernode';
  readonly listen: HostPort;
  /** The same service on further addresses. */
  readonly listenAlso: readonly HostPort[];
  /** Where peers and other supernodes dial this one, best first. */
  readonly advertise: readonly HostPort[];
  /** Public addresses that relay ports are on, at most one of each family. */
  readonly relayIps: readonly IpAddress[];
  readonly relayPorts: { readonly from: Port; readonly to: Port };
  /** UDP reflector that peers probe; undefined turns it off. */
  readonly probePort: Port | undefined;
  /** Be an exit too: interface `wg-relay`. */
  readonly egress: boolean;
  readonly interface: InterfaceName;
  /** WireGuard port of the egress. */
  readonly wireguardPort: Port;
  readonly dataplane: EngineChoice;
  readonly country: Country | undefined;
  readonly sessionCapacity: number;
  /** How long a session lives with nobody renewing it. */
  readonly lease: Millis;
  /** How long a stopping supernode gives its sessions to move elsewhere; 0 stops at once and leaves them in the kernel. */
  readonly drainTimeout: Millis;
  /** Entries of the audit log. */
  readonly retainAudit: Millis;
}

export interface ExitConfig extends MemberConfig, RetentionConfig {
  readonly role: 'exit';
  readonly interface: InterfaceName;
  readonly dataplane: EngineChoice;
  readonly country: Country | undefined;
  /** A forwarded port or public address; clients then come straight to the exit. */
  readonly publicEndpoint: Endpoint | undefined;
  readonly wireguardPort: Port | undefined;
  /** Mbit/s that the owner lends, in each direction; 0 for no limit. */
  readonly maxMbps: number;
  /** The most of it for one session; 0 for no limit. */
  readonly maxSessionMbps: number;
  /** Open at a time, of one session; 0 for no limit. */
  readonly maxConnections: number;
  /** New ones a second, of one session and of all; 0 for no limit. */
  readonly maxNewConnections: number;
  readonly maxNewConnectionsInAll: number;
  /** Networks that clients never reach, besides those that nobody reaches through any exit. */
  readonly forbid: readonly Cidr[];
  /** When it is lent; undefined for always. */
  readonly hours: OpeningHours | undefined;
  /** Of the hours; undefined for this machine's. */
  readonly timeZone: string | undefined;
  readonly sessionCapacity: number;
  /** `auto`: carry IPv6 when this machine has a global route for it. */
  readonly ipv6: 'auto' | 'on' | 'off';
  /** Post-quantum pre-shared keys with clients. */
  readonly pq: PostQuantum;
  /** How long a WireGuard key is given to new sessions; undefined for ever. */
  readonly wireguardKeyEvery: Millis | undefined;
  /** Hosts whose silence means that this exit has lost the internet, besides the overlay's own. */
  readonly uplinkCheck: readonly HostPort[];
}

export interface ClientConfig extends MemberConfig, RetentionConfig {
  readonly role: 'client';
  readonly interface: InterfaceName;
  readonly dataplane: EngineChoice;
  /** Routing table of the first tunnel; the others' follow it. */
  readonly table: number;
  readonly privacy: Privacy;
  /** Keep a second tunnel ready. */
  readonly standby: boolean;
  /** Post-quantum pre-shared keys with exits. */
  readonly pq: PostQuantum;
  /** Who is asked for names, through the tunnel: one to three; undefined leaves this machine's resolver alone. */
  readonly dns: readonly IpAddress[] | undefined;
  /** Private networks beside this machine stay reachable while a tunnel is wanted. */
  readonly allowLan: boolean;
  /** Networks that are reached outside the tunnels. */
  readonly exclude: readonly Cidr[];
  /** Hold traffic without a tunnel, without the daemon and through reboots; undefined leaves it as it is. */
  readonly lockdown: boolean | undefined;
  /** Go over to another exit this often; undefined for never. */
  readonly rotateEvery: Millis | undefined;
}

export type DaemonConfig = BaseConfig | SupernodeConfig | ExitConfig | ClientConfig;
