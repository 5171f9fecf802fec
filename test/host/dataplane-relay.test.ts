import t from 'tap';
import type { RelayUnit, Unit } from '../../src/model/dataplane.js';
import { unitIdOf } from '../../src/model/dataplane.js';
import {
  A,
  B,
  buildWorld,
  CLIENT_HOME,
  CLIENT_IPV6,
  clientUnits,
  EXIT_HOME,
  EXIT_IPV6,
  exitUnits,
  INNER,
  pings,
  pingsUntilHeard,
  type World,
} from '../support/namespace-path.js';
import { at, ip, port, relay } from '../support/namespace-units.js';

t.setTimeout(900_000);

const WEB = '198.51.100.80';

const hop = (on: { ipv4: string }, own: number, vouched: string, next: { ipv4: string }, nextPort: number): RelayUnit =>
  relay(own, {
    localIp: ip(on.ipv4),
    vouched: [ip(vouched)],
    next: { kind: 'hop', endpoint: at(next.ipv4, nextPort) },
  });

/** Client and exit put their ends up; the relays are there already. */
async function connect(world: World, client: readonly Unit[], exit: readonly Unit[]): Promise<void> {
  await world.planes.exit.reconcile(exit);
  await world.planes.client.reconcile(client);
  await pingsUntilHeard(world.hosts.client, WEB);
}

const forgetTracked = (world: World) => Promise.all([world.hosts.a.conntrackFlush(), world.hosts.b.conntrackFlush()]);

async function trackedUdp(world: World): Promise<number> {
  const counts = await Promise.all([
    world.hosts.a.conntrackCount(['-p', 'udp']),
    world.hosts.b.conntrackCount(['-p', 'udp']),
  ]);
  return counts[0] + counts[1];
}

t.test('two hops, both ends behind NAT', async (t) => {
  const world = await buildWorld();
  t.teardown(() => world.close());
  const { planes, hosts } = world;
  const onA = hop(A, 40_001, CLIENT_HOME, B, 41_001);
  const onB = hop(B, 41_001, EXIT_HOME, A, 40_001);
  await Promise.all([planes.a.apply({ put: [onA] }), planes.b.apply({ put: [onB] })]);
  const client = clientUnits(at(A.ipv4, 40_001));
  const exit = exitUnits(at(B.ipv4, 41_001));
  await connect(world, client, exit);

  t.test('carries traffic, over IPv4 and IPv6 inside, and tracks no connection', async (t) => {
    await forgetTracked(world);
    t.equal(await pings(hosts.client, WEB, 10, 0.1), 10);
    t.equal(await pings(hosts.client, '2001:db8::80', 5, 0.1), 5);
    t.match(JSON.parse(await hosts.client.exec(['curl', '-sS', world.web.url])), { ip: EXIT_HOME });
    t.match(JSON.parse(await hosts.client.exec(['curl', '-sS', '-g', world.web.url6])), { ip: EXIT_IPV6 });
    t.equal(await trackedUdp(world), 0);
    t.match(await planes.a.observeRelays(), [{ port: 40_001, learned: { ip: CLIENT_HOME } }]);
    t.match(await planes.b.observeRelays(), [{ port: 41_001, learned: { ip: EXIT_HOME } }]);
    t.match(await planes.client.observePeers(), [{ endpoint: at(A.ipv4, 40_001), lastHandshake: Number }]);
  });

  t.test('a line that takes less than a full packet carries what is large all the same', async (t) => {
    const ends = [
      ['the client’s', world.homes.client.router, hosts.client],
      ['the exit’s', world.homes.exit.router, hosts.exit],
    ] as const;
    const url = `${world.web.url}/bytes/300000`;
    const curl = ['curl', '-sS', '--max-time', '20', '-o', '/dev/null', '-w', '%{size_download}', url];
    const largePings = ['ping', '-c', '5', '-i', '0.2', '-W', '5', '-s', '1380', WEB];
    for (const [whose, router, host] of ends) {
      const line = (mtu: number) =>
        Promise.all([router.ip(`link set lan0 mtu ${mtu}`), host.ip(`link set eth0 mtu ${mtu}`)]);
      await line(1400);
      t.equal((await hosts.client.run(curl)).stdout, '300000', whose);
      t.equal((await hosts.client.run(largePings)).code, 0, whose);
      await line(1500);
    }
  });

  t.test('doing everything again, and other sessions coming and going, loses nothing', async (t) => {
    const running = pings(hosts.client, WEB, 100, 0.05);
    for (let round = 0; round < 3; round++) {
      const other = Array.from({ length: 20 }, (_, i) => hop(A, 42_000 + i, CLIENT_HOME, B, 43_000 + i));
      await planes.a.apply({ put: other });
      await Promise.all([
        planes.a.apply({ put: [onA] }),
        planes.b.apply({ put: [onB] }),
        planes.client.apply({ put: client }),
        planes.exit.apply({ put: exit }),
      ]);
      await planes.a.apply({ remove: other.map(unitIdOf) });
      t.same(await planes.a.reconcile([onA]), { repaired: [], removed: [] });
      t.same(await planes.b.reconcile([onB]), { repaired: [], removed: [] });
      t.same(await planes.client.reconcile(client), { repaired: [], removed: [] });
      t.same(await planes.exit.reconcile(exit), { repaired: [], removed: [] });
    }
    t.equal(await running, 100);
  });

  t.test('a NAT that maps the client to another port is followed within a moment', async (t) => {
    const before = (await planes.a.observeRelays())[0]?.learned?.port;
    await world.homes.client.rebind();
    t.ok((await pingsUntilHeard(hosts.client, WEB)) <= 3, 'within three pings');
    t.equal(await pings(hosts.client, WEB, 10, 0.1), 10);
    t.not((await planes.a.observeRelays())[0]?.learned?.port, before);
    await world.homes.exit.rebind();
    await pings(hosts.exit, INNER.ipv4, 1);
    t.ok((await pingsUntilHeard(hosts.client, WEB)) <= 3, 'and so is the exit, once it has sent something');
    t.equal(await pings(hosts.client, WEB, 10, 0.1), 10);
  });

  t.test('strangers neither get through nor change where packets go', async (t) => {
    const learned = await planes.a.observeRelays();
    const stranger = await world.lab.publicHost('stranger', { ipv4: '198.51.100.66' });
    const seen = await hosts.b.capture('eth0', 'udp and host 198.51.100.66');
    await stranger.exec(['bash', '-c', `for i in 1 2 3 4 5; do echo x >/dev/udp/${A.ipv4}/40001; done`]);
    t.equal(await pings(hosts.client, WEB, 5, 0.1), 5);
    t.equal((await seen.stop()).except().length, 0);
    t.same(await planes.a.observeRelays(), learned);
  });

  t.test('an address that is vouched for no more is not sent to', async (t) => {
    await planes.a.apply({ put: [{ ...onA, vouched: [ip('198.51.100.21')] }] });
    t.equal(await pings(hosts.client, WEB, 2), 0);
    t.same(
      await planes.a.observeRelays(),
      [{ port: 40_001, learned: undefined }].map((one) => ({ port: one.port })),
    );
    await planes.a.apply({ put: [onA] });
    await pingsUntilHeard(hosts.client, WEB);
  });

  t.test('a port given back and out again at once serves its new session', async (t) => {
    await planes.a.apply({ remove: [unitIdOf(onA)] });
    await planes.a.apply({ put: [onA, hop(A, 40_002, '198.51.100.77', B, 41_002)] });
    await planes.a.apply({ remove: [unitIdOf(onA)] });
    await planes.a.apply({ put: [onA] });
    t.ok((await pingsUntilHeard(hosts.client, WEB)) <= 1);
  });
});

t.test('one hop: two ports of one supernode', async (t) => {
  const world = await buildWorld();
  t.teardown(() => world.close());
  const { planes, hosts } = world;
  const pair: readonly Unit[] = [
    relay(40_001, { vouched: [ip(CLIENT_HOME)], next: { kind: 'pair', port: port(40_002) } }),
    relay(40_002, { vouched: [ip(EXIT_HOME)], next: { kind: 'pair', port: port(40_001) } }),
  ];
  await planes.a.apply({ put: pair });
  await connect(world, clientUnits(at(A.ipv4, 40_001)), exitUnits(at(A.ipv4, 40_002)));
  await forgetTracked(world);
  t.equal(await pings(hosts.client, WEB, 10, 0.1), 10);
  t.equal(await trackedUdp(world), 0);
  await world.homes.client.rebind();
  t.ok((await pingsUntilHeard(hosts.client, WEB)) <= 3);
  t.match(
    [...(await planes.a.observeRelays())].sort((x, y) => x.port - y.port),
    [{ learned: { ip: CLIENT_HOME } }, { learned: { ip: EXIT_HOME } }],
  );
  await planes.a.apply({ remove: pair.map(unitIdOf) });
  t.same(await planes.a.inventory(), []);
  t.equal(await pings(hosts.client, WEB, 2), 0);
});

t.test('IPv6 outside', async (t) => {
  const world = await buildWorld();
  t.teardown(() => world.close());
  const { planes, hosts } = world;
  await planes.a.apply({
    put: [
      relay(40_001, {
        localIp: ip(A.ipv6),
        vouched: [ip(CLIENT_IPV6)],
        next: { kind: 'hop', endpoint: at(B.ipv6, 41_001) },
      }),
    ],
  });
  await planes.b.apply({
    put: [
      relay(41_001, {
        localIp: ip(B.ipv6),
        vouched: [ip(EXIT_IPV6)],
        next: { kind: 'hop', endpoint: at(A.ipv6, 40_001) },
      }),
    ],
  });
  await connect(world, clientUnits(at(A.ipv6, 40_001)), exitUnits(at(B.ipv6, 41_001)));
  await forgetTracked(world);
  t.equal(await pings(hosts.client, WEB, 10, 0.1), 10);
  t.equal(await trackedUdp(world), 0);
  t.match(await planes.a.observeRelays(), [{ learned: { ip: CLIENT_IPV6 } }]);
});
