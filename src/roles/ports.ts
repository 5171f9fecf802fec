import type { Audit } from '../core/ports/audit.js';
import type { CertificateTools, Statements } from '../core/ports/authority.js';
import type { Clock } from '../core/ports/clock.js';
import type { Crypto } from '../core/ports/crypto.js';
import type { Datagrams } from '../core/ports/datagrams.js';
import type { DataPlane } from '../core/ports/dataplane.js';
import type { Dns } from '../core/ports/dns.js';
import type { Log } from '../core/ports/log.js';
import type { FindLoginPage } from '../core/ports/login-page.js';
import type { Metrics } from '../core/ports/metrics.js';
import type { Network } from '../core/ports/network.js';
import type { NetworkWatch } from '../core/ports/network-watch.js';
import type { Portal } from '../core/ports/portal.js';
import type { Random } from '../core/ports/random.js';
import type { Reach } from '../core/ports/reach.js';
import type { Store } from '../core/ports/store.js';
import type { UdpSockets } from '../core/ports/udp-sockets.js';
import type { Load } from '../model/directory.js';
import type { LocalHandlers } from '../transport/local-api.js';

/** All that a role needs of the world. A role gets nothing from anywhere else, so a simulation can run it. */
export interface RolePorts<S extends Store = Store> {
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly statements: Statements;
  readonly certificates: CertificateTools;
  readonly network: Network;
  readonly store: S;
  readonly log: Log;
  /** NO_AUDIT for exits and clients. */
  readonly audit: Audit;
  readonly metrics: Metrics;
  /** Version text for AuthRequest and status. */
  readonly version: string;
}

export interface ForwardingPorts extends RolePorts {
  readonly dataplane: DataPlane;
  readonly datagrams: Datagrams;
  readonly reach: Reach;
  readonly networkWatch: NetworkWatch;
  readonly udpSockets: UdpSockets;
  /** Undefined where nobody looks for log-in pages. */
  readonly findLoginPage?: FindLoginPage;
  /** Undefined where nothing is to be let out for a log-in. */
  readonly portal?: Portal | undefined;
  /** Undefined where this machine's resolver is not to be set. */
  readonly dns?: Dns | undefined;
  /** What the machine does at present; rates of its uplink. */
  hostLoad(): Pick<Load, 'cpuPercent' | 'txMbps' | 'rxMbps'>;
}

/** A started role, as the command that started it sees it. */
export interface RunningRole {
  /** What the local API answers. */
  readonly local: LocalHandlers;
  /** For /healthz. */
  health(): { readonly ok: boolean; readonly detail: string };
  /**
   * Stop cleanly: end streams, finish what is under way, leave running sessions forwarding.
   * Answers with a line for each thing left in place.
   */
  stop(): Promise<readonly string[]>;
}
