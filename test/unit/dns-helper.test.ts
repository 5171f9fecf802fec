import { once } from 'node:events';
import { Duplex } from 'node:stream';
import t, { type Test } from 'tap';
import { remoteDns } from '../../dataplane/dns-client.js';
import { serveDns } from '../../dataplane/dns-helper.js';
import { openMemoryDns } from '../../dataplane/dns-memory.js';
import { parseDnsRequest } from '../../dataplane/dns-protocol.js';
import type { DnsWish } from '../../src/core/ports/dns.js';
import type { IpAddress } from '../../src/model/address.js';
import type { InterfaceName } from '../../src/model/dataplane.js';
import { VpndError } from '../../src/model/errors.js';

const DEVICE = 'wg-client' as InterfaceName;
const WISH: DnsWish = { device: DEVICE, servers: ['9.9.9.9' as IpAddress], others: ['wg-client-1' as InterfaceName] };

/** Two ends of a socket. */
function pair(): readonly [Duplex, Duplex] {
  const ends: Duplex[] = [];
  for (const side of [0, 1]) {
    ends.push(
      new Duplex({
        read() {},
        write(chunk, _, done) {
          ends[1 - side]?.push(chunk);
          done();
        },
        final(done) {
          ends[1 - side]?.push(null);
          done();
        },
        destroy(cause, done) {
          ends[1 - side]?.push(null);
          done(cause);
        },
      }),
    );
  }
  const [daemon, helper] = ends;
  if (daemon === undefined || helper === undefined) throw new Error('a socket has two ends');
  return [daemon, helper];
}

function scene(t: Test) {
  const [daemon, helper] = pair();
  const memory = openMemoryDns();
  const served = serveDns(memory, helper);
  const dns = remoteDns(async () => daemon);
  t.teardown(() => {
    daemon.destroy();
    helper.destroy();
  });
  return { daemon, helper, memory, served, dns };
}

t.test('the resolver is set by way of another process', async (t) => {
  const { dns, memory, served } = scene(t);
  t.equal(await dns.way(), 'memory');
  t.match(await dns.put(WISH), { changed: true });
  t.same(memory.wish, WISH);
  t.match(await dns.put(WISH), { changed: false });
  memory.fault = new VpndError('dataplane', '/etc/resolv.conf cannot be changed: its file system is read-only');
  await t.rejects(dns.put(WISH), { code: 'dataplane', message: /read-only/ }, 'its refusals come as they are');
  memory.fault = undefined;
  await dns.close();
  await served;
  t.same(memory.wish, WISH, 'it ends with the daemon, and leaves the resolver as it is');
});

t.test('it ends: what waits is told, and nothing hangs', async (t) => {
  const { dns, helper, memory } = scene(t);
  memory.put = () => new Promise(() => {});
  const put = dns.put(WISH);
  setImmediate(() => helper.destroy());
  await t.rejects(put, { code: 'dataplane', message: /has ended/ });
});

t.test('what is no request ends it, and nothing is done', async (t) => {
  const wish = JSON.stringify({ ...WISH, servers: ['9.9.9.9'] });
  for (const line of [
    'hello',
    '[]',
    'null',
    '{"id":1}',
    '{"id":"1","kind":"way"}',
    '{"id":1,"kind":"run","args":["sh"]}',
    `{"kind":"put","wish":${wish}}`,
    `{"id":1,"kind":"put","wish":{"device":"wg-client","servers":[],"others":[]}}`,
    `{"id":1,"kind":"put","wish":{"device":"wg-client","servers":["9.9.9.9\\nnameserver 1.2.3.4"],"others":[]}}`,
    `{"id":1,"kind":"put","wish":{"device":"wg-client","servers":["resolver.example.org"],"others":[]}}`,
    `{"id":1,"kind":"put","wish":{"device":"../../etc","servers":["9.9.9.9"],"others":[]}}`,
    `{"id":1,"kind":"put","wish":{"device":"--help","servers":["9.9.9.9"],"others":[]}}`,
    `{"id":1,"kind":"put","wish":{"device":"wg-client","servers":["9.9.9.9"],"others":["a b"]}}`,
    `{"id":1,"kind":"put","wish":{"device":"wg-client","servers":["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"],"others":[]}}`,
    `{"id":1,"kind":"restore","devices":"wg-client"}`,
    `{"id":1,"kind":"restore","devices":["-x"]}`,
    `{"id":1,"kind":"way","more":"${'x'.repeat(3_000)}"}`,
  ]) {
    const { daemon, memory, served } = scene(t);
    daemon.write(`${line}\n`);
    await served;
    t.equal(memory.writes, 0, line.slice(0, 80));
  }
});

t.test('a line without an end is not collected for ever', async (t) => {
  const { daemon, served } = scene(t);
  daemon.write('x'.repeat(5_000));
  await served;
  t.pass();
});

t.test('two requests in one piece, and one in two', async (t) => {
  const { daemon, memory } = scene(t);
  daemon.setEncoding('utf8');
  const whole = `{"id":1,"kind":"way"}\n{"id":2,"kind":"put","wish":${JSON.stringify(WISH)}}\n{"id":3,"ki`;
  daemon.write(whole);
  let said = '';
  daemon.on('data', (text: string) => {
    said += text;
  });
  while (said.split('\n').length < 3) await once(daemon, 'data');
  daemon.write('nd":"way"}\n');
  while (said.split('\n').length < 4) await once(daemon, 'data');
  t.match(said, /"id":1[\s\S]*"id":2[\s\S]*"id":3/, 'answered in turn');
  t.same(memory.wish, WISH);
});

t.test('names of interfaces that a program would take for something else are none', async (t) => {
  for (const name of ['-a', '--', '.', '..', 'a/b', 'a b', '', 'x'.repeat(16)]) {
    t.equal(parseDnsRequest(JSON.stringify({ id: 1, kind: 'restore', devices: [name] })), undefined, name);
  }
});
