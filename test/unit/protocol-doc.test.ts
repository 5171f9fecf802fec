import type { DescField, DescFile, DescMessage } from '@bufbuild/protobuf';
import { ScalarType } from '@bufbuild/protobuf';
import { status } from '@grpc/grpc-js';
import t from 'tap';
import * as auth from '../../src/core/auth.js';
import { RECONNECT } from '../../src/core/backoff.js';
import * as link from '../../src/core/link.js';
import { parseProbeQuestion, parseProbeResponse } from '../../src/core/probe.js';
import { file_vpnd_v1_admin } from '../../src/gen/vpnd/v1/admin_pb.js';
import { file_vpnd_v1_base } from '../../src/gen/vpnd/v1/base_pb.js';
import { file_vpnd_v1_control } from '../../src/gen/vpnd/v1/control_pb.js';
import { file_vpnd_v1_supernode } from '../../src/gen/vpnd/v1/supernode_pb.js';
import { file_vpnd_v1_token } from '../../src/gen/vpnd/v1/token_pb.js';
import { file_vpnd_v1_types } from '../../src/gen/vpnd/v1/types_pb.js';
import { parseJoinToken } from '../../src/identity/join-token.js';
import { TOKEN_SECRET_LENGTH } from '../../src/identity/secret.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements } from '../../src/identity/statements.js';
import { fromHex } from '../../src/model/bytes.js';
import { parsePeerId } from '../../src/model/ids.js';
import { instantOf } from '../../src/model/time.js';
import { decodeControl } from '../../src/transport/codec/control.js';
import * as limits from '../../src/transport/codec/limits.js';
import { STATUS_OF } from '../../src/transport/codec/status.js';
import { OUTBOX_BYTES, OUTBOX_MESSAGES } from '../../src/transport/framed-stream.js';
import * as grpc from '../../src/transport/grpc/options.js';
import { COMMAND_RETRIES, COMMAND_TIMEOUT } from '../../src/transport/streams/command-desk.js';
import { MAX_MESSAGES_PER_INTERVAL, MAX_REQUESTS_IN_FLIGHT } from '../../src/transport/streams/live-stream.js';
import { readProtocolDocument, unquoted } from '../support/protocol-document.js';
import { protocolExamples } from '../support/protocol-examples.js';

const document = readProtocolDocument();
const FILES: readonly DescFile[] = [
  file_vpnd_v1_types,
  file_vpnd_v1_control,
  file_vpnd_v1_base,
  file_vpnd_v1_supernode,
  file_vpnd_v1_token,
  file_vpnd_v1_admin,
];
const messages = FILES.flatMap((file) => file.messages);

/** A field's type as a .proto file writes it. */
function typeOf(field: DescField): string {
  const scalar = (of: ScalarType) => (ScalarType[of] ?? '').toLowerCase();
  switch (field.fieldKind) {
    case 'scalar':
      return scalar(field.scalar);
    case 'enum':
      return field.enum.name;
    case 'message':
      return field.message.name;
    case 'map':
      return `map<${scalar(field.mapKey)}, ${field.mapKind === 'scalar' ? scalar(field.scalar) : '?'}>`;
    case 'list': {
      const of =
        field.listKind === 'scalar'
          ? scalar(field.scalar)
          : field.listKind === 'enum'
            ? field.enum.name
            : field.message.name;
      return `repeated ${of}`;
    }
  }
}

const expectedRows = (message: DescMessage): string[] =>
  message.fields.map((field) => `${message.name}.${field.name} = ${field.number}, ${typeOf(field)}`);

t.test('every message and field stands in the document with its number and type', async (t) => {
  const missing: string[] = [];
  const wrong: string[] = [];
  for (const message of messages) {
    const section = document.sections.get(message.name);
    if (section === undefined) {
      missing.push(message.name);
      continue;
    }
    const rows = section.map(([name = '', number, type]) => `${message.name}.${unquoted(name)} = ${number}, ${type}`);
    const expected = expectedRows(message);
    missing.push(...expected.filter((row) => !rows.includes(row)));
    wrong.push(...rows.filter((row) => !expected.includes(row)));
    const mute = section.filter((cells) => !cells[3]);
    wrong.push(...mute.map(([name = '']) => `${message.name}.${unquoted(name)} is not explained`));
  }
  t.same(missing, [], 'nothing of the .proto files is missing');
  t.same(wrong, [], 'and the document says nothing that is not in them');
});

t.test('every heading that could be a message is one', async (t) => {
  const names = new Set(messages.map(({ name }) => name));
  const strangers = [...document.sections.keys()].filter((name) => !names.has(name));
  t.same(strangers, []);
});

t.test('every value of every enum stands in the document', async (t) => {
  const values = FILES.flatMap((file) => file.enums).flatMap((one) => one.values);
  const missing = values.filter(
    ({ name, number }) => !document.rows.get(name)?.some((cells) => cells[1] === String(number)),
  );
  t.same(
    missing.map(({ name, number }) => `${name} = ${number}`),
    [],
  );
});

t.test('every service and method stands in the document', async (t) => {
  const paths = FILES.flatMap((file) => file.services).flatMap((service) =>
    service.methods.map((method) => `/${service.typeName}/${method.name}`),
  );
  t.same(
    paths.filter((path) => !document.text.includes(`\`${path}\``)),
    [],
  );
});

t.test('every error code stands in the document with its gRPC status, and no other does', async (t) => {
  const documented = new Map<string, string>();
  for (const [name, rows] of document.rows) {
    for (const cells of rows)
      if (/^[A-Z_]+$/.test(cells[1] ?? '') && cells.length === 5) documented.set(name, cells[1] ?? '');
  }
  const expected = Object.entries(STATUS_OF).map(([code, number]) => `${code}: ${status[number]}`);
  t.same([...documented].map(([code, name]) => `${code}: ${name}`).sort(), expected.sort());
});

t.test('bounds and times are those of the code', async (t) => {
  const constants: Record<string, unknown> = {
    ...limits,
    PROTOCOL_VERSION: auth.PROTOCOL_VERSION,
    CHALLENGE_LIFETIME: auth.CHALLENGE_LIFETIME,
    CLOCK_TOLERANCE: auth.CLOCK_TOLERANCE,
    PING_INTERVAL: link.PING_INTERVAL,
    SILENCE_LIMIT: link.SILENCE_LIMIT,
    DIAL_LIMIT: link.DIAL_LIMIT,
    AUTHENTICATION_LIMIT: link.AUTHENTICATION_LIMIT,
    FAILURES_PER_TARGET: link.FAILURES_PER_TARGET,
    'RECONNECT.first': RECONNECT.first,
    'RECONNECT.factor': RECONNECT.factor,
    'RECONNECT.max': RECONNECT.max,
    COMMAND_TIMEOUT,
    COMMAND_RETRIES,
    MAX_REQUESTS_IN_FLIGHT,
    MAX_MESSAGES_PER_INTERVAL,
    OUTBOX_MESSAGES,
    OUTBOX_BYTES,
    TOKEN_SECRET_LENGTH,
    'KEEPALIVE.every': grpc.KEEPALIVE.every,
    'KEEPALIVE.patience': grpc.KEEPALIVE.patience,
    ENDING_GRACE: grpc.ENDING_GRACE,
    HANDSHAKE_TIMEOUT: grpc.HANDSHAKE_TIMEOUT,
    SERVER_IDLE: grpc.SERVER_IDLE,
    MAX_STREAMS_PER_CONNECTION: grpc.MAX_STREAMS_PER_CONNECTION,
    MAX_METADATA_BYTES: grpc.MAX_METADATA_BYTES,
  };
  for (const [name, value] of Object.entries(constants)) {
    const [row] = document.rows.get(name) ?? [];
    t.equal(row?.[1]?.split(' ')[0], String(value), `${name} is ${value}`);
  }
});

t.test('the worked examples are what the code makes of their inputs', async (t) => {
  const examples = await protocolExamples(document.inputs);
  for (const [name, expected] of examples) t.equal(document.blocks.get(name), expected, name);
  const known = new Set([...examples.keys(), 'inputs']);
  t.same(
    [...document.blocks.keys()].filter((name) => name !== '' && !known.has(name)),
    [],
    'no block has a name that nothing checks',
  );
});

t.test('the worked examples are accepted by the code that receives such things', async (t) => {
  const { crypto } = await openSodium();
  const { checkMembership, checkOffer } = statements(crypto);
  const block = (name: string) => fromHex(document.blocks.get(name) ?? '') ?? new Uint8Array();
  const now = instantOf(Number(document.inputs.get('timestamp_ms')));
  const peer = parsePeerId(document.blocks.get('peer-id') ?? '');
  const server = parsePeerId(document.blocks.get('server-id') ?? '');
  const parsed = decodeControl(block('auth-message'));
  if (!peer.ok || !server.ok || !parsed.ok || !parsed.value.known || parsed.value.value.kind !== 'auth-request') {
    t.fail('the AuthRequest of the document does not parse');
    return;
  }
  const input = (name: string) => fromHex(document.inputs.get(name) ?? '') ?? new Uint8Array();
  const checked = auth.checkAuthRequest(
    parsed.value.value,
    {
      challenge: input('challenge'),
      challengeIssuedAt: now,
      self: server.value,
      serverKeyHash: input('server_key_hash'),
      baseKey: block('base-key'),
      roles: ['exit', 'client'],
      certified: undefined,
      requireCertificate: false,
      now,
    },
    { crypto, statements: statements(crypto) },
  );
  t.ok(checked.ok, 'the AuthRequest');

  const membership = { body: block('membership-body'), signature: block('membership-signature') };
  t.ok(checkMembership(block('base-key'), membership, now).ok, 'the membership');
  t.ok(checkOffer(peer.value, { body: block('offer-body'), signature: block('offer-signature') }, now).ok, 'the offer');
  t.ok(parseJoinToken(document.blocks.get('join-token') ?? '', crypto.sha256).ok, 'the join token');
  t.equal(parseProbeQuestion(block('probe-question'))?.kind, 'plain', 'the question of a probe');
  t.equal(parseProbeQuestion(block('vouch-datagram'))?.kind, 'vouch', 'the vouch');
  const observed = parseProbeResponse(block('probe-answer'), input('probe_nonce'));
  t.equal(`${observed?.ip}:${observed?.port}`, document.inputs.get('observed'), 'the answer of a probe');
  for (const name of ['enrol', 'renewal', 'vouch'])
    t.ok(crypto.verify(block('peer-key'), block(`${name}-input`), block(`${name}-signature`)), `the ${name} signature`);
});
