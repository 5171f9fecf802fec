import type { Endpoint, Family, HostPort, IpAddress, Port } from './address.js';
import type { PeerId } from './ids.js';
import type { Country, Region } from './role.js';
import type { Millis } from './time.js';

/** What a node carries at present. */
export interface Load {
  readonly sessions: number;
  readonly sessionCapacity: number;
  readonly streams: number;
  readonly cpuPercent: number;
  readonly txMbps: number;
  readonly rxMbps: number;
}

export const NO_LOAD: Load = { sessions: 0, sessionCapacity: 0, streams: 0, cpuPercent: 0, txMbps: 0, rxMbps: 0 };

/** A supernode as base publishes it. */
export interface SupernodeInfo {
  readonly id: PeerId;
  readonly region: Region;
  /** Where its gRPC service is dialled, best first. */
  readonly addresses: readonly HostPort[];
  /** Public addresses its relay ports are on, at most one of each family. */
  readonly relayIps: readonly IpAddress[];
  /** UDP port that answers probes. */
  readonly probePort: Port | undefined;
  readonly draining: boolean;
  readonly load: Load;
}

/** An exit as its supernode knows it. */
export interface ExitCandidate {
  readonly id: PeerId;
  readonly supernode: PeerId;
  readonly region: Region;
  readonly country: Country | undefined;
  readonly pool: string;
  readonly ipv6: boolean;
  readonly load: Load;
  readonly maxMbps: number;
  /** Round trip between the exit and its supernode; undefined before the first heartbeat. */
  readonly latency: Millis | undefined;
  /** Where a client certainly reaches the exit; undefined behind NAT. */
  readonly publicEndpoint: Endpoint | undefined;
  /** The supernode's own egress. */
  readonly egress: boolean;
  /** Family of the exit's stream, and so of the relay port that faces it. */
  readonly family: Family;
}
