import type { InterfaceName } from '../../model/dataplane.js';

/** The interface of one of several tunnels or keys: the first has the configured name. At most 15 characters long. */
export const slotDevice = (base: InterfaceName, slot: number): InterfaceName =>
  (slot === 0 ? base : `${base.slice(0, 13)}-${slot}`) as InterfaceName;
