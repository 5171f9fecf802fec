import { Metadata, type StatusObject, status } from '@grpc/grpc-js';
import type { ExpectedServer } from '../../core/ports/network.js';
import { formatHostPort, type HostPort } from '../../model/address.js';
import { VpndError } from '../../model/errors.js';
import { clean } from '../codec/fields.js';
import { MAX_TEXT } from '../codec/limits.js';
import { decodeError, encodeError } from '../codec/refusal.js';
import { codeOfStatus, STATUS_OF } from '../codec/status.js';
import { toldAbroad } from '../streams/refusal.js';
import { describe } from './certificates.js';
import { ERROR_KEY } from './options.js';

/** A refusal as gRPC status and trailer. What broke inside stays inside: `internal` travels without its text. */
export function statusFor(error: VpndError): StatusObject {
  const told = error.code === 'internal' ? new VpndError('internal', 'internal error') : toldAbroad(error);
  const metadata = new Metadata();
  metadata.set(ERROR_KEY, Buffer.from(encodeError(told)));
  return { code: STATUS_OF[told.code], details: clean(told.message, MAX_TEXT), metadata };
}

/** The error that a trailer carries. */
export function errorInTrailer(metadata: Metadata): VpndError | undefined {
  const [trailer] = metadata.get(ERROR_KEY);
  return Buffer.isBuffer(trailer) ? decodeError(trailer) : undefined;
}

/** Statuses that grpc-js itself makes when a connection breaks. */
export const isLoss = (code: number): boolean =>
  code === status.UNAVAILABLE || code === status.CANCELLED || code === status.INTERNAL || code === status.UNKNOWN;

/** Where and whom a call went to. */
export interface Destination {
  readonly address: HostPort;
  readonly expect: ExpectedServer;
}

/** What a node says of itself only (`toldAbroad`): whose it is must be added. */
const isOwnTrouble = ({ code }: VpndError): boolean => code === 'disk-full' || code.startsWith('state-');

/** How a call or dial that ended with this status failed; `failure` is what its connection attempt came upon. */
export function errorOfStatus(
  ended: Pick<StatusObject, 'code' | 'details' | 'metadata'>,
  to: Destination,
  failure: VpndError | undefined,
): VpndError {
  const where = `${describe(to.expect)} at ${formatHostPort(to.address)}`;
  const told = errorInTrailer(ended.metadata);
  if (told !== undefined)
    return isOwnTrouble(told) ? new VpndError(told.code, `${where}: ${told.message}`, told) : told;
  if (ended.code === status.UNAVAILABLE) return failure ?? unreachable(where, ended.details);
  if (/larger than max/.test(ended.details))
    return new VpndError('bad-message', `${where}: a message was too large: ${clean(ended.details, MAX_TEXT)}`);
  const code = codeOfStatus(ended.code);
  return new VpndError(code, `${where}: ${clean(ended.details, MAX_TEXT) || code}`, {
    retryable: code === 'full' || code === 'timeout' || code === 'closed',
  });
}

export function unreachable(where: string, reason: string, cause?: unknown): VpndError {
  return new VpndError('unreachable', `${where} cannot be reached: ${plain(reason)}`, { cause, retryable: true });
}

export const timedOut = (where: string, after: number): VpndError =>
  new VpndError('timeout', `${where} did not answer within ${after} ms`, { retryable: true });

const REASONS: readonly (readonly [RegExp, string])[] = [
  [/ECONNREFUSED/, 'nothing listens there (connection refused)'],
  [/ENETUNREACH/, 'no route to that network'],
  [/EHOSTUNREACH/, 'no route to that host'],
  [/ETIMEDOUT/, 'the connection timed out'],
  [/ENOTFOUND|Name resolution failed/, 'the name does not resolve'],
  [/EAI_AGAIN/, 'name resolution is not available'],
  [/ECONNRESET|EPIPE|Connection dropped|socket hang up/, 'the connection was reset'],
];

/** grpc-js packs the operating system's reason into a long line; people need the reason. */
function plain(details: string): string {
  return REASONS.find(([pattern]) => pattern.test(details))?.[1] ?? clean(details, MAX_TEXT);
}
