import { Code, ConnectError } from '@connectrpc/connect';
import { ErrorSchema } from '../gen/vpnd/v1/types_pb.js';
import { type ErrorCode, toVpndError, VpndError } from '../model/errors.js';

/** Connect's own code is for tools that know no vpnd; the detail carries what the command line acts on. */
const CODES: Partial<Record<ErrorCode, Code>> = {
  'not-supported': Code.Unimplemented,
  'not-found': Code.NotFound,
  'no-session': Code.NotFound,
  forbidden: Code.PermissionDenied,
  'bad-config': Code.InvalidArgument,
  'bad-message': Code.InvalidArgument,
  timeout: Code.DeadlineExceeded,
  unreachable: Code.Unavailable,
  full: Code.ResourceExhausted,
  'rate-limited': Code.ResourceExhausted,
  closed: Code.Aborted,
  internal: Code.Internal,
};

/** Whatever a handler threw, as it travels over the local API. */
export function toConnectError(thrown: unknown): ConnectError {
  if (thrown instanceof ConnectError) return thrown;
  const { code, message, details, retryable } = toVpndError(thrown);
  return new ConnectError(message, CODES[code] ?? Code.FailedPrecondition, undefined, [
    { desc: ErrorSchema, value: { code, message, details: { ...details }, retryable } },
  ]);
}

/** Whatever a call over the local API threw, as a VpndError: the daemon's own refusal, or what kept it from answering. */
export function fromConnectError(thrown: unknown, socket: string): VpndError {
  if (thrown instanceof VpndError) return thrown;
  if (!(thrown instanceof ConnectError)) return toVpndError(thrown);
  const detail = thrown.findDetails(ErrorSchema)[0];
  if (detail !== undefined) {
    return new VpndError(detail.code as ErrorCode, detail.message, {
      cause: thrown,
      details: detail.details,
      retryable: detail.retryable,
    });
  }
  const errno = errnoOf(thrown);
  if (errno === 'EACCES' || errno === 'EPERM') {
    return new VpndError(
      'no-root',
      `${socket} belongs to another user; run this as root, or as the user of the daemon`,
      {
        cause: thrown,
      },
    );
  }
  if (errno === 'ENOENT' || errno === 'ECONNREFUSED' || errno === 'ENOTSOCK') return daemonNotRunning(socket, thrown);
  switch (thrown.code) {
    case Code.Canceled:
      return new VpndError('closed', 'cancelled', { cause: thrown });
    case Code.DeadlineExceeded:
      return new VpndError('timeout', 'the daemon did not answer in time', { cause: thrown, retryable: true });
    case Code.Unavailable:
    case Code.Aborted:
      return new VpndError('closed', 'the daemon ended while it was asked', { cause: thrown });
    case Code.Unimplemented:
      return new VpndError('not-supported', 'the daemon is another version and does not know this request', {
        cause: thrown,
      });
    default:
      return new VpndError('internal', thrown.rawMessage, { cause: thrown });
  }
}

export const daemonNotRunning = (socket: string, cause?: unknown): VpndError =>
  new VpndError(
    'daemon-not-running',
    `no vpnd answers at ${socket}; start it with \`vpnd base\`, \`vpnd supernode\`, \`vpnd exit\` or \`vpnd client\` (or \`systemctl start vpnd-<role>\`)`,
    { cause, details: { socket } },
  );

function errnoOf(thrown: unknown): string | undefined {
  for (let at = thrown; at instanceof Error; at = at.cause) {
    const code = (at as NodeJS.ErrnoException).code;
    if (typeof code === 'string' && /^E[A-Z]+$/.test(code)) return code;
  }
  return undefined;
}
