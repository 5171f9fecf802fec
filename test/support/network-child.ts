import { seconds } from '../../src/model/time.js';
import { grpcNetwork } from '../../src/transport/grpc-network.js';
import { ipOf, peerOf } from './network-bench.js';
import { seededRandom } from './seeded-random.js';
import { testLog } from './test-log.js';

/** A process of its own that dials one control stream and then waits to be ended. Input: JSON on standard input. */
let input = '';
for await (const chunk of process.stdin) input += chunk;
const { port, ca, streams } = JSON.parse(input) as { port: number; ca: string; streams: number };

const network = grpcNetwork({ log: testLog(), random: seededRandom(3) });
const target = {
  address: { host: ipOf('127.0.0.1'), port: port as never },
  expect: { kind: 'supernode', id: peerOf(10) } as const,
  ca,
};
const open = [];
for (let n = 0; n < streams; n++) {
  const { stream } = await network.dialControl(target, { timeout: seconds(20) });
  stream.listen({ message: () => {}, ended: () => {} });
  open.push(stream);
}
process.stdout.write(`${open.length}\n`);
