import type { Log } from '../src/core/ports/log.js';
import type { IpAddress } from '../src/model/address.js';
import { toVpndError } from '../src/model/errors.js';
import type { Runner } from './run.js';

/**
 * Ends this machine's TCP connections from these addresses at once, also those that are idle; never rejects. A kernel
 * without CONFIG_INET_DIAG_DESTROY cannot: there they end when they next send (filter-text.ts, `dead`).
 */
export async function resetConnections(runner: Runner, from: readonly IpAddress[], log: Log): Promise<void> {
  if (from.length === 0) return;
  const filter = from.flatMap((ip, i) => [...(i === 0 ? [] : ['or']), 'src', ip.includes(':') ? `[${ip}]` : ip]);
  try {
    await runner.run('ss', ['-t', '-H', '-K', ...filter]);
  } catch (thrown) {
    log.debug('this machine cannot reset connections of its own accord', { err: toVpndError(thrown) });
  }
}
