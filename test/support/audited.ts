import type { AuditEvent } from '../../src/core/ports/audit.js';
import { openSodium } from '../../src/identity/sodium.js';
import { keyOf } from '../../src/model/ids.js';
import { type AuditLog, openAudit } from '../../src/obs/audit.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { seededRandom } from './seeded-random.js';
import { testLog } from './test-log.js';
import { VirtualClock } from './virtual-clock.js';

const { crypto } = await openSodium();

export const anEvent = (n: number): AuditEvent => ({
  code: 'token-made',
  by: 'operator',
  on: `token:${String(n).padStart(8, '0')}`,
  detail: { uses: n, role: 'exit' },
});

/** An audit log over a memory store, in virtual time. */
export function auditWorld(seed = 1, store = openMemoryStore()) {
  const clock = new VirtualClock();
  const log = testLog();
  const identity = crypto.identityFromSeed(seededRandom(seed).bytes(32));
  const open = (): AuditLog => openAudit({ store: store.audit, facts: store.facts, identity, crypto, clock, log });
  let audit = open();
  return {
    clock,
    log,
    identity,
    crypto,
    key: keyOf(identity.id),
    get store() {
      return store;
    },
    get audit() {
      return audit;
    },
    /** The process dies, and is started again on the same disk. */
    crash() {
      store = store.reopen();
      audit = open();
    },
    /** The same, after a tidy end. */
    restart() {
      audit.close();
      this.crash();
    },
    /** Records so many events, one at a time. */
    async fill(count: number) {
      for (let n = 1; n <= count; n++) {
        await audit.record(anEvent(n));
        await clock.advance(1_000);
      }
    },
  };
}
