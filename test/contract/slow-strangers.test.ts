import t from 'tap';
import { certificateTools } from '../../src/identity/ca.js';
import { ms, seconds } from '../../src/model/time.js';
import { GUARD_LIMITS } from '../../src/transport/grpc/guard.js';
import { grpcNetwork } from '../../src/transport/grpc-network.js';
import { Attacker } from '../support/flood/attack.js';
import type { FloodName } from '../support/flood/floods.js';
import { ANY_PORT, Door, Ear, ipOf, peerOf } from '../support/network-bench.js';
import { seededRandom } from '../support/seeded-random.js';
import { testCa } from '../support/test-ca.js';
import { testLog } from '../support/test-log.js';
import { testMetrics } from '../support/test-metrics.js';

/** Each begins something and does not end it. Real ones have 30 s; here they have a second. */
const SLOW: readonly FloodName[] = [
  'slow handshake',
  'slow preface',
  'slow headers',
  'slow message',
  'garbage',
  'decompression bomb',
];

t.test('who is slow, or never reads, is cut off in his time; a peer that authenticated stays', async (t) => {
  const metrics = testMetrics();
  const ca = await testCa(certificateTools());
  const identity = await ca.identity({ kind: 'supernode', id: peerOf(10) });
  const network = grpcNetwork({
    log: testLog(),
    random: seededRandom(1),
    metrics,
    guard: { ...GUARD_LIMITS, strangerTime: seconds(1) },
  });
  const door = new Door();
  let isFirst = true;
  const server = await network.serve({
    listen: { host: ipOf('127.0.0.1'), port: ANY_PORT },
    ca: ca.authority.certificate,
    identity: () => identity,
    control: (accepted) => {
      if (isFirst) door.accept(accepted);
      else accepted.stream.listen({ message: () => {}, ended: () => {} });
      isFirst = false;
    },
    unary: {},
  });
  const attacker = new Attacker();
  t.teardown(async () => {
    attacker.stop();
    await network.close();
    await server.close();
  });
  const target = {
    address: { host: server.address.ip, port: server.address.port },
    expect: { kind: 'supernode', id: peerOf(10) } as const,
    ca: ca.authority.certificate,
  };
  const peer = await network.dialControl(target, { timeout: seconds(10) });
  const accepted = await door.next();
  const there = new Ear(accepted.stream, (message, stream) => stream.send(message));
  const ear = new Ear(peer.stream);
  accepted.admitted?.();

  const floods = SLOW.map((kind, i) =>
    attacker.attack({
      kind,
      port: server.address.port,
      from: [`127.0.8.${i + 1}`],
      connections: 2,
      ms: ms(20_000),
      until: 2,
    }),
  );
  for (const { kind, closed } of await Promise.all(floods)) t.ok(closed >= 2, `${kind} is cut off`);
  t.ok(metrics.value('connectionsRefused{reason=stranger}') >= 8, 'and counted');

  peer.stream.send({ kind: 'pong', id: 1 });
  await ear.heard(1);
  t.same([ear.ends, there.ends], [[], []], 'a peer’s stream outlives them all');
  peer.stream.end();
});
