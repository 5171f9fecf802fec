import type { IpAddress } from '../../model/address.js';
import type {
  DeviceTraffic,
  EgressObservation,
  InterfaceName,
  PeerObservation,
  PinObservation,
  RelayObservation,
  Unit,
  UnitId,
} from '../../model/dataplane.js';

/** What a full comparison with the kernel found and put right. */
export interface Reconciliation {
  /** Units that were missing or different. */
  readonly repaired: readonly UnitId[];
  /** Residue under vpnd's names that nobody desires, as text for a log. */
  readonly removed: readonly string[];
}

export interface UnitChange {
  readonly put?: readonly Unit[];
  readonly remove?: readonly UnitId[];
}

/**
 * The forwarding side of one node. Three verbs: `apply` a difference, `reconcile` with everything desired, `observe`.
 * All of them are idempotent and serialised inside; a rejected `apply` (VpndError `dataplane`) has changed nothing
 * that a following `reconcile` would not put right. Real: dataplane/linux.ts; twin: dataplane/memory.ts.
 */
export interface DataPlane {
  readonly engine: 'kernel' | 'userspace' | 'memory';
  /** Put and remove units, all or nothing, against what the kernel has. Removing what is absent is no error. */
  apply(change: UnitChange): Promise<void>;
  /** Make the kernel equal to `desired`, leaving units that are already right untouched (no packet lost). */
  reconcile(desired: readonly Unit[]): Promise<Reconciliation>;
  observePeers(): Promise<readonly PeerObservation[]>;
  observeRelays(): Promise<readonly RelayObservation[]>;
  /** Cheap enough for five times a second: two small files. Undefined where there is no such device. */
  traffic(device: InterfaceName): DeviceTraffic | undefined;
  observePins(): Promise<readonly PinObservation[]>;
  /** What exits' rules have counted; all zero where there is no egress. */
  observeEgress(): Promise<EgressObservation>;
  /** Reset this machine's own TCP connections from these addresses at once, where the kernel can; never rejects. */
  resetConnections(from: readonly IpAddress[]): Promise<void>;
  /** How many of this machine's own connections (TCP, and connected UDP) leave from these addresses; never rejects. */
  openConnections(from: readonly IpAddress[]): Promise<number>;
  /** Whether this machine has a default route to the internet, by family. */
  uplinks(): Promise<{ readonly ipv4: boolean; readonly ipv6: boolean }>;
  /** Whether a kill switch is kept on file, to be put in force at the next boot. */
  lockedDown(): boolean;
  /** How many programs run outside the tunnels (`vpnd exclude`); undefined where this machine has no cgroup v2 for it. */
  excludedPrograms(): number | undefined;
  /** What of vpnd's own is in the kernel now, for shutdown messages, doctor and tests: one line each. */
  inventory(): Promise<readonly string[]>;
  /** Stop using the kernel; leaves everything in place. */
  close(): Promise<void>;
}
