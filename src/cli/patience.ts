import { VpndError } from '../model/errors.js';
import type { Millis } from '../model/time.js';
import type { Io } from './io.js';

/**
 * Runs a request until it is answered, the time is over (then VpndError `timeout` with this text), or a signal ends it.
 */
export async function withPatience<T>(
  io: Io,
  limit: Millis,
  tooLong: string,
  request: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const stop = new AbortController();
  const unlisten = io.onSignal(() => stop.abort());
  const patience = AbortSignal.timeout(limit);
  try {
    return await request(AbortSignal.any([patience, stop.signal]));
  } catch (thrown) {
    if (!patience.aborted) throw thrown;
    throw new VpndError('timeout', tooLong, { cause: thrown });
  } finally {
    unlisten();
  }
}
