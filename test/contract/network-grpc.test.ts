import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { fromBinary } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema } from '@bufbuild/protobuf/wkt';
import {
  type ChannelOptions,
  Client,
  type ClientDuplexStream,
  credentials,
  loadPackageDefinition,
  Metadata,
  type StatusObject,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import tap from 'tap';
import type { ServeOptions } from '../../src/core/ports/network.js';
import { certificateTools } from '../../src/identity/ca.js';
import { type Endpoint, formatHostPort } from '../../src/model/address.js';
import type { VpndError } from '../../src/model/errors.js';
import { ms, seconds } from '../../src/model/time.js';
import { decodeControl, encodeControl } from '../../src/transport/codec/control.js';
import { decodeError } from '../../src/transport/codec/refusal.js';
import { grpcNetwork } from '../../src/transport/grpc-network.js';
import { ANY_PORT, Door, Ear, ipOf, peerOf } from '../support/network-bench.js';
import { seededRandom } from '../support/seeded-random.js';
import { testCa } from '../support/test-ca.js';
import { testLog } from '../support/test-log.js';

const A = peerOf(10);
const LOOPBACK = ipOf('127.0.0.1');
const CONTROL_PATH = '/vpnd.v1.Control/PersistentControlStream';
const ca = await testCa(certificateTools());
const identity = await ca.identity({ kind: 'supernode', id: A });

interface Options extends Partial<ServeOptions> {
  readonly keepalive?: { every: ReturnType<typeof ms>; patience: ReturnType<typeof ms> };
  readonly maxConnections?: number;
}

async function scene(t: Pick<typeof tap, 'teardown'>, { keepalive, maxConnections, ...serve }: Options = {}) {
  const log = testLog();
  const network = grpcNetwork({
    log,
    random: seededRandom(1),
    ...(keepalive && { keepalive }),
    ...(maxConnections && { maxConnections }),
  });
  const door = new Door();
  const server = await network.serve({
    listen: { host: LOOPBACK, port: ANY_PORT },
    ca: ca.authority.certificate,
    identity: () => identity,
    control: door.accept,
    unary: { requestExitRegion: async () => ({ supernodes: [], regions: [] }) },
    ...serve,
  });
  t.teardown(async () => {
    await network.close();
    await server.close();
  });
  const target = {
    address: { host: server.address.ip, port: server.address.port },
    expect: { kind: 'supernode', id: A } as const,
    ca: ca.authority.certificate,
  };
  return { log, network, door, server, target, dial: () => network.dialControl(target, { timeout: seconds(5) }) };
}

/** Any gRPC client: no code of this project between it and the server. */
function foreignClient(t: Pick<typeof tap, 'teardown'>, at: Endpoint, more: ChannelOptions = {}): Client {
  const client = new Client(formatHostPort(at), foreignCredentials(), {
    'grpc.ssl_target_name_override': 'vpnd',
    ...more,
  });
  t.teardown(() => client.close());
  return client;
}

const foreignCredentials = () => credentials.createSsl(Buffer.from(ca.authority.certificate));
const pass = (bytes: Buffer): Buffer => bytes;

function rawStream(client: Client): { call: ClientDuplexStream<Buffer, Buffer>; status: Promise<StatusObject> } {
  const call = client.makeBidiStreamRequest(CONTROL_PATH, pass, pass, new Metadata(), {});
  call.on('error', () => {});
  call.on('data', () => {});
  return { call, status: new Promise((resolve) => call.once('status', resolve)) };
}

const errorOf = (status: StatusObject): VpndError | undefined => {
  const [trailer] = status.metadata.get('vpnd-error-bin');
  return Buffer.isBuffer(trailer) ? decodeError(trailer) : undefined;
};

tap.test('malformed and oversized frames end their stream and nothing else', async (t) => {
  const s = await scene(t);
  const witness = await s.dial();
  const witnessed = await s.door.next();
  const echo = new Ear(witnessed.stream, (message, stream) => stream.send(message));
  const ear = new Ear(witness.stream);

  const client = foreignClient(t, s.server.address);
  for (const frame of [
    Buffer.alloc(0),
    Buffer.from([0xff, 0xff, 0xff]),
    Buffer.from([0x1a, 0x7f]),
    Buffer.alloc(1000, 7),
  ]) {
    const { call, status } = rawStream(client);
    const accepted = new Ear((await s.door.next()).stream);
    call.write(frame);
    const ended = await status;
    t.equal(ended.code, 3, 'INVALID_ARGUMENT');
    t.equal(errorOf(ended)?.code, 'bad-message');
    t.match(await accepted.ended, { by: 'local', error: { code: 'bad-message' } });
    t.same(accepted.messages, []);
  }
  const { call, status } = rawStream(client);
  const accepted = new Ear((await s.door.next()).stream);
  call.write(Buffer.alloc(257 * 1024));
  t.equal((await status).code, 8, 'RESOURCE_EXHAUSTED');
  await accepted.ended;
  t.equal(accepted.ends.length, 1);

  witness.stream.send({ kind: 'pong', id: 1 });
  await ear.heard(1);
  witness.stream.end();
  await echo.ended;
});

tap.test('a decompression bomb and swollen metadata are cut off', async (t) => {
  const s = await scene(t);
  const client = foreignClient(t, s.server.address, { 'grpc.default_compression_algorithm': 2 });
  const { call, status } = rawStream(client);
  const accepted = new Ear((await s.door.next()).stream);
  call.write(Buffer.alloc(3_000_000));
  t.equal((await status).code, 12, 'UNIMPLEMENTED: nothing is unpacked');
  await accepted.ended;
  t.same(accepted.messages, []);

  const plain = rawStream(foreignClient(t, s.server.address));
  const large = new Ear((await s.door.next()).stream);
  plain.call.write(Buffer.alloc(300_000));
  t.equal((await plain.status).code, 8, 'RESOURCE_EXHAUSTED');
  await large.ended;
  t.same(large.messages, []);

  const metadata = new Metadata();
  metadata.set('x-swollen', 'x'.repeat(20_000));
  const refused = await new Promise<{ code: number } | null>((resolve) =>
    client.makeUnaryRequest('/grpc.health.v1.Health/Check', pass, pass, Buffer.alloc(0), metadata, resolve),
  );
  t.ok(refused !== null && refused.code !== 0, 'not answered');
  const { stream } = await s.dial();
  stream.end();
});

tap.test('what a newer peer says is passed over, and the stream goes on', async (t) => {
  const s = await scene(t);
  const { call } = rawStream(foreignClient(t, s.server.address));
  const accepted = new Ear((await s.door.next()).stream);
  call.write(Buffer.from([0x82, 0x7d, 2, 104, 105]));
  call.write(Buffer.from(encodeControl({ kind: 'pong', id: 5 })));
  await accepted.heard(1);
  t.strictSame(accepted.messages, [{ kind: 'pong', id: 5 }]);
  call.end();
  t.strictSame(await accepted.ended, { by: 'remote' });
});

tap.test('a foreign gRPC client reads the challenge from the metadata and gets answers it can parse', async (t) => {
  const s = await scene(t);
  const client = foreignClient(t, s.server.address);
  const call = client.makeBidiStreamRequest(CONTROL_PATH, pass, pass, new Metadata(), {});
  call.on('error', () => {});
  const [metadata] = (await once(call, 'metadata')) as [Metadata];
  const accepted = await s.door.next();
  t.strictSame(new Uint8Array(metadata.get('vpnd-challenge-bin')[0] as Buffer), accepted.challenge);
  accepted.stream.send({ kind: 'pong', id: 9 });
  const [bytes] = (await once(call, 'data')) as [Buffer];
  t.match(decodeControl(bytes), { value: { value: { kind: 'pong', id: 9 } } });
  call.end();
});

function child(t: Pick<typeof tap, 'teardown'>, port: number, streams = 1): ChildProcess {
  const script = fileURLToPath(new URL('../support/network-child.js', import.meta.url));
  const process_ = spawn(process.execPath, [script], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.teardown(() => process_.kill('SIGKILL'));
  process_.stdin.end(JSON.stringify({ port, ca: ca.authority.certificate, streams }));
  return process_;
}

tap.test('a peer that is killed is noticed at once, one that is frozen by keepalive, each once', async (t) => {
  const s = await scene(t, { keepalive: { every: ms(150), patience: ms(150) } });
  const killed = child(t, s.server.address.port);
  const first = new Ear((await s.door.next()).stream);
  await once(killed.stdout ?? killed, 'data');
  killed.kill('SIGKILL');
  t.strictSame(await first.ended, { by: 'lost' });

  const frozen = child(t, s.server.address.port);
  const second = new Ear((await s.door.next()).stream);
  await once(frozen.stdout ?? frozen, 'data');
  frozen.kill('SIGSTOP');
  t.strictSame(await second.ended, { by: 'lost' });
  t.equal(second.stream.send({ kind: 'pong', id: 1 }), 'closed');
  await s.server.close();
  t.same([first.ends.length, second.ends.length], [1, 1]);
});

tap.test('a frozen server is noticed by its client', async (t) => {
  const s = await scene(t, { keepalive: { every: ms(150), patience: ms(150) } });
  // A relay that stops carrying anything, without a FIN: what a frozen machine or a cut cable look like.
  const { createServer } = await import('node:net');
  const sockets: { pause(): unknown; destroy(): unknown; unpipe(): unknown }[] = [];
  const relay = createServer((near) => {
    const far = connectTcp({ host: s.server.address.ip, port: s.server.address.port });
    near.pipe(far).pipe(near);
    for (const socket of [near, far]) {
      socket.on('error', () => {});
      sockets.push(socket);
    }
  }).listen(0, '127.0.0.1');
  await once(relay, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    relay.close();
  });
  const { port } = relay.address() as AddressInfo;
  const { stream } = await s.network.dialControl(
    { ...s.target, address: { host: LOOPBACK, port: port as never } },
    { timeout: seconds(5) },
  );
  const ear = new Ear(stream);
  const accepted = new Ear((await s.door.next()).stream);
  for (const socket of sockets) {
    socket.unpipe();
    socket.pause();
  }
  t.match(await ear.ended, { by: 'lost', error: { code: 'unreachable' } });
  t.match(await accepted.ended, { by: 'lost' });
  t.same([ear.ends.length, accepted.ends.length], [1, 1]);
});

tap.test('reflection lists the services and hands out their descriptors', async (t) => {
  const s = await scene(t);
  const proto = fileURLToPath(
    new URL('../proto/grpc/reflection/v1/reflection.proto', import.meta.resolve('@grpc/reflection')),
  );
  const loaded = loadPackageDefinition(loadSync(proto, { keepCase: true })) as unknown as {
    grpc: {
      reflection: {
        v1: {
          ServerReflection: { service: { ServerReflectionInfo: Parameters<typeof loadPackageDefinition>[0][string] } };
        };
      };
    };
  };
  const method = loaded.grpc.reflection.v1.ServerReflection.service.ServerReflectionInfo as unknown as {
    path: string;
    requestSerialize: (value: object) => Buffer;
    responseDeserialize: (bytes: Buffer) => {
      list_services_response?: { service: { name: string }[] };
      file_descriptor_response?: { file_descriptor_proto: Buffer[] };
    };
  };
  const client = foreignClient(t, s.server.address);
  const call = client.makeBidiStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    new Metadata(),
    {},
  );
  call.on('error', () => {});
  const ask = async (question: object) => {
    call.write(question);
    const [answer] = await once(call, 'data');
    return answer as ReturnType<typeof method.responseDeserialize>;
  };
  const services = (await ask({ list_services: '*' })).list_services_response?.service.map(({ name }) => name);
  t.same(services?.sort(), ['vpnd.v1.Base', 'vpnd.v1.Control'], 'what is served, and only that');
  const files = (await ask({ file_containing_symbol: 'vpnd.v1.Control' })).file_descriptor_response
    ?.file_descriptor_proto;
  const parsed = (files ?? []).map((file) => fromBinary(FileDescriptorProtoSchema, file));
  t.ok(parsed.some((file) => file.service.some(({ name }) => name === 'Control')));
  t.ok(
    parsed.some((file) => file.messageType.some(({ name }) => name === 'SupernodeInfo')),
    'imports come along',
  );
  call.end();
});

tap.test('the standard health service says that the services serve', async (t) => {
  const s = await scene(t);
  const client = foreignClient(t, s.server.address);
  const check = (service: string): Promise<number[]> =>
    new Promise((resolve, reject) => {
      const name = Buffer.from(service);
      const request = service === '' ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, name.length]), name]);
      client.makeUnaryRequest('/grpc.health.v1.Health/Check', pass, pass, request, (error, answer) =>
        error === null ? resolve([...(answer as Buffer)]) : reject(error),
      );
    });
  t.same(await check(''), [0x08, 1], 'SERVING');
  t.same(await check('vpnd.v1.Control'), [0x08, 1]);
  await t.rejects(check('vpnd.v1.Supernode'), { code: 5 });
});

tap.test('only TLS 1.3 gets in, and noise does no harm', async (t) => {
  const s = await scene(t);
  const { ip: host, port } = s.server.address;
  const old = connectTls({ host, port, maxVersion: 'TLSv1.2', minVersion: 'TLSv1.2', rejectUnauthorized: false });
  const [error] = (await once(old, 'error')) as [Error];
  t.match(error.message, /protocol version|EPROTO|handshake/i);
  const noise = connectTcp({ host, port });
  noise.on('error', () => {});
  noise.write('GET / HTTP/1.1\r\n\r\n');
  await once(noise, 'close');
  const { stream } = await s.dial();
  stream.end();
});

tap.test('a port where something else listens is unreachable, not a crash', async (t) => {
  const s = await scene(t);
  const web = createHttpServer((_request, response) => response.end('hello')).listen(0, '127.0.0.1');
  await once(web, 'listening');
  t.teardown(() => web.close());
  const address = { host: LOOPBACK, port: (web.address() as AddressInfo).port as never };
  await t.rejects(s.network.dialControl({ ...s.target, address }, { timeout: seconds(5) }), {
    code: 'unreachable',
    message: /does not speak TLS/,
  });
  const mute = (await import('node:net')).createServer(() => {}).listen(0, '127.0.0.1');
  await once(mute, 'listening');
  const silent = { host: LOOPBACK, port: (mute.address() as AddressInfo).port as never };
  await t.rejects(s.network.dialControl({ ...s.target, address: silent }, { timeout: ms(200) }), { code: 'timeout' });
  await t.rejects(s.network.fetchCa(silent, ca.authority.keyHash, { timeout: ms(200) }), { code: 'timeout' });
  mute.close();
});

tap.test('more connections than allowed are refused without hurting those there are', async (t) => {
  const s = await scene(t, { maxConnections: 2 });
  const [first, second] = [await s.dial(), await s.dial()];
  await t.rejects(s.dial(), { code: 'unreachable' });
  const ear = new Ear(first.stream);
  new Ear((await s.door.next()).stream, (message, stream) => stream.send(message));
  first.stream.send({ kind: 'pong', id: 1 });
  await ear.heard(1);
  first.stream.end();
  second.stream.end();
});

tap.test('a certificate that cannot be used does not replace the one that can', async (t) => {
  let current = identity;
  const s = await scene(t, { identity: () => current });
  current = { certificate: 'nonsense', privateKey: 'nonsense' };
  s.server.renewed();
  t.equal(s.log.lines.filter((line) => line.level === 'error').length, 1);
  const { stream } = await s.dial();
  stream.end();
  const other = await ca.identity({ kind: 'supernode', id: A });
  await t.rejects(
    scene(t, { identity: () => ({ certificate: identity.certificate, privateKey: other.privateKey }) }),
    { code: 'bad-config' },
    'a key of another certificate is refused at the start',
  );
});

tap.test('an IPv4 peer of a dual-stack server is seen by its IPv4 address', async (t) => {
  const s = await scene(t, { listen: { host: '::', port: ANY_PORT } });
  const { stream } = await s.network.dialControl(
    { ...s.target, address: { host: LOOPBACK, port: s.server.address.port } },
    { timeout: seconds(5) },
  );
  t.equal((await s.door.next()).stream.remote.ip, LOOPBACK);
  stream.end();
  const named = await s.network.dialControl(
    { ...s.target, address: { host: 'localhost', port: s.server.address.port } },
    { timeout: seconds(5) },
  );
  named.stream.end();
  await t.rejects(
    s.network.dialControl(
      { ...s.target, address: { host: 'nowhere.invalid', port: s.server.address.port } },
      { timeout: seconds(5) },
    ),
    { code: 'unreachable' },
  );
});

tap.test('a CA with the pinned key but not its own signature is not taken', async (t) => {
  const s = await scene(t);
  const der = Buffer.from(ca.authority.certificate.replace(/-----[^-]+-----|\s/g, ''), 'base64');
  der[der.length - 5] = (der[der.length - 5] as number) ^ 1;
  const forged = `-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`;
  const leaf = identity.certificate.split(/(?<=-----END CERTIFICATE-----\n)/)[0] as string;
  const liar = await s.network.serve({
    listen: { host: LOOPBACK, port: ANY_PORT },
    ca: ca.authority.certificate,
    identity: () => ({ certificate: leaf + forged, privateKey: identity.privateKey }),
    control: () => {},
    unary: {},
  });
  t.teardown(() => liar.close());
  const at = { host: liar.address.ip, port: liar.address.port };
  await t.rejects(s.network.fetchCa(at, ca.authority.keyHash, { timeout: seconds(5) }), { code: 'wrong-ca' });
});
