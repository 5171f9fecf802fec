import t from 'tap';
import type { Port } from '../../src/model/address.js';
import { seconds } from '../../src/model/time.js';
import { serveOn } from '../../src/roles/supernode/listeners.js';
import { Door, memoryBench, peerOf } from '../support/network-bench.js';
import { testCa } from '../support/test-ca.js';

t.test('one service on several ports: all of them, or none', async (t) => {
  const bench = memoryBench();
  const ca = await testCa(bench.certificates, bench.now());
  const expect = { kind: 'supernode', id: peerOf(10) } as const;
  const identity = await ca.identity(expect);
  const door = new Door();
  const at = (port: number) => ({ host: bench.serverIp, port: port as Port });
  const service = { ca: ca.authority.certificate, identity: () => identity, control: door.accept, unary: {} };
  const dial = (port: number) => {
    const target = { address: at(port), expect, ca: ca.authority.certificate };
    return bench.wait(
      bench.client.dialControl(target, { timeout: seconds(5) }).then(
        ({ stream }) => {
          stream.end();
          return 'connected';
        },
        ({ code }) => code,
      ),
    );
  };

  const server = await serveOn(bench.server, [at(8443), at(443), at(80)], service);
  t.equal(server.address.port, 8443);
  t.same(await Promise.all([8443, 443, 80, 81].map(dial)), ['connected', 'connected', 'connected', 'unreachable']);
  server.renewed();
  await bench.wait(server.close());
  t.same(await Promise.all([8443, 443, 80].map(dial)), ['unreachable', 'unreachable', 'unreachable']);

  await t.rejects(serveOn(bench.server, [at(8443), at(443), at(443)], service), { code: 'port-in-use' });
  t.same(await Promise.all([8443, 443].map(dial)), ['unreachable', 'unreachable'], 'what was begun is undone');
});
