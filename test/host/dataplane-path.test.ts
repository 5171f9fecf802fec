import t from 'tap';
import type { Endpoint } from '../../src/model/address.js';
import { formatHostPort } from '../../src/model/address.js';
import type { EndpointPin, Unit } from '../../src/model/dataplane.js';
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
  GATEWAY,
  pings,
  pingsUntilHeard,
  type World,
} from '../support/namespace-path.js';
import { at, ip, relay } from '../support/namespace-units.js';

t.setTimeout(400_000);

const WEB = '198.51.100.80';

interface Ends {
  /** Where each side's packets come out of its NAT, as the relays have learned it. */
  readonly client: Endpoint;
  readonly exit: Endpoint;
  /** Each side's relay port. */
  readonly onA: Endpoint;
  readonly onB: Endpoint;
}

/** A session over two supernodes that carries traffic. */
async function relayed(family: 'ipv4' | 'ipv6'): Promise<{ world: World; ends: Ends }> {
  const world = await buildWorld();
  const onA = at(A[family], 40_001);
  const onB = at(B[family], 41_001);
  const vouched = family === 'ipv4' ? [CLIENT_HOME, EXIT_HOME] : [CLIENT_IPV6, EXIT_IPV6];
  const port = (own: Endpoint, from: string | undefined, next: Endpoint): Unit =>
    relay(own.port, { localIp: own.ip, vouched: [ip(from ?? '')], next: { kind: 'hop', endpoint: next } });
  await world.planes.a.apply({ put: [port(onA, vouched[0], onB)] });
  await world.planes.b.apply({ put: [port(onB, vouched[1], onA)] });
  await world.planes.exit.reconcile(exitUnits(onB));
  await world.planes.client.reconcile(clientUnits(onA));
  await pingsUntilHeard(world.hosts.client, WEB);
  const learned = await Promise.all([world.planes.a.observeRelays(), world.planes.b.observeRelays()]);
  const [client, exit] = learned.map((list) => list[0]?.learned);
  if (client === undefined || exit === undefined) throw new Error('the relays have learned nothing');
  return { world, ends: { client, exit, onA, onB } };
}

/** Supernodes and exit first, then the client with its pin: the steps of a path upgrade, and of the way back. */
async function move(world: World, toExit: Endpoint, toClient: Endpoint, pin: EndpointPin): Promise<void> {
  await world.planes.exit.apply({ put: exitUnits(toClient) });
  await world.planes.client.apply({ put: clientUnits(toExit, { pin }) });
}

const goDirect = (world: World, { client, exit, onA }: Ends) => move(world, exit, client, { from: onA, to: exit });
const goRelayed = (world: World, { exit, onA, onB }: Ends) => move(world, onA, onB, { from: exit, to: onA });

/** Until an answer has come from the new end of the client's pin, and then a quarter of a second; rejects after 2 s. */
async function settled(world: World): Promise<void> {
  const late = AbortSignal.timeout(2000);
  const asking = pings(world.hosts.client, GATEWAY, 10, 0.1);
  while (((await world.planes.client.observePins())[0]?.toPackets ?? 0) === 0) {
    late.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  await new Promise((resolve) => setTimeout(resolve, 250));
  await asking;
}

for (const family of ['ipv4', 'ipv6'] as const) {
  t.test(`from the relays to the direct path and back, ${family} outside, both behind a router`, async (t) => {
    const { world, ends } = await relayed(family);
    t.teardown(() => world.close());
    const { hosts, planes } = world;
    const endpoint = async () => (await planes.client.observePeers())[0]?.endpoint;

    t.test('loses none of 600 pings, a hundred a second', async (t) => {
      const running = pings(hosts.client, WEB, 600, 0.01);
      for (let round = 0; round < 3; round++) {
        await goDirect(world, ends);
        await settled(world);
        t.same(await endpoint(), ends.exit, 'direct');
        await goRelayed(world, ends);
        await settled(world);
        t.same(await endpoint(), ends.onA, 'relayed');
      }
      t.equal(await running, 600);
    });

    t.test('a download goes on, and comes out whole', async (t) => {
      const download = hosts.client.exec(
        ['curl', '-sS', '-m', '60', `${world.web.url}/bytes/60000000`, '-o', '/dev/null', '-w', '%{size_download}'],
        { timeout: 60_000 },
      );
      for (let round = 0; round < 3; round++) {
        await goDirect(world, ends);
        await settled(world);
        await goRelayed(world, ends);
        await settled(world);
      }
      t.equal(await download, '60000000');
    });

    t.test('direct, the supernodes see nothing of it', async (t) => {
      await goDirect(world, ends);
      await settled(world);
      await pings(hosts.client, WEB, 5, 0.05);
      const seen = await hosts.a.capture('eth0', `udp and host ${ends.client.ip}`);
      t.equal(await pings(hosts.client, WEB, 20, 0.05), 20);
      t.equal((await seen.stop()).packets.length, 0);
    });

    t.test('what still comes over the relay does not take WireGuard back there', async (t) => {
      const before = (await planes.client.observePins())[0];
      // The exit goes on over the relay by itself: its next packets come by the old way.
      await planes.exit.apply({ put: exitUnits(ends.onB) });
      await hosts.exit.run(['ping', '-c', '5', '-i', '0.05', '-W', '1', '10.200.0.2']);
      const after = (await planes.client.observePins())[0];
      t.ok((after?.fromPackets ?? 0) > (before?.fromPackets ?? 0), 'they were seen');
      t.same(await endpoint(), ends.exit);
      t.equal(await pings(hosts.client, WEB, 5, 0.05), 5);
    });

    t.test('the pin counts until it changes, whatever else does', async (t) => {
      const [before] = await planes.client.observePins();
      const pin = { from: ends.onA, to: ends.exit };
      await planes.client.apply({ put: clientUnits(ends.exit, { pin, exempt: [] }) });
      await planes.client.apply({ put: clientUnits(ends.exit, { pin }) });
      t.same(await planes.client.reconcile(clientUnits(ends.exit, { pin })), { repaired: [], removed: [] });
      const [after] = await planes.client.observePins();
      t.ok((after?.toPackets ?? 0) >= (before?.toPackets ?? Number.NaN), JSON.stringify([before, after]));
      await planes.client.apply({ put: clientUnits(ends.exit) });
      t.same(await planes.client.observePins(), []);
      t.equal(await pings(hosts.client, WEB, 5, 0.05), 5, 'without it the path stays');
      t.same(await endpoint(), ends.exit, formatHostPort(ends.exit));
    });
  });
}

t.test('a firewall that lets in answers only does not mind', async (t) => {
  const { world, ends } = await relayed('ipv4');
  t.teardown(() => world.close());
  for (const host of [world.hosts.client, world.hosts.exit]) {
    await host.nft(`table inet wall { chain in { type filter hook input priority 0; policy drop;
      iifname != "eth0" accept
      ct state { established, related } accept
    }; }`);
  }
  await pingsUntilHeard(world.hosts.client, WEB);
  const running = pings(world.hosts.client, WEB, 300, 0.01);
  await goDirect(world, ends);
  await settled(world);
  await goRelayed(world, ends);
  await settled(world);
  t.equal(await running, 300);
});
