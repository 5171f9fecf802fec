import type { IpAddress } from '../../model/address.js';
import type { InterfaceName } from '../../model/dataplane.js';

/** Who is asked for names, and by which tunnel. */
export interface DnsWish {
  /** The tunnel that carries the traffic. Programs that keep resolvers by interface take this one. */
  readonly device: InterfaceName;
  /** One to three. */
  readonly servers: readonly IpAddress[];
  /** This client's other tunnels: whatever was set for them is undone. */
  readonly others: readonly InterfaceName[];
}

/** What was found and done. */
export interface DnsReport {
  /** How this machine is told, as a person reads it: `systemd-resolved`, `resolvconf`, `/etc/resolv.conf`. */
  readonly way: string;
  /** Something was not as wished, and is now. */
  readonly changed: boolean;
  /** Looking again costs no more than reading a file. */
  readonly cheap: boolean;
}

/**
 * The machine's resolver. Three verbs, all repeatable and serialised inside. Whatever `put` has set survives this process; `restore`
 * finds it by itself, also after a power cut. Rejects with VpndError: `dataplane` where it cannot be changed (read-only,
 * immutable), `disk-full`, `no-tool`, `no-root` where this process has no way to; then what was there before is still in force.
 * Real: dataplane/dns-linux.ts, by way of dns-helper.ts where the daemon is not root; twin: dataplane/dns-memory.ts.
 */
export interface Dns {
  /** Makes it as wished, whatever is there, and keeps what was there. Touches nothing that is right already. */
  put(wish: DnsWish): Promise<DnsReport>;
  /** Puts back what was there before, or leaves what others have set meanwhile. Answers with a line for each thing of ours that
   * was taken away. */
  restore(devices: readonly InterfaceName[]): Promise<readonly string[]>;
  /** Which way `put` would take, changing nothing. */
  way(): Promise<string>;
  close(): Promise<void>;
}
