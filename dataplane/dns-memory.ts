import type { Dns, DnsWish } from '../src/core/ports/dns.js';
import type { VpndError } from '../src/model/errors.js';

/** A machine's resolver in memory, which outlives the process that sets it. */
export interface MemoryDns extends Dns {
  /** What is in force, or undefined while it is as it was before. */
  readonly wish: DnsWish | undefined;
  /** How often something was written. */
  readonly writes: number;
  /** Somebody else sets it. */
  rewrite(): void;
  /** Every call fails with this; undefined ends it. */
  fault: VpndError | undefined;
}

export function openMemoryDns(): MemoryDns {
  let wish: DnsWish | undefined;
  let writes = 0;
  const memory: MemoryDns = {
    get wish() {
      return wish;
    },
    get writes() {
      return writes;
    },
    fault: undefined,
    rewrite: () => {
      wish = undefined;
    },
    async put(wanted) {
      if (memory.fault !== undefined) throw memory.fault;
      const isSo = wish?.device === wanted.device && wish.servers.join() === wanted.servers.join();
      if (!isSo) {
        writes++;
        wish = wanted;
      }
      return { way: 'memory', changed: !isSo, cheap: true };
    },
    async restore() {
      if (memory.fault !== undefined) throw memory.fault;
      if (wish === undefined) return [];
      wish = undefined;
      writes++;
      return ['the resolver is what it was'];
    },
    way: async () => 'memory',
    close: async () => {},
  };
  return memory;
}
