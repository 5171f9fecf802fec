/**
 * Everything vpnd refuses has one of these words. They travel on the wire (`Error.code`), stand in logs and are listed
 * in docs/protocol.md; adding one is a protocol change, renaming one is a breaking one.
 */
export type ErrorCode =
  // enrolment and identity
  | 'bad-token'
  | 'token-expired'
  | 'token-used'
  | 'token-revoked'
  | 'wrong-ca'
  | 'wrong-role'
  | 'wrong-region'
  | 'bad-signature'
  | 'bad-membership'
  | 'membership-expired'
  | 'revoked'
  | 'bad-revocations'
  | 'clock-skew'
  | 'not-enrolled'
  | 'forbidden'
  // protocol
  | 'bad-message'
  | 'version-mismatch'
  | 'unauthenticated'
  | 'rate-limited'
  | 'full'
  | 'timeout'
  | 'unreachable'
  | 'closed'
  | 'not-supported'
  | 'not-found'
  // commands
  | 'command-conflict'
  | 'stale-generation'
  | 'command-failed'
  // sessions
  | 'no-exit'
  | 'exit-refused'
  | 'exit-gone'
  | 'no-path'
  | 'no-addresses'
  | 'no-ports'
  | 'bad-offer'
  | 'no-handshake'
  | 'no-session'
  | 'no-direct'
  | 'draining'
  // this machine
  | 'bad-config'
  | 'no-root'
  | 'no-tun'
  | 'no-nft'
  | 'no-wireguard'
  | 'no-tool'
  | 'port-in-use'
  | 'state-unreadable'
  | 'state-locked'
  | 'state-corrupt'
  | 'state-newer'
  | 'disk-full'
  | 'dataplane'
  | 'daemon-not-running'
  | 'internal';

/**
 * A refusal or failure with a stable code, one line for a person, and data for programs. `message` says what is wrong
 * and, where the reader can mend it, what to do.
 */
export class VpndError extends Error {
  override readonly name = 'VpndError';
  readonly code: ErrorCode;
  readonly details: Readonly<Record<string, string>>;
  readonly retryable: boolean;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; details?: Record<string, string>; retryable?: boolean } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.details = Object.freeze({ ...options.details });
    this.retryable = options.retryable ?? false;
  }
}

/** Whatever was thrown, as a VpndError; an unknown one keeps its cause under `internal`. */
export function toVpndError(thrown: unknown): VpndError {
  if (thrown instanceof VpndError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return new VpndError('internal', text, { cause: thrown });
}
