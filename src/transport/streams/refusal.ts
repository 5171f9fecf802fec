import { VpndError } from '../../model/errors.js';
import type { Outcome, Refusal } from '../../model/messages.js';
import { refusalOf } from '../codec/refusal.js';

/**
 * Trouble with this machine's own files names a path, which is nobody else's business and would be taken for the
 * reader's own. Whoever passes it on says whose it is.
 */
export function toldAbroad(error: VpndError): VpndError {
  if (error.details.path === undefined) return error;
  const text =
    error.code === 'disk-full'
      ? 'its disk is full; whoever runs it must free some space'
      : 'its state directory cannot be used; its log says why';
  return new VpndError(error.code, text, { cause: error, retryable: error.retryable });
}

/**
 * What the other side is told about something thrown. An unexpected exception's text may hold anything, so it stays
 * here; the caller logs it.
 */
export function refusalOfThrown(thrown: unknown): Refusal {
  if (thrown instanceof VpndError && thrown.code !== 'internal') return refusalOf(toldAbroad(thrown));
  return { code: 'internal', message: 'an internal error; its cause is in the log', details: {}, retryable: true };
}

/** Whether something thrown is a failure of this program rather than a refusal, and so belongs in its log. */
export const isUnexpected = (thrown: unknown): boolean => !(thrown instanceof VpndError) || thrown.code === 'internal';

/** What a request's handler gave or threw, as the answer that travels. */
export async function outcomeOf<T>(work: () => Promise<T>, unexpected: (thrown: unknown) => void): Promise<Outcome<T>> {
  try {
    return { ok: true, value: await work() };
  } catch (thrown) {
    if (isUnexpected(thrown)) unexpected(thrown);
    return { ok: false, error: refusalOfThrown(thrown) };
  }
}
