import { status } from '@grpc/grpc-js';
import type { ErrorCode } from '../../model/errors.js';

/**
 * The gRPC status of every refusal, for clients that know gRPC but not vpnd's words. The word itself travels in the
 * trailer `vpnd-error-bin`.
 */
export const STATUS_OF: Readonly<Record<ErrorCode, status>> = {
  'bad-token': status.UNAUTHENTICATED,
  'token-expired': status.UNAUTHENTICATED,
  'token-used': status.UNAUTHENTICATED,
  'token-revoked': status.UNAUTHENTICATED,
  'wrong-ca': status.UNAUTHENTICATED,
  'wrong-role': status.PERMISSION_DENIED,
  'wrong-region': status.PERMISSION_DENIED,
  'bad-signature': status.UNAUTHENTICATED,
  'bad-membership': status.UNAUTHENTICATED,
  'bad-revocations': status.UNAUTHENTICATED,
  'membership-expired': status.UNAUTHENTICATED,
  revoked: status.PERMISSION_DENIED,
  'clock-skew': status.UNAUTHENTICATED,
  'not-enrolled': status.UNAUTHENTICATED,
  forbidden: status.PERMISSION_DENIED,
  'bad-message': status.INVALID_ARGUMENT,
  'version-mismatch': status.FAILED_PRECONDITION,
  unauthenticated: status.UNAUTHENTICATED,
  'rate-limited': status.RESOURCE_EXHAUSTED,
  full: status.RESOURCE_EXHAUSTED,
  timeout: status.DEADLINE_EXCEEDED,
  unreachable: status.UNAVAILABLE,
  closed: status.UNAVAILABLE,
  'not-supported': status.UNIMPLEMENTED,
  'not-found': status.NOT_FOUND,
  'command-conflict': status.ABORTED,
  'stale-generation': status.FAILED_PRECONDITION,
  'command-failed': status.INTERNAL,
  'no-exit': status.UNAVAILABLE,
  'exit-refused': status.FAILED_PRECONDITION,
  'exit-gone': status.UNAVAILABLE,
  'no-path': status.UNAVAILABLE,
  'no-addresses': status.RESOURCE_EXHAUSTED,
  'no-ports': status.RESOURCE_EXHAUSTED,
  'bad-offer': status.FAILED_PRECONDITION,
  'no-handshake': status.UNAVAILABLE,
  'no-session': status.NOT_FOUND,
  'no-direct': status.UNAVAILABLE,
  draining: status.UNAVAILABLE,
  'bad-config': status.FAILED_PRECONDITION,
  'no-root': status.FAILED_PRECONDITION,
  'no-tun': status.FAILED_PRECONDITION,
  'no-nft': status.FAILED_PRECONDITION,
  'no-wireguard': status.FAILED_PRECONDITION,
  'no-tool': status.FAILED_PRECONDITION,
  'port-in-use': status.FAILED_PRECONDITION,
  'state-unreadable': status.INTERNAL,
  'state-locked': status.INTERNAL,
  'state-corrupt': status.INTERNAL,
  'state-newer': status.INTERNAL,
  'disk-full': status.INTERNAL,
  dataplane: status.INTERNAL,
  'daemon-not-running': status.UNAVAILABLE,
  internal: status.INTERNAL,
};

export const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(STATUS_OF, code);

/** What a bare status of a foreign server, without the trailer, comes closest to. */
export function codeOfStatus(code: number): ErrorCode {
  switch (code) {
    case status.UNAUTHENTICATED:
      return 'unauthenticated';
    case status.PERMISSION_DENIED:
      return 'forbidden';
    case status.RESOURCE_EXHAUSTED:
      return 'full';
    case status.INVALID_ARGUMENT:
    case status.OUT_OF_RANGE:
      return 'bad-message';
    case status.FAILED_PRECONDITION:
    case status.UNIMPLEMENTED:
      return 'not-supported';
    case status.NOT_FOUND:
      return 'not-found';
    case status.DEADLINE_EXCEEDED:
      return 'timeout';
    case status.UNAVAILABLE:
      return 'unreachable';
    case status.CANCELLED:
    case status.ABORTED:
      return 'closed';
    default:
      return 'internal';
  }
}
