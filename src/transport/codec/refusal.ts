import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import { ErrorSchema, type Error as WireError } from '../../gen/vpnd/v1/types_pb.js';
import type { Bytes } from '../../model/bytes.js';
import { type ErrorCode, VpndError } from '../../model/errors.js';
import type { Outcome, Refusal } from '../../model/messages.js';
import { err, ok } from '../../model/result.js';
import { clean, malformed, parsing, text } from './fields.js';
import { MAX_DETAIL_VALUE, MAX_DETAILS, MAX_LABEL, MAX_TEXT } from './limits.js';
import { isErrorCode } from './status.js';

export const refusalToWire = (refusal: Refusal): MessageInitShape<typeof ErrorSchema> => ({
  code: clean(refusal.code, MAX_LABEL),
  message: clean(refusal.message, MAX_TEXT),
  details: Object.fromEntries(
    Object.entries(refusal.details)
      .slice(0, MAX_DETAILS)
      .map(([name, value]) => [clean(name, MAX_LABEL), clean(value, MAX_DETAIL_VALUE)]),
  ),
  retryable: refusal.retryable,
});

export function refusalFromWire(wire: WireError): Refusal {
  const details = Object.entries(wire.details);
  if (details.length > MAX_DETAILS) malformed('error.details');
  return {
    code: /^[a-z0-9-]+$/.test(wire.code) ? text(wire.code, 'error.code', MAX_LABEL) : malformed('error.code'),
    message: text(wire.message, 'error.message', MAX_TEXT),
    details: Object.fromEntries(
      details.map(([name, value]) => [
        text(name, 'error.details', MAX_LABEL),
        text(value, 'error.details', MAX_DETAIL_VALUE),
      ]),
    ),
    retryable: wire.retryable,
  };
}

/** An error as it travels; causes and stacks stay here. */
export const refusalOf = (error: VpndError): Refusal => ({
  code: error.code,
  message: error.message,
  details: error.details,
  retryable: error.retryable,
});

/** A refusal as this side's error. A code of a newer version becomes `internal`, its word kept in the details. */
export function errorOfRefusal(refusal: Refusal): VpndError {
  const known = isErrorCode(refusal.code);
  const code: ErrorCode = isErrorCode(refusal.code) ? refusal.code : 'internal';
  return new VpndError(code, refusal.message, {
    details: known ? { ...refusal.details } : { ...refusal.details, code: refusal.code },
    retryable: refusal.retryable,
  });
}

/** The trailer `vpnd-error-bin`. */
export const encodeError = (error: VpndError): Bytes =>
  toBinary(ErrorSchema, create(ErrorSchema, refusalToWire(refusalOf(error))));

/** Undefined when it does not parse. */
export function decodeError(trailer: Bytes): VpndError | undefined {
  const parsed = parsing('error', () => errorOfRefusal(refusalFromWire(fromBinary(ErrorSchema, trailer))));
  return parsed.ok && parsed.value.known ? parsed.value.value : undefined;
}

export const succeeded = <T>(value: T): Outcome<T> => ok(value);
export const refused = (wire: WireError): Outcome<never> => err(refusalFromWire(wire));
