import { type ErrorCode, VpndError } from '../../model/errors.js';
import type { Outcome, Refusal } from '../../model/messages.js';

/** Every code as data: the compiler refuses a missing one. */
const CODES: Readonly<Record<ErrorCode, true>> = {
  'bad-token': true,
  'token-expired': true,
  'token-used': true,
  'token-revoked': true,
  'wrong-ca': true,
  'wrong-role': true,
  'wrong-region': true,
  'bad-signature': true,
  'bad-membership': true,
  'membership-expired': true,
  revoked: true,
  'clock-skew': true,
  'not-enrolled': true,
  forbidden: true,
  'bad-message': true,
  'version-mismatch': true,
  unauthenticated: true,
  'rate-limited': true,
  full: true,
  timeout: true,
  unreachable: true,
  closed: true,
  'not-supported': true,
  'not-found': true,
  'command-conflict': true,
  'stale-generation': true,
  'command-failed': true,
  'no-exit': true,
  'exit-refused': true,
  'exit-gone': true,
  'no-path': true,
  'no-addresses': true,
  'no-ports': true,
  'bad-offer': true,
  'no-handshake': true,
  'no-session': true,
  'bad-config': true,
  'no-root': true,
  'no-tun': true,
  'no-nft': true,
  'no-wireguard': true,
  'no-tool': true,
  'port-in-use': true,
  'state-unreadable': true,
  'state-locked': true,
  'state-corrupt': true,
  'state-newer': true,
  'disk-full': true,
  dataplane: true,
  'daemon-not-running': true,
  internal: true,
};

export const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(CODES, code);

/**
 * What the other side is told about something thrown. An unexpected exception's text may hold anything, so it stays
 * here; the caller logs it.
 */
export function refusalOf(thrown: unknown): Refusal {
  if (thrown instanceof VpndError && thrown.code !== 'internal') {
    const { code, message, details, retryable } = thrown;
    return { code, message, details, retryable };
  }
  return { code: 'internal', message: 'an internal error; its cause is in the log', details: {}, retryable: true };
}

/** Whether something thrown is a failure of this program rather than a refusal, and so belongs in its log. */
export const isUnexpected = (thrown: unknown): boolean => !(thrown instanceof VpndError) || thrown.code === 'internal';

/** What the other side's refusal means here. A code of a newer version becomes `internal`, so codes stay a closed set. */
export function errorOf(refusal: Refusal): VpndError {
  const { code, message, details, retryable } = refusal;
  return isErrorCode(code)
    ? new VpndError(code, message, { details: { ...details }, retryable })
    : new VpndError('internal', message, { details: { ...details, code }, retryable });
}

/** What a request's handler gave or threw, as the answer that travels. */
export async function outcomeOf<T>(work: () => Promise<T>, unexpected: (thrown: unknown) => void): Promise<Outcome<T>> {
  try {
    return { ok: true, value: await work() };
  } catch (thrown) {
    if (isUnexpected(thrown)) unexpected(thrown);
    return { ok: false, error: refusalOf(thrown) };
  }
}
