import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import t from 'tap';
import { certificateTools } from '../../src/identity/ca.js';
import type { Port } from '../../src/model/address.js';
import { ms, seconds } from '../../src/model/time.js';
import { grpcNetwork } from '../../src/transport/grpc-network.js';
import { ANY_PORT, Door, ipOf, peerOf } from '../support/network-bench.js';
import { seededRandom } from '../support/seeded-random.js';
import { testCa } from '../support/test-ca.js';
import { testLog } from '../support/test-log.js';

const A = peerOf(10);
const LOOPBACK = ipOf('127.0.0.1');
const ca = await testCa(certificateTools());
const identity = await ca.identity({ kind: 'supernode', id: A });

/** A server behind a network that can be made to cut connections, or to swallow what is sent over those there are. */
async function scene(t: Pick<typeof import('tap').default, 'teardown'>) {
  const network = grpcNetwork({ log: testLog(), random: seededRandom(1) });
  const calls: number[] = [];
  const server = await network.serve({
    listen: { host: LOOPBACK, port: ANY_PORT },
    ca: ca.authority.certificate,
    identity: () => identity,
    control: new Door().accept,
    unary: {
      requestExitRegion: async () => {
        calls.push(1);
        return { supernodes: [], regions: [] };
      },
    },
  });
  const connections: { readonly outer: Socket; readonly inner: Socket }[] = [];
  const between = createServer((outer) => {
    const inner = connect(server.address.port, LOOPBACK);
    connections.push({ outer, inner });
    for (const socket of [outer, inner]) socket.on('error', () => {});
    outer.pipe(inner).pipe(outer);
  });
  between.listen(0, LOOPBACK);
  await once(between, 'listening');
  t.teardown(async () => {
    await network.close();
    await server.close();
    for (const { outer, inner } of connections) for (const socket of [outer, inner]) socket.destroy();
    between.close();
  });
  const target = {
    address: { host: LOOPBACK, port: (between.address() as AddressInfo).port as Port },
    expect: { kind: 'supernode', id: A } as const,
    ca: ca.authority.certificate,
  };
  const ask = (timeout = seconds(5)) =>
    network.call(target, 'requestExitRegion', { region: undefined }, { timeout }).then(
      () => 'answered',
      (error: { code: string }) => error.code,
    );
  return { calls, connections, between, ask };
}

t.test('a connection that worked and is cut under a call says nothing: the call is made over another', async (t) => {
  const { calls, connections, ask } = await scene(t);
  t.equal(await ask(), 'answered');
  const [first] = connections;
  // The other end's machine was away meanwhile: what comes next is answered by a reset.
  first?.outer.unpipe();
  first?.outer.once('data', () => first.outer.resetAndDestroy()).resume();
  t.equal(await ask(), 'answered');
  t.equal(connections.length, 2);
  t.equal(calls.length, 2);
});

t.test('where nobody is, that is said, and no call is made twice', async (t) => {
  const { connections, between, ask } = await scene(t);
  between.removeAllListeners('connection');
  between.on('connection', (socket: Socket) => {
    connections.push({ outer: socket, inner: socket });
    socket.once('data', () => socket.resetAndDestroy());
  });
  t.equal(await ask(), 'unreachable');
  t.equal(connections.length, 1);
});

t.test('a connection that swallows everything delays one call, and not the next', async (t) => {
  const { connections, ask } = await scene(t);
  t.equal(await ask(), 'answered');
  connections[0]?.outer.unpipe();
  connections[0]?.outer.resume();
  t.equal(await ask(ms(300)), 'timeout');
  t.equal(await ask(), 'answered');
  t.equal(connections.length, 2);
});
