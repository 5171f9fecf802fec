import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import t from 'tap';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { Bytes } from '../../src/model/bytes.js';
import { ms, seconds } from '../../src/model/time.js';
import { tcpReach } from '../../src/transport/reach.js';
import { udpSockets } from '../../src/transport/udp-sockets.js';

const HERE = '127.0.0.1' as IpAddress;
const patience = { timeout: seconds(5) };
const openFiles = () => readdirSync('/proc/self/fd').length;

async function listening(t: { teardown(undo: () => unknown): void }): Promise<Port> {
  const server = createServer((socket) => socket.on('error', () => {}));
  await new Promise<void>((resolve) => server.listen(0, HERE, resolve));
  t.teardown(() => server.close());
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port as Port;
}

async function closedPort(): Promise<Port> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, HERE, resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port as Port;
}

/** Nothing comes back from it: a process that is stopped listens there, and its queue is full. */
async function silentPort(t: { teardown(undo: () => unknown): void }): Promise<Port> {
  const script = `const s = require('net').createServer(() => {});
    s.listen({ port: 0, host: '${HERE}', backlog: 1 }, () => console.log(s.address().port));`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = await once(child.stdout, 'data');
  const port = Number(String(line)) as Port;
  child.kill('SIGSTOP');
  for (let n = 0; n < 4; n++) {
    const socket = connect({ host: HERE, port });
    socket.on('error', () => {});
    t.teardown(() => socket.destroy());
  }
  return port;
}

t.test('a refused connection is an answer, and so is an accepted one', async (t) => {
  const refused = await tcpReach.tcp({ ip: HERE, port: await closedPort() }, patience);
  t.ok(refused !== undefined && refused >= 0 && refused < 1_000, `${refused} ms`);
  const port = await listening(t);
  const accepted = await tcpReach.tcp({ ip: HERE, port }, { ...patience, from: '127.0.0.7' as IpAddress });
  t.ok(accepted !== undefined && accepted < 1_000, `${accepted} ms`);
});

t.test('no answer, and nothing that could be sent, are told by undefined and never thrown', async (t) => {
  const port = await closedPort();
  t.equal(await tcpReach.tcp({ ip: HERE, port }, { ...patience, from: '192.0.2.1' as IpAddress }), undefined);
  t.equal(await tcpReach.tcp({ ip: HERE, port }, { ...patience, from: '2001:db8::1' as IpAddress }), undefined);
  // A broadcast address: TCP has no way there.
  t.equal(await tcpReach.tcp({ ip: '255.255.255.255' as IpAddress, port }, patience), undefined);
  t.equal(await tcpReach.tcp({ ip: HERE, port: await silentPort(t) }, { timeout: ms(50) }), undefined);
});

t.test('probing for a long time leaves no socket behind', async (t) => {
  const [open, closed] = [await listening(t), await closedPort()];
  const silent = await silentPort(t);
  const probe = (n: number) =>
    n % 3 === 2
      ? tcpReach.tcp({ ip: HERE, port: silent }, { timeout: ms(5) })
      : tcpReach.tcp({ ip: HERE, port: n % 3 === 0 ? open : closed }, patience);
  await probe(0);
  const before = openFiles();
  for (let n = 0; n < 150; n += 10) await Promise.all(Array.from({ length: 10 }, (_, i) => probe(n + i)));
  await new Promise((resolve) => setImmediate(resolve));
  t.ok(openFiles() <= before + 6, `${before} open files before, ${openFiles()} after`);
});

t.test('UDP sockets send and receive by address and port, and say why they cannot be bound', async (t) => {
  const got: string[] = [];
  let wake = () => {};
  const heard = (count: number) =>
    new Promise<void>((resolve) => {
      wake = () => got.length >= count && resolve();
      wake();
    });
  const listener = (name: string) => (packet: Bytes, from: { port: number }) => {
    got.push(`${name} ${packet.length} from ${from.port}`);
    wake();
  };
  const one = await udpSockets.bind({ ip: HERE, port: 0 }, listener('one'));
  const two = await udpSockets.bind({ ip: HERE, port: 0 }, listener('two'));
  t.equal(one.local.ip, HERE);
  one.send(new Uint8Array(1_420), two.local);
  await heard(1);
  two.send(new Uint8Array(3), one.local);
  await heard(2);
  t.same(got, [`two 1420 from ${one.local.port}`, `one 3 from ${two.local.port}`]);

  one.send(new Uint8Array(70_000), two.local);
  one.send(new Uint8Array(1), { ip: '::1' as IpAddress, port: two.local.port });
  one.send(new Uint8Array(1), { ip: '255.255.255.255' as IpAddress, port: two.local.port });
  one.send(new Uint8Array(9), two.local);
  await heard(3);
  t.equal(got[2], `two 9 from ${one.local.port}`, 'what cannot be sent hurts nothing');

  await t.rejects(
    udpSockets.bind({ ip: HERE, port: one.local.port }, () => {}),
    { code: 'port-in-use' },
  );
  await t.rejects(
    udpSockets.bind({ ip: '192.0.2.1' as IpAddress, port: 0 }, () => {}),
    { code: 'dataplane' },
  );
  const { port } = one.local;
  one.close();
  one.close();
  one.send(new Uint8Array(1), two.local);
  const again = await udpSockets.bind({ ip: HERE, port }, () => {});
  again.close();
  two.close();
});
