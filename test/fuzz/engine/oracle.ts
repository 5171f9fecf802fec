import { isDeepStrictEqual } from 'node:util';
import { VpndError } from '../../../src/model/errors.js';
import type { Result } from '../../../src/model/result.js';

/** A promise that was broken, in words. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

export function must(holds: boolean, what: string, shown?: unknown): asserts holds {
  if (holds) return;
  throw new Violation(shown === undefined ? what : `${what}: ${print(shown)}`);
}

export function mustEqual(actual: unknown, expected: unknown, what: string): void {
  if (isDeepStrictEqual(actual, expected)) return;
  throw new Violation(`${what}: ${print(actual)} instead of ${print(expected)}`);
}

/** What it gives; undefined where it refused. Whatever else it throws passes through. */
export function orRefused<T>(parse: () => T, codes?: readonly string[]): T | undefined {
  try {
    return parse();
  } catch (thrown) {
    checkRefusal(thrown, codes);
    return undefined;
  }
}

/** Of a parser that gives a Result: it throws nothing at all. */
export function orRefusal<T>(result: Result<T, VpndError>, codes?: readonly string[]): T | undefined {
  if (result.ok) return result.value;
  checkRefusal(result.error, codes);
  return undefined;
}

/** A refusal has a word for itself, one line for people, and no mistake of the program behind it. */
export function checkRefusal(thrown: unknown, codes?: readonly string[]): void {
  if (!(thrown instanceof VpndError)) throw thrown;
  must(thrown.code !== 'internal', 'a refusal says `internal`', thrown.message);
  must(codes === undefined || codes.includes(thrown.code), 'it refuses with another code', thrown.code);
  for (let cause: unknown = thrown.cause; cause instanceof Error; cause = cause.cause) {
    if (!isMistake(cause)) continue;
    throw new Violation(`a ${cause.name} behind ${thrown.code}: ${cause.message}\n${cause.stack ?? ''}`);
  }
}

/**
 * Whether the language threw this in a place of the project's own. Decoders of other packages throw RangeError for bytes
 * that end early; they mean it.
 */
export function isMistake(thrown: unknown): boolean {
  if (!(thrown instanceof TypeError || thrown instanceof RangeError || thrown instanceof ReferenceError)) return false;
  const frames = (thrown.stack ?? '')
    .split('\n')
    .filter((line) => /^\s+at .*[/:]/.test(line) && !/node:|<anonymous>/.test(line));
  return !/node_modules|[/\\]gen[/\\]/.test(frames[0] ?? '');
}

function print(value: unknown): string {
  const text =
    typeof value === 'string'
      ? value
      : JSON.stringify(value, (_, inner: unknown) =>
          typeof inner === 'bigint'
            ? `${inner}n`
            : inner instanceof Uint8Array
              ? Buffer.from(inner).toString('hex')
              : inner,
        );
  return (text ?? String(value)).slice(0, 600);
}
