import { type EgressObservation, VIOLATIONS, type Violation } from '../src/model/dataplane.js';
import { FROM_CLIENTS, TO_CLIENTS, violationOf } from './egress-text.js';
import { type Count, listCounts } from './nft.js';
import type { Runner } from './run.js';

export type EgressCounts = Pick<EgressObservation, 'refused' | 'fromClients' | 'toClients'>;

/** What an owner's table counts, and went on counting when it was written anew, which sets the kernel's to zero. */
export class EgressCounters {
  #carried: ReadonlyMap<string, Count> = new Map();

  constructor(
    private readonly runner: Runner,
    private readonly table: string,
  ) {}

  /** Before the table is replaced; what it answers is called after. */
  async carryOver(): Promise<() => void> {
    const all = await this.#all();
    return () => {
      this.#carried = all;
    };
  }

  /** `unallowed`: packets that WireGuard itself refused for their source, where it says so. */
  async read(unallowed: number): Promise<EgressCounts> {
    const all = await this.#all();
    const refused = Object.fromEntries(VIOLATIONS.map((kind) => [kind, 0])) as Record<Violation, number>;
    for (const [name, { packets }] of all) {
      const kind = violationOf(name);
      if (kind !== undefined) refused[kind] = packets;
    }
    refused.source += unallowed;
    const bytes = (name: string) => all.get(name)?.bytes ?? 0;
    return { refused, fromClients: bytes(FROM_CLIENTS), toClients: bytes(TO_CLIENTS) };
  }

  async #all(): Promise<ReadonlyMap<string, Count>> {
    const present = (await listCounts(this.runner, 'inet', this.table)) ?? new Map<string, Count>();
    const sum = new Map(this.#carried);
    for (const [name, { packets, bytes }] of present) {
      const before = sum.get(name) ?? { packets: 0, bytes: 0 };
      sum.set(name, { packets: before.packets + packets, bytes: before.bytes + bytes });
    }
    return sum;
  }
}
