import t from 'tap';
import type { DialTarget, Network } from '../../src/core/ports/network.js';
import type { VpndError } from '../../src/model/errors.js';
import { type Millis, ms, seconds } from '../../src/model/time.js';
import { SILENCE } from '../../src/transport/memory-network.js';
import { ANY_PORT, Door, Ear, memoryBench, peerOf } from '../support/network-bench.js';
import { testCa } from '../support/test-ca.js';

const A = peerOf(1);

async function scene() {
  const bench = memoryBench();
  const ca = await testCa(bench.certificates, bench.now());
  const identity = await ca.identity({ kind: 'supernode', id: A });
  const door = new Door();
  const serve = (network: Network) =>
    network.serve({
      listen: { host: bench.serverIp, port: ANY_PORT },
      ca: ca.authority.certificate,
      identity: () => identity,
      control: door.accept,
      unary: { requestExitRegion: async () => ({ supernodes: [], regions: [] }) },
    });
  const server = await serve(bench.server);
  const target: DialTarget = {
    address: { host: server.address.ip, port: server.address.port },
    expect: { kind: 'supernode', id: A },
    ca: ca.authority.certificate,
  };
  const connect = async () => {
    const { stream } = await bench.wait(bench.client.dialControl(target, { timeout: seconds(5) }));
    const accepted = await door.next();
    return { client: new Ear(stream), server: new Ear(accepted.stream) };
  };
  return { ...bench, target, serve, connect };
}

const code = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'answered',
    (error: VpndError) => error.code,
  );

t.test('a short partition holds messages back and loses none', async (t) => {
  const s = await scene();
  const { client, server } = await s.connect();
  s.internet.partition(s.clientIp, s.serverIp);
  for (let id = 0; id < 5; id++) client.stream.send({ kind: 'pong', id });
  await s.clock.advance(SILENCE - 1000);
  t.same(server.messages, []);
  s.internet.heal(s.clientIp, s.serverIp);
  await s.clock.advance(10);
  t.equal(server.messages.length, 5);
  t.same(client.ends, []);
});

t.test('a long partition breaks the stream on both sides, once, and dials time out', async (t) => {
  const s = await scene();
  const { client, server } = await s.connect();
  s.internet.isolate(s.serverIp);
  const dial = code(s.client.dialControl(s.target, { timeout: seconds(5) }));
  await s.clock.advance(SILENCE + 1);
  t.equal(await dial, 'timeout');
  t.match(client.ends, [{ by: 'lost', error: { code: 'unreachable' } }]);
  t.match(server.ends, [{ by: 'lost' }]);
  s.internet.rejoin(s.serverIp);
  await s.connect();
});

t.test('a killed process hears nothing more, frees its port and is seen as a reset', async (t) => {
  const s = await scene();
  const { client, server } = await s.connect();
  let settled = false;
  const own = s.server.dialControl(s.target, { timeout: seconds(5) });
  own.then(
    () => (settled = true),
    () => (settled = true),
  );
  s.internet.kill(s.serverIp);
  await s.clock.advance(20);
  t.match(client.ends, [{ by: 'lost' }]);
  t.same(server.ends, [], 'the dead process is not called');
  t.equal(await s.wait(code(s.client.dialControl(s.target, { timeout: seconds(5) }))), 'unreachable');
  await s.clock.advance(10_000);
  t.notOk(settled, 'nothing of the dead process settles');
  await s.serve(s.internet.host(s.serverIp));
  await s.connect();
});

t.test('a machine without power is noticed by silence', async (t) => {
  const s = await scene();
  const { client } = await s.connect();
  s.internet.kill(s.serverIp, 'power-off');
  await s.clock.advance(SILENCE - 100);
  t.same(client.ends, []);
  await s.clock.advance(200);
  t.match(client.ends, [{ by: 'lost' }]);
});

t.test('a reset ends the streams between two hosts', async (t) => {
  const s = await scene();
  const { client, server } = await s.connect();
  s.internet.reset(s.serverIp, s.clientIp);
  await s.clock.settle();
  t.match([client.ends, server.ends], [[{ by: 'lost' }], [{ by: 'lost' }]]);
});

t.test('messages can be lost, doubled and delayed, and lost ones do not fill the outbox', async (t) => {
  const s = await scene();
  const { client, server } = await s.connect();
  const fates: (readonly Millis[])[] = [[], [ms(0), ms(0)], [ms(50)], [ms(0)]];
  const meddled = memoryBench();
  t.ok(meddled.internet, 'without the hook nothing is touched');
  let next = 0;
  const internet = Object.assign(s.internet, { meddle: () => fates[next++ % fates.length] });
  for (let id = 0; id < 4; id++) client.stream.send({ kind: 'pong', id });
  await s.clock.advance(100);
  t.same(
    server.messages.map((message) => message.kind === 'pong' && message.id),
    [1, 1, 3, 2],
  );
  Object.assign(internet, { meddle: () => [] });
  for (let id = 0; id < 2000; id++) t.equal(client.stream.send({ kind: 'pong', id }), 'sent');
});

t.test('the same seed replays the same challenges at the same times', async (t) => {
  const play = async () => {
    const s = await scene();
    const { challenge } = await s.wait(s.client.dialControl(s.target, { timeout: seconds(5) }));
    return [Buffer.from(challenge).toString('hex'), s.clock.monotonic()];
  };
  t.same(await play(), await play());
});
