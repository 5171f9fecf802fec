import fc from 'fast-check';
import t from 'tap';
import { decodeJson, encodeJson } from '../../src/store/json-codec.js';
import { decodeDesired, decodeResponse } from '../../src/store/records.js';

const key = fc.string().filter((text) => !text.startsWith('$') && text !== '__proto__');
const { value } = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.string(),
    fc.double({ noNaN: true, noDefaultInfinity: true }).map((n) => (Object.is(n, -0) ? 0 : n)),
    fc.boolean(),
    fc.constantFrom(null, undefined),
    fc.uint8Array().map((bytes) => Uint8Array.from(bytes)),
    fc.array(tie('value'), { maxLength: 5 }),
    fc.dictionary(key, tie('value'), { maxKeys: 5, noNullPrototype: true }),
  ),
}));

t.test('whatever can be stored comes back as it was', async (t) => {
  fc.assert(
    fc.property(value, (stored) => {
      t.strictSame(decodeJson(encodeJson(stored)), stored);
    }),
    { numRuns: 300 },
  );
});

t.test('what would come back as something else is refused', async (t) => {
  const cases: [string, unknown][] = [
    ['not a number', Number.NaN],
    ['infinity', Number.POSITIVE_INFINITY],
    ['minus zero', -0],
    ['a big integer', 1n],
    ['a function', () => 1],
    ['a symbol', Symbol('x')],
    ['a date', new Date(0)],
    ['a map', new Map()],
    ['a class', new (class Thing {})()],
    ['a reserved key', { $bytes: 'AA==' }],
    ['a prototype', JSON.parse('{"__proto__": 1}')],
    ['deep inside', { a: [{ b: Number.NaN }] }],
  ];
  for (const [what, one] of cases) t.throws(() => encodeJson(one), TypeError, what);
  t.throws(() => encodeJson({ a: [{ b: Number.NaN }] }), /\$\.a\[0\]\.b/, 'the place is named');
});

t.test('what no vpnd wrote is taken for damage', async (t) => {
  for (const text of [
    '',
    '{',
    '{"$bytes":1}',
    '{"$bytes":"A"}',
    '{"$bytes":"AA==","x":1}',
    '{"$date":0}',
    '{"a":1,"$b":2}',
  ])
    t.throws(() => decodeJson(text), { code: 'state-corrupt' }, text);
  for (const text of ['{}', '[1]', '[{"kind":"explode"}]', '[[]]'])
    t.throws(() => decodeDesired(text), { code: 'state-corrupt' }, text);
  for (const text of ['1', '[]', '{"offer":1}', '{"offer":{"body":"x","signature":{"$bytes":""}}}'])
    t.throws(() => decodeResponse(text), { code: 'state-corrupt' }, text);
});
