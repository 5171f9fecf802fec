import t from 'tap';
import type { IpAddress } from '../../src/model/address.js';
import { VpndError } from '../../src/model/errors.js';
import type { PeerId } from '../../src/model/ids.js';
import {
  BACK,
  CLIENT,
  CLIENT_IP,
  carriedSession,
  datagram,
  EXIT_IP,
  FRONT,
  HOP,
  PAIR,
  SESSION,
  WIREGUARD,
} from '../support/carried-session.js';
import { endpoint } from '../support/fake-stream.js';

const NEXT = HOP.kind === 'hop' ? HOP.endpoint : FRONT;
const fromNext = { from: '198.51.100.10:40001', to: '198.51.100.20:40077' };
const CLIENT_UDP = endpoint(`${CLIENT_IP}:33333`);
const EXIT_UDP = endpoint(`${EXIT_IP}:44444`);

t.test('a session without UDP is carried both ways, from its very first datagram', async (t) => {
  const world = await carriedSession();
  t.same(world.kernelPorts(), [FRONT.port]);
  world.wireguardSends(1);
  await world.clock.advance(50);
  t.same(world.sent, [{ ...fromNext, n: 1 }], 'it leaves by its relay port, to the next hop');
  t.same(world.kernelPorts(), [], 'the kernel has nothing of it meanwhile');

  t.equal(world.udpArrives(2, NEXT, FRONT), 'process');
  await world.clock.advance(50);
  t.same(world.atWireGuard, [2]);

  for (let n = 10; n < 200; n++) {
    world.wireguardSends(n);
    world.udpArrives(n, NEXT, FRONT);
  }
  await world.clock.advance(50);
  const all = Array.from({ length: 190 }, (_, i) => 10 + i);
  t.same(
    world.sent.slice(1).map(({ n }) => n),
    all,
    'in order',
  );
  t.same(world.atWireGuard.slice(1), all);
});

t.test('renewals and comparisons leave a carried session where it is, and follow its next hop', async (t) => {
  const world = await carriedSession();
  world.wireguardSends(1);
  await world.clock.advance(50);
  const elsewhere = endpoint('198.51.100.30:41000');
  await world.setUp({ next: { kind: 'hop', endpoint: elsewhere } });
  t.same(await world.executor.reconcile(), { repaired: [], removed: [] });
  t.same(world.kernelPorts(), []);
  world.wireguardSends(2);
  await world.clock.advance(50);
  t.equal(world.sent.at(-1)?.to, '198.51.100.30:41000');
  world.udpArrives(3, NEXT, FRONT);
  world.udpArrives(4, elsewhere, FRONT);
  await world.clock.advance(50);
  t.same(world.atWireGuard, [4], 'the former hop is a stranger now');
});

t.test('UDP is used again as soon as it comes through, and the kernel goes on where this left off', async (t) => {
  const world = await carriedSession();
  world.wireguardSends(1);
  await world.clock.advance(2_000);
  world.clientCarrier.close();
  t.equal(world.udpArrives(2, CLIENT_UDP, FRONT), 'process', 'WireGuard sends to the relay again');
  t.same(world.sent.at(-1), { ...fromNext, n: 2 });
  world.udpArrives(3, NEXT, FRONT);
  t.same(world.sent.at(-1), { from: '198.51.100.10:40001', to: '203.0.113.5:33333', n: 3 }, 'and back the same way');
  await world.clock.advance(2_000);
  t.same(world.kernelPorts(), [FRONT.port]);
  t.same(world.kernel.learned(FRONT.port), CLIENT_UDP, 'the kernel need not learn it first');
  t.equal(world.carrier.count, 0);
  t.equal(world.udpArrives(4, NEXT, FRONT), 'kernel');
  t.equal(world.clock.pending, 1, 'no timer is left but that of the lease');
});

t.test('stray UDP datagrams do not end it while the stream is in use', async (t) => {
  const world = await carriedSession();
  for (let n = 0; n < 40; n++) {
    world.wireguardSends(n);
    await world.clock.advance(50);
    world.udpArrives(99, endpoint(`${CLIENT_IP}:1`), FRONT);
    await world.clock.advance(50);
  }
  t.same(world.kernelPorts(), []);
  t.equal(world.log.lines.filter(({ text }) => /not carried/.test(text)).length, 0);
  world.wireguardSends(40);
  await world.clock.advance(50);
  world.udpArrives(50, NEXT, FRONT);
  await world.clock.advance(50);
  t.equal(world.atWireGuard.at(-1), 50);
});

t.test('an exit at the same supernode notices nothing, behind its NAT or on the move', async (t) => {
  const world = await carriedSession({ next: PAIR });
  world.udpArrives(0, EXIT_UDP, BACK);
  world.wireguardSends(1);
  await world.clock.advance(50);
  t.same(world.kernelPorts(), []);
  t.same(
    world.sent,
    [{ from: '198.51.100.10:40002', to: '192.0.2.9:44444', n: 1 }],
    'to where the kernel had learned it',
  );
  world.udpArrives(2, endpoint(`${EXIT_IP}:55555`), BACK);
  world.udpArrives(3, endpoint('203.0.113.66:55555'), BACK);
  world.wireguardSends(4);
  await world.clock.advance(50);
  t.same(world.atWireGuard, [2], 'nobody takes the exit’s place from another address');
  t.equal(world.sent.at(-1)?.to, '192.0.2.9:55555');

  world.state.streamUp = false;
  await world.carrier.clientGone(CLIENT);
  t.same(world.kernelPorts(), [FRONT.port, BACK.port]);
  t.same(world.kernel.learned(BACK.port), endpoint(`${EXIT_IP}:55555`));
  t.equal(world.kernel.learned(FRONT.port), undefined);
});

t.test('when the stream ends, the kernel has the session back; a new stream may carry it again', async (t) => {
  const world = await carriedSession();
  world.wireguardSends(1);
  await world.clock.advance(50);
  const record = world.executor.session(SESSION);
  await world.carrier.clientGone('somebody else' as PeerId);
  t.same(world.kernelPorts(), []);
  await world.carrier.clientGone(CLIENT);
  t.same(world.kernelPorts(), [FRONT.port]);
  t.same(world.executor.session(SESSION), record, 'the lease is what it was');
  world.wireguardSends(2);
  await world.clock.advance(50);
  t.equal(world.sent.at(-1)?.n, 2);
  t.same(world.kernelPorts(), []);
});

t.test('silence of two minutes gives the session back', async (t) => {
  const world = await carriedSession();
  world.wireguardSends(1);
  await world.clock.advance(110_000);
  t.same(world.kernelPorts(), []);
  world.wireguardSends(2);
  await world.clock.advance(115_000);
  t.same(world.kernelPorts(), [], 'a keepalive now and then is enough');
  await world.clock.advance(10_000);
  t.same(world.kernelPorts(), [FRONT.port]);
});

t.test('a supernode that stops leaves the session with the kernel', async (t) => {
  const world = await carriedSession();
  world.wireguardSends(1);
  await world.clock.advance(50);
  await world.carrier.stop();
  t.same(world.kernelPorts(), [FRONT.port]);
  t.equal(world.clock.pending, 1, 'the lease’s timer');
});

t.test('only the client that owns a session has it carried, and only while it goes over relays', async (t) => {
  const world = await carriedSession();
  world.state.owner = 'another client' as PeerId;
  world.wireguardSends(1);
  await world.clock.advance(50);
  t.same(world.kernelPorts(), [FRONT.port]);
  world.state.owner = CLIENT;
  await world.setUp({ vouched: [] });
  world.wireguardSends(2);
  await world.clock.advance(50);
  t.same(world.sent, []);
  t.equal(world.carrier.count, 0);
});

t.test('strangers’ datagrams to the relay port are dropped', async (t) => {
  const world = await carriedSession();
  world.wireguardSends(1);
  await world.clock.advance(50);
  world.udpArrives(2, endpoint('203.0.113.66:33333'), FRONT);
  world.udpArrives(3, endpoint('198.51.100.20:40078'), FRONT);
  await world.clock.advance(5_000);
  t.equal(world.sent.length, 1);
  t.same(world.atWireGuard, []);
  t.equal(world.carrier.count, 1);
});

t.test('what a client may send and get is limited; the rest is dropped and not kept', async (t) => {
  const world = await carriedSession({ limits: { packetsPerSecond: 800 } });
  world.wireguardSends(0);
  await world.clock.advance(2_000);
  for (let n = 1; n <= 500; n++) {
    world.wireguardSends(n);
    world.udpArrives(n, NEXT, FRONT);
  }
  await world.clock.advance(50);
  t.equal(world.sent.length, 1 + 100);
  t.equal(world.atWireGuard.length, 100);
  await world.clock.advance(1_000);
  t.equal(world.sent.length, 1 + 100, 'nothing was kept for later');
  for (let n = 1; n <= 500; n++) world.wireguardSends(n);
  await world.clock.advance(50);
  t.equal(world.sent.length, 1 + 200);

  const narrow = await carriedSession({ limits: { bytesPerSecond: 5_120 } });
  for (let n = 0; n < 50; n++) narrow.wireguardSends(n);
  await narrow.clock.advance(50);
  t.equal(narrow.sent.length, 10, 'bytes count, too');

  const crowded = await carriedSession({ limits: { packetsPerSecond: 800, shares: 1 / 2 } });
  crowded.wireguardSends(0);
  await crowded.clock.advance(2_000);
  for (let n = 0; n < 500; n++) crowded.wireguardSends(n);
  await crowded.clock.advance(50);
  t.equal(crowded.sent.length, 1 + 50, 'all clients together have a limit, too');
});

t.test('a client that does not read loses datagrams, and nothing is buffered for it', async (t) => {
  const world = await carriedSession();
  world.wireguardSends(1);
  await world.clock.advance(50);
  world.state.clientReads = false;
  for (let n = 0; n < 1_000; n++) world.udpArrives(n, NEXT, FRONT);
  await world.clock.advance(100);
  world.state.clientReads = true;
  await world.clock.advance(5_000);
  t.same(world.atWireGuard, []);
  world.udpArrives(7, NEXT, FRONT);
  await world.clock.advance(50);
  t.same(world.atWireGuard, [7]);
});

t.test('a full supernode carries no more, says so once, and leaves the session as it is', async (t) => {
  const world = await carriedSession({ limits: { sessions: 0 } });
  for (let n = 0; n < 20; n++) {
    world.wireguardSends(n);
    await world.clock.advance(50);
  }
  t.same(world.kernelPorts(), [FRONT.port]);
  t.equal(world.log.lines.filter(({ level }) => level === 'warn').length, 1);
});

t.test('a session that ends while it is carried leaves nothing', async (t) => {
  const world = await carriedSession({ next: PAIR });
  world.wireguardSends(1);
  await world.clock.advance(50);
  await world.order({ kind: 'disconnect', reason: 'done' });
  t.equal(world.carrier.count, 0);
  t.same(world.kernel.units(), []);
  t.equal(world.udpArrives(2, NEXT, FRONT), 'nobody', 'its sockets are closed');
  t.equal(world.udpArrives(2, EXIT_UDP, BACK), 'nobody');
  t.equal(world.carrier.learned(BACK.port), undefined);
  t.same(await world.executor.reconcile(), { repaired: [], removed: [] });
  world.wireguardSends(3);
  await world.clock.advance(50);
  t.equal(world.carrier.count, 0);
});

t.test(
  'a port that cannot be taken, or a kernel that will not let go, leaves the session with the kernel',
  async (t) => {
    const world = await carriedSession();
    world.state.bindFails = new VpndError('port-in-use', 'taken');
    world.wireguardSends(1);
    await world.clock.advance(50);
    t.same(world.kernelPorts(), [FRONT.port]);
    t.match(world.log.lines.at(-1), { level: 'warn', fields: { code: 'port-in-use' } });

    world.state.bindFails = undefined;
    world.kernel.failNext(new VpndError('dataplane', 'no'));
    world.wireguardSends(2);
    await world.clock.advance(50);
    t.same(world.kernelPorts(), [FRONT.port]);
    t.equal(world.carrier.count, 0);
    t.same(await world.executor.reconcile(), { repaired: [], removed: [] });

    t.ok(world.wireguardSends(3));
    await world.clock.advance(50);
    t.same(world.kernelPorts(), [], 'and may be carried later');
  },
);

t.test('a client cannot keep the kernel busy by going to and fro', async (t) => {
  const world = await carriedSession();
  let switches = 0;
  for (let n = 0; n < 60; n++) {
    world.wireguardSends(n);
    await world.clock.advance(40);
    switches += world.carrier.count;
    await world.carrier.clientGone(CLIENT);
  }
  t.ok(switches <= 7, `${switches} times in 2.4 s`);
});

t.test('behind a one-to-one NAT the port is taken on every address', async (t) => {
  const world = await carriedSession();
  const order = world.order({
    kind: 'relay-setup',
    port: FRONT.port,
    localIp: '203.0.113.200' as IpAddress,
    vouched: [CLIENT_IP],
    next: HOP,
  });
  await order;
  world.wireguardSends(1);
  await world.clock.advance(50);
  t.same(world.sent, [{ from: '0.0.0.0:40001', to: '198.51.100.20:40077', n: 1 }]);
});

t.test('on the client, nobody but WireGuard is carried, nor gets what is WireGuard’s', async (t) => {
  const world = await carriedSession();
  const thief = endpoint('127.0.0.1:6666');
  world.programSends(new TextEncoder().encode('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'), thief);
  world.programSends(new Uint8Array(0), thief);
  world.programSends(Uint8Array.of(1, 0, 0, 0), thief);
  await world.clock.advance(50);
  t.same(world.kernelPorts(), [FRONT.port], 'nothing of it went up');

  world.wireguardSends(1);
  await world.clock.advance(50);
  world.programSends(datagram(2), thief);
  world.udpArrives(3, NEXT, FRONT);
  await world.clock.advance(50);
  t.same(
    world.sent.map(({ n }) => n),
    [1],
  );
  t.same(world.atWireGuard, [3], 'answers go where WireGuard is');

  await world.clock.advance(11_000);
  world.wireguardSends(4, endpoint('127.0.0.1:51999'));
  await world.clock.advance(50);
  t.equal(world.sent.at(-1)?.n, 4, 'an interface that was made anew sends from another port');
  t.not(world.clientCarrier.endpoint.port, WIREGUARD.port);
  world.clientCarrier.close();
  world.clientCarrier.close();
  t.equal(world.wireguardSends(5), false, 'the port is closed');
});
