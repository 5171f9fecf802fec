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
  try {
    await runner.run('ss', ['-t', '-H', '-K', ...fromAny(from)]);
  } catch (thrown) {
    log.debug('this machine cannot reset connections of its own accord', { err: toVpndError(thrown) });
  }
}

/**
 * How many of this machine's connections leave from these addresses: TCP but for what is over (TIME-WAIT), and connected
 * UDP sockets. Never rejects: a machine that cannot tell has one, so that nothing is ended that may be in use.
 */
export async function countConnections(runner: Runner, from: readonly IpAddress[], log: Log): Promise<number> {
  if (from.length === 0) return 0;
  try {
    const listed = await runner.run('ss', [
      '-t',
      '-u',
      '-n',
      '-H',
      'state',
      'connected',
      'exclude',
      'time-wait',
      ...fromAny(from),
    ]);
    return listed.split('\n').filter((line) => line.trim() !== '').length;
  } catch (thrown) {
    log.debug('this machine cannot list its connections', { err: toVpndError(thrown) });
    return 1;
  }
}

const fromAny = (from: readonly IpAddress[]): readonly string[] =>
  from.flatMap((ip, i) => [...(i === 0 ? [] : ['or']), 'src', ip.includes(':') ? `[${ip}]` : ip]);
