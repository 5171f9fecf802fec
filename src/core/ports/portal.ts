import type { IpAddress } from '../../model/address.js';
import type { Millis } from '../../model/time.js';

/** What programs of the portal's control group may reach outside the tunnels, and for how long. */
export interface PortalPass {
  /** The network's own, for names. */
  readonly resolvers: readonly IpAddress[];
  readonly duration: Millis;
}

/**
 * A way to a log-in page past everything that holds traffic, for the programs that `vpnd portal` has put into their control
 * group, and nobody else. Rejects with VpndError `dataplane`, `not-supported`, `not-found` (no program is in that group). Real: dataplane/portal.ts.
 */
export interface Portal {
  /** The network's own resolvers, and its gateways, which often are one. Never rejects. */
  resolvers(): Promise<readonly IpAddress[]>;
  /** Web pages by plain and encrypted HTTP, and names. The kernel closes it by itself after the time, whoever is dead by then. */
  open(pass: PortalPass): Promise<void>;
  /** Nothing happens where it is closed. */
  close(): Promise<void>;
}
