import type { Log } from '../src/core/ports/log.js';
import type { Cidr } from '../src/model/address.js';
import type { EgressObservation, InterfaceName, Unit } from '../src/model/dataplane.js';
import { toVpndError } from '../src/model/errors.js';
import { EgressCounters } from './egress-counts.js';
import type { EgressSurroundings } from './filter-specs.js';
import { readOnLink } from './on-link.js';
import type { Runner } from './run.js';
import { NEVER_REACHED_IPV4, NEVER_REACHED_IPV6 } from './special-addresses.js';
import { readUnallowed } from './traffic.js';

/** What the egresses of one owner have besides their units: the networks around this machine, and what was counted. */
export class EgressParts implements EgressSurroundings {
  #onLink: readonly Cidr[] = [];
  readonly #counters: EgressCounters;

  constructor(
    private readonly runner: Runner,
    table: string,
    private readonly log: Log,
  ) {
    this.#counters = new EgressCounters(runner, table);
  }

  readonly onLink = (): readonly Cidr[] => this.#onLink;
  readonly replacing = (): Promise<() => void> => this.#counters.carryOver();

  /** Look where this machine is; true when that has changed. Never rejects: what was known then stays. */
  async look(): Promise<boolean> {
    try {
      const now = await readOnLink(this.runner);
      const changed = JSON.stringify(now) !== JSON.stringify(this.#onLink);
      this.#onLink = now;
      return changed;
    } catch (thrown) {
      this.log.warn('this machine’s networks cannot be looked at', { err: toVpndError(thrown) });
      return false;
    }
  }

  async observe(units: readonly Unit[]): Promise<EgressObservation> {
    const egresses = units.filter((unit) => unit.kind === 'egress');
    const devices = egresses.map((unit): InterfaceName => unit.device);
    const unallowed = devices.reduce((sum, device) => sum + readUnallowed(device), 0);
    return {
      ...(await this.#counters.read(unallowed)),
      onLink: egresses.some((unit) => unit.forbidOnLink) ? this.#onLink : [],
      special: [...NEVER_REACHED_IPV4, ...NEVER_REACHED_IPV6],
    };
  }
}
