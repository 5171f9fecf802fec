import { create, toBinary } from '@bufbuild/protobuf';
import fc from 'fast-check';
import t from 'tap';
import { ControlMessageSchema } from '../../src/gen/vpnd/v1/control_pb.js';
import { Role } from '../../src/gen/vpnd/v1/types_pb.js';
import { VpndError } from '../../src/model/errors.js';
import type { ControlMessage, UnaryName } from '../../src/model/messages.js';
import { decodeControl, encodeControl } from '../../src/transport/codec/control.js';
import { decodeHeartbeat, encodeHeartbeat } from '../../src/transport/codec/heartbeat.js';
import { MAX_SUPERNODES } from '../../src/transport/codec/limits.js';
import { decodeError, encodeError } from '../../src/transport/codec/refusal.js';
import { UNARY } from '../../src/transport/codec/unary.js';
import { CONTROL, UNARY_MESSAGES } from '../support/message-arbitraries.js';

const RUNS = { numRuns: 60 };
const kinds = Object.keys(CONTROL) as (keyof typeof CONTROL)[];
const sampleOf = <K extends keyof typeof CONTROL>(kind: K) =>
  fc.sample<ControlMessage>(CONTROL[kind], 1)[0] as ControlMessage;

for (const kind of kinds) {
  t.test(`${kind} comes out as it went in`, async (t) => {
    fc.assert(
      fc.property(CONTROL[kind] as fc.Arbitrary<ControlMessage>, (message) => {
        t.strictSame(decodeControl(encodeControl(message)), { ok: true, value: { known: true, value: message } });
      }),
      RUNS,
    );
  });
}

for (const name of Object.keys(UNARY) as UnaryName[]) {
  t.test(`${name}: request and response come out as they went in`, async (t) => {
    const [requests, responses] = UNARY_MESSAGES[name] as readonly [fc.Arbitrary<never>, fc.Arbitrary<never>];
    fc.assert(
      fc.property(requests, responses, (request, response) => {
        const { request: asked, response: answered } = UNARY[name];
        t.strictSame(asked.decode(asked.encode(request)), { ok: true, value: request });
        t.strictSame(answered.decode(answered.encode(response)), { ok: true, value: response });
      }),
      RUNS,
    );
  });
}

t.test('heartbeats by hand are what the general codec makes of them', async (t) => {
  const ids = [0, 1, 127, 128, 300, 2 ** 32, 2 ** 53 - 1];
  for (const id of [...ids, ...fc.sample(fc.maxSafeNat(), 200)]) {
    for (const kind of ['ping', 'pong'] as const) {
      const value = { id: BigInt(id) };
      const body =
        kind === 'ping' ? ({ case: 'pingRequest', value } as const) : ({ case: 'pongResponse', value } as const);
      const generally = toBinary(ControlMessageSchema, create(ControlMessageSchema, { body }));
      const message = kind === 'ping' ? ({ kind, id, load: undefined } as const) : ({ kind, id } as const);
      t.strictSame(encodeHeartbeat(message), generally, `${kind} ${id}`);
      t.strictSame(decodeHeartbeat(generally), message);
    }
  }
});

t.test('what is no heartbeat in its shortest form is left to the general codec', async (t) => {
  const others = [
    [],
    [0x1a],
    [0x1a, 2, 8],
    [0x1a, 1, 8],
    [0x1a, 3, 8, 0x81, 0],
    [0x1a, 3, 8, 1, 1],
    [0x1a, 2, 0x10, 1],
    [0x22, 2, 8, 0x81],
    [0x2a, 2, 8, 1],
    [0x1a, 0, 0x22, 0],
    // Beyond what a number holds: 2^53.
    [0x1a, 9, 8, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10],
  ];
  for (const bytes of others) t.equal(decodeHeartbeat(Uint8Array.from(bytes)), undefined, bytes.join(' '));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 12 }), (noise) => {
      const bytes = Uint8Array.from([fc.sample(fc.constantFrom(0x1a, 0x22), 1)[0] ?? 0x1a, noise.length, ...noise]);
      const message = decodeHeartbeat(bytes);
      if (message !== undefined) t.strictSame(encodeHeartbeat(message), bytes);
    }),
    { numRuns: 500 },
  );
  t.equal(encodeHeartbeat({ kind: 'pong', id: 2 ** 53 }), undefined);
});

t.test('random bytes are refused or understood, and never throw', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => {
      const parsed = decodeControl(noise);
      t.ok(parsed.ok || parsed.error.code === 'bad-message');
      for (const { request, response } of Object.values(UNARY)) {
        for (const codec of [request, response]) {
          const part = codec.decode(noise);
          t.ok(part.ok || part.error.code === 'bad-message');
        }
      }
      decodeError(noise);
    }),
    { numRuns: 500 },
  );
});

t.test('a message with any byte changed is refused or understood, and never throws', async (t) => {
  fc.assert(
    fc.property(fc.constantFrom(...kinds), fc.nat(), fc.integer({ min: 1, max: 255 }), (kind, at, flip) => {
      const bytes = encodeControl(sampleOf(kind));
      if (bytes.length === 0) return;
      const where = at % bytes.length;
      bytes[where] = (bytes[where] as number) ^ flip;
      const parsed = decodeControl(bytes);
      t.ok(parsed.ok || parsed.error.code === 'bad-message');
    }),
    { numRuns: 500 },
  );
});

t.test('what a newer version says is ignored, an empty message is not', async (t) => {
  // Field 2000, length-delimited, "hi": a body this version has never heard of.
  const newer = Uint8Array.of(0x82, 0x7d, 2, 104, 105);
  t.match(decodeControl(newer), { ok: true, value: { known: false, what: 'control_message.body' } });
  // An event (field 11) that holds only field 99.
  t.match(decodeControl(Uint8Array.of(0x5a, 3, 0x98, 0x06, 1)), { ok: true, value: { known: false } });
  t.match(decodeControl(new Uint8Array()), { ok: false, error: { code: 'bad-message' } });
  t.match(decodeControl(Uint8Array.of(0x5a, 0)), { ok: false, error: { code: 'bad-message' } });
});

t.test('a known message with one wrong field is refused, and the field is named', async (t) => {
  const refusedFor = (body: Parameters<typeof create<typeof ControlMessageSchema>>[1]) => {
    const parsed = decodeControl(toBinary(ControlMessageSchema, create(ControlMessageSchema, body)));
    return parsed.ok ? 'accepted' : parsed.error.message;
  };
  const load = { sessions: 1, sessionCapacity: 1, streams: 1, cpuPercent: Number.NaN, txMbps: 0, rxMbps: 0 };
  t.match(refusedFor({ body: { case: 'pingRequest', value: { id: 1n, load } } }), /cpu_percent/);
  t.match(refusedFor({ body: { case: 'pingRequest', value: { id: 2n ** 63n } } }), /id/);
  t.match(refusedFor({ body: { case: 'command', value: {} } }), /command_id/);
  const commandId = new Uint8Array(16);
  t.match(refusedFor({ body: { case: 'command', value: { commandId, sessionId: new Uint8Array(15) } } }), /session_id/);
  t.match(refusedFor({ body: { case: 'commandResponse', value: { commandId } } }), /command_response\.result/);
  const problem = (message: string) =>
    refusedFor({ body: { case: 'event', value: { what: { case: 'problem', value: { code: 'x', message } } } } });
  t.match(problem('two\nlines'), /message/);
  t.match(problem('x'.repeat(501)), /message/);
  t.equal(problem('one line'), 'accepted');
  const supernodes = Array.from({ length: MAX_SUPERNODES + 1 }, () => ({}));
  t.match(
    refusedFor({ body: { case: 'event', value: { what: { case: 'directory', value: { supernodes } } } } }),
    /supernodes/,
  );
  t.match(refusedFor({ body: { case: 'authRequest', value: { role: Role.BASE } } }), /client_nonce/);
  const address = (host: string) =>
    refusedFor({
      body: {
        case: 'event',
        value: {
          what: {
            case: 'directory',
            value: {
              supernodes: [{ peerKey: new Uint8Array(32), region: 'eu', addresses: [{ host, port: 443 }], load: {} }],
            },
          },
        },
      },
    });
  t.equal(address('vpn.example.org'), 'accepted');
  t.equal(address('2001:db8::1'), 'accepted');
  for (const host of ['vpn.example.org:80', '[2001:db8::1]', '[::1]:80', '', 'a b', '1.2.3', 'x'.repeat(300)]) {
    t.match(address(host), /address/, host);
  }
});

t.test('an error survives the trailer with code and details, and its text is made one printable line', async (t) => {
  const sent = new VpndError('full', 'no room\nleft \u{d800}here', { details: { next: 'b' }, retryable: true });
  t.match(decodeError(encodeError(sent)), {
    code: 'full',
    message: 'no room left  here',
    details: { next: 'b' },
    retryable: true,
  });
  t.equal(decodeError(encodeError(new VpndError('internal', 'x'.repeat(9000))))?.message.length, 500);
});

t.test('lists ranked best first are cut to what the other side accepts', async (t) => {
  const [one] = fc.sample(CONTROL.event, { numRuns: 1 });
  t.ok(one);
  const [response] = fc.sample(
    UNARY_MESSAGES.requestExitRegion[1].filter((r) => r.supernodes.length > 0),
    1,
  );
  const supernode = response?.supernodes[0];
  if (supernode === undefined) throw new Error('no sample');
  const supernodes = Array.from({ length: MAX_SUPERNODES + 50 }, () => supernode);
  const parsed = decodeControl(encodeControl({ kind: 'event', news: { kind: 'directory', supernodes } }));
  t.ok(parsed.ok && parsed.value.known && parsed.value.value.kind === 'event');
});
