import type { CommandExecutor } from '../../core/executor.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Reconciliation } from '../../core/ports/dataplane.js';
import type { Log } from '../../core/ports/log.js';
import type { UnitId } from '../../model/dataplane.js';
import { seconds } from '../../model/time.js';
import type { History } from './history.js';
import { Periodic } from './periodic.js';

/** How soon somebody else's change to our kernel state is put right. */
const EVERY = seconds(30);

/** Compares ledger and kernel every 30 s and repairs the difference. */
export function reconcileRegularly(
  executor: CommandExecutor,
  ports: { clock: Clock; log: Log },
  history: History,
): Periodic {
  return new Periodic(
    'comparing the data plane with the ledger',
    EVERY,
    async () => report(await executor.reconcile(), ports.log, history),
    ports,
  );
}

/** Says what a start had to make or remove: after a crash nothing, for what is in force is taken up as it is. */
export function adopted(found: Reconciliation, log: Log): void {
  if (found.repaired.length > 0) log.info('made what was missing', { count: found.repaired.length });
  for (const what of found.removed) log.warn('removed what nobody desires', { unit: what });
}

/** Says what was found changed; silent when all was as it should be. */
function report(found: Reconciliation, log: Log, history: History): void {
  for (const unit of found.repaired) log.warn('repaired what somebody else had changed', { unit });
  if (found.repaired.length > 0) {
    history.record('repaired', `somebody else had changed or removed ${kinds(found.repaired)}; made again`);
  }
  for (const what of found.removed) log.warn('removed what nobody desires', { unit: what });
}

/** `2 x peer, device`: what kinds of units these are, without the keys in their names. */
export function kinds(units: readonly UnitId[]): string {
  const counts = new Map<string, number>();
  for (const unit of units) {
    const kind = unit.slice(0, unit.indexOf('/'));
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  return [...counts].map(([kind, count]) => (count === 1 ? kind : `${count} x ${kind}`)).join(', ');
}
