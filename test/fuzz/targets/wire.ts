import fc from 'fast-check';
import { VpndError } from '../../../src/model/errors.js';
import type { ControlMessage, UnaryName } from '../../../src/model/messages.js';
import { decodeControl, encodeControl } from '../../../src/transport/codec/control.js';
import { MAX_MESSAGE_BYTES } from '../../../src/transport/codec/limits.js';
import { decodeError, encodeError } from '../../../src/transport/codec/refusal.js';
import { type MessageCodec, UNARY } from '../../../src/transport/codec/unary.js';
import { CONTROL, UNARY_MESSAGES } from '../../support/message-arbitraries.js';
import { concat } from '../engine/mutate-bytes.js';
import { must, mustEqual, orRefusal } from '../engine/oracle.js';
import type { Chance } from '../engine/random.js';
import type { Target } from '../engine/target.js';

/** Texts that fields are made of; protobuf field numbers are the mutator's business. */
const WORDS = [
  ...[
    'eu',
    'us',
    'supernode',
    'exit',
    'client',
    'direct',
    'relay2',
    '10.200.0.1',
    'fd76:706e:6400::1',
    '::ffff:10.0.0.1',
  ],
  ...[
    '203.0.113.7:443',
    '[2001:db8::1]',
    'a.example',
    '10.200.0.0/13',
    'DE',
    'bad-message',
    'internal',
    '0.0.0.0',
    '::',
  ],
];

/** Drawing anew costs a hundred times what reading costs: a few hundred of each are drawn once. */
export function pool<T>(arbitraries: readonly fc.Arbitrary<T>[], each: number, seed: number): readonly T[] {
  return arbitraries.flatMap((one) => fc.sample(one, { numRuns: each, seed }));
}

/** Every kind of control message, as it travels. */
export function controlMessages(seed: number, each = 40): readonly Uint8Array[] {
  const all = pool<ControlMessage>(Object.values(CONTROL) as fc.Arbitrary<ControlMessage>[], each, seed);
  return all.map(encodeControl);
}

const COUNTS = new Set([
  'id',
  'requestId',
  'generation',
  'timestamp',
  'serverTime',
  'from',
  'at',
  'lease',
  'took',
  'port',
]);
const LINES = new Set(['ca', 'certificate', 'caCertificate']);

/** What reading the same bytes twice cannot show: numbers that another program reads otherwise, text of several lines. */
function checkFields(value: unknown, key = ''): void {
  if (typeof value === 'number') must(!COUNTS.has(key) || Number.isSafeInteger(value), 'a count is none', [key, value]);
  else if (typeof value === 'string') must(LINES.has(key) || !/\p{Cc}/u.test(value), 'a text has lines', value);
  else if (typeof value === 'object' && value !== null && !(value instanceof Uint8Array))
    for (const [name, inner] of Object.entries(value)) checkFields(inner, Array.isArray(value) ? key : name);
}

export const control: Target = {
  name: 'control',
  shape: 'protobuf',
  words: WORDS,
  mostBytes: MAX_MESSAGE_BYTES,
  open: async (seed) => {
    const valid = controlMessages(seed);
    return {
      make: (chance) => chance.of(valid),
      run(input) {
        const read = orRefusal(decodeControl(input), ['bad-message']);
        if (read === undefined || !read.known) return;
        checkFields(read.value);
        const written = encodeControl(read.value);
        mustEqual(decodeControl(written), { ok: true, value: read }, 'a message comes out as another');
        // A cheap message must not be made dear: what is kept of it is no larger than what came, but for defaults.
        must(written.length <= 2 * input.length + 256, 'a message grows', [input.length, written.length]);
      },
    };
  },
};

/** Requests of every call, as they travel. */
export function unaryRequests(seed: number, each: number): ReadonlyMap<UnaryName, readonly Uint8Array[]> {
  return new Map(
    (Object.keys(UNARY_MESSAGES) as UnaryName[]).map((name) => {
      const drawn = fc.sample(UNARY_MESSAGES[name][0] as fc.Arbitrary<never>, { numRuns: each, seed });
      return [name, drawn.map((request) => UNARY[name].request.encode(request))];
    }),
  );
}

const NAMES = Object.keys(UNARY_MESSAGES) as UnaryName[];
interface AnyCall {
  readonly codec: MessageCodec<unknown>;
  readonly arbitrary: fc.Arbitrary<unknown>;
}
const CALLS: readonly AnyCall[] = NAMES.flatMap((name) => [
  { codec: UNARY[name].request as MessageCodec<unknown>, arbitrary: UNARY_MESSAGES[name][0] as fc.Arbitrary<unknown> },
  { codec: UNARY[name].response as MessageCodec<unknown>, arbitrary: UNARY_MESSAGES[name][1] as fc.Arbitrary<unknown> },
]);

/** A byte that says which call, and its request or response. */
export const calls: Target = {
  name: 'calls',
  shape: 'protobuf',
  words: WORDS,
  mostBytes: MAX_MESSAGE_BYTES,
  open: async (seed) => {
    const valid = CALLS.map(({ codec, arbitrary }) =>
      fc.sample(arbitrary, { numRuns: 40, seed }).map((message) => codec.encode(message)),
    );
    return {
      // As a field of a message, so that the mutator sees through to what is inside.
      make: (chance: Chance) => {
        const which = chance.below(CALLS.length);
        return concat(Uint8Array.of(0x08, which), chance.of(valid[which] ?? []));
      },
      run(input) {
        const { codec } = CALLS[(input[1] ?? 0) % CALLS.length] as AnyCall;
        const read = orRefusal(codec.decode(input.subarray(2)), ['bad-message']);
        if (read !== undefined)
          mustEqual(codec.decode(codec.encode(read)), { ok: true, value: read }, 'a call changes');
      },
    };
  },
};

/** The trailer in which a refusal travels. */
export const refusal: Target = {
  name: 'refusal',
  shape: 'protobuf',
  words: [...WORDS, 'revoked', 'retry_after', '__proto__', 'constructor', 'code', 'code'],
  open: async () => ({
    make: (chance) => {
      const code = chance.of(['revoked', 'full', 'bad-offer', 'internal'] as const);
      const details = { candidates: 'a.example:443', code: 'x' };
      return encodeError(new VpndError(code, 'because', { details, retryable: chance.oneIn(2) }));
    },
    run(input) {
      const error = decodeError(input);
      if (error === undefined) return;
      must(Object.getPrototypeOf(error.details) === Object.prototype, 'the details have a prototype of their own');
      const again = decodeError(encodeError(error));
      mustEqual(
        again && [again.code, again.message, again.details, again.retryable],
        [error.code, error.message, error.details, error.retryable],
        'a refusal comes out as another',
      );
    },
  }),
};
