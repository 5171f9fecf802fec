import t from 'tap';
import { KILL_SWITCH, TUNNEL_MARK } from '../../src/model/dataplane.js';
import {
  A,
  B,
  buildWorld,
  CLIENT_HOME,
  clientUnits,
  EXIT_HOME,
  exitUnits,
  GATEWAY,
  INNER,
  pings,
  pingsUntilHeard,
  type World,
} from '../support/namespace-path.js';
import { at, cidrs, ip, keyPair, killSwitch, peer, port, relay } from '../support/namespace-units.js';

t.setTimeout(900_000);

const WEB = '198.51.100.80';
const WEB6 = '2001:db8::80';
const REFUSED = 7;
const TIMED_OUT = 28;

/** Over one supernode, since how the packets get to the exit does not matter here. */
async function connected(ipv6 = true): Promise<World> {
  const world = await buildWorld();
  await world.planes.a.apply({
    put: [
      relay(40_001, { vouched: [ip(CLIENT_HOME)], next: { kind: 'pair', port: port(40_002) } }),
      relay(40_002, { vouched: [ip(EXIT_HOME)], next: { kind: 'pair', port: port(40_001) } }),
    ],
  });
  await world.planes.exit.reconcile(exitUnits(at(A.ipv4, 40_002), ipv6));
  await world.planes.client.reconcile(clientUnits(at(A.ipv4, 40_001), { ipv6: 'tunnel' }));
  await pingsUntilHeard(world.hosts.client, WEB);
  return world;
}

t.test('the exit owner’s contract', async (t) => {
  const world = await connected();
  t.teardown(() => world.close());
  const { client, exit } = world.hosts;
  const curl = (url: string) => client.run(['curl', '-gsS', '-m', '2', '-o', '/dev/null', url]);

  t.test('the gateway answers echoes and refuses connections, and nothing else of the exit answers', async (t) => {
    exit.spawn(['python3', '-m', 'http.server', '8080', '--bind', '0.0.0.0']);
    t.equal(await pings(client, GATEWAY, 2), 2);
    t.equal(await pings(client, 'fd7a:7670:6e64::1', 2), 2);
    t.equal((await curl(`http://${GATEWAY}:9/`)).code, REFUSED);
    t.equal((await curl(`http://${GATEWAY}:8080/`)).code, REFUSED, 'even where something listens');
    t.equal((await curl('http://[fd7a:7670:6e64::1]:8080/')).code, REFUSED);
    // The exit's own LAN, which the client's has nothing of.
    t.equal(await pings(client, '192.168.7.2', 1), 0);
    t.equal((await curl('http://192.168.7.2:8080/')).code, TIMED_OUT);
    t.equal(await pings(client, '192.168.7.1', 1), 0, 'nor does the owner’s router');
  });

  t.test('private, metadata and mail destinations are not carried', async (t) => {
    const seen = await exit.capture('eth0', 'not udp and not arp and not ip6 multicast');
    for (const target of ['169.254.169.254', '100.64.0.1', '10.1.2.3', '172.16.0.1', '198.18.0.1']) {
      await client.run(['curl', '-sS', '-m', '1', '--interface', INNER.ipv4, `http://${target}/`]);
    }
    t.equal((await client.run(['curl', '-sS', '-m', '1', `telnet://${WEB}:25`])).code, TIMED_OUT);
    t.same((await seen.stop()).except(), []);
  });

  t.test('a client cannot use a source address that is not its own', async (t) => {
    await client.ip('addr add 10.200.0.77/32 dev wg-client', 'rule add from 10.200.0.77 lookup 51820 priority 90');
    const seen = await exit.capture('any', 'host 10.200.0.77');
    t.equal((await client.run(['ping', '-c', '2', '-W', '1', '-I', '10.200.0.77', WEB])).code, 1);
    t.equal((await seen.stop()).packets.length, 0);
    await client.ip('rule del from 10.200.0.77 lookup 51820 priority 90', 'addr del 10.200.0.77/32 dev wg-client');
  });

  t.test('connections leave from ports that no service of the exit’s router has', async (t) => {
    const seen = await exit.capture('eth0', `tcp and dst host ${WEB}`);
    await client.exec(['curl', '-sS', '--local-port', '51820', world.web.url]);
    const ports = [...(await seen.stop()).tcpPorts.keys()].filter((one) => one !== 80);
    t.ok(ports.length > 0 && ports.every((one) => one >= 61_000), String(ports));
  });

  t.test('strangers do not get to a client through its exit', async (t) => {
    await world.lab.internet.ip(`route add 10.200.0.0/13 via ${EXIT_HOME}`);
    await world.homes.exit.router.ip('route add 10.200.0.0/13 via 192.168.7.2');
    const seen = await client.capture('wg-client', 'icmp');
    await world.homes.exit.router.run(['ping', '-c', '2', '-W', '1', INNER.ipv4]);
    t.equal((await seen.stop()).packets.length, 0);
  });

  t.test('big downloads fit: the segment size is what the tunnel carries', async (t) => {
    const size = await client.exec([
      'curl',
      '-sS',
      '-m',
      '20',
      '-o',
      '/dev/null',
      '-w',
      '%{size_download}',
      `${world.web.url}/bytes/3000000`,
    ]);
    t.equal(size, '3000000');
  });

  t.test('two clients do not reach each other', async (t) => {
    await world.planes.exit.apply({ put: [peer('wg-exit', 60, { allowedIps: cidrs('10.200.0.60/32') })] });
    const seen = await exit.capture('wg-exit', 'dst host 10.200.0.60');
    await client.run(['ping', '-c', '2', '-W', '1', '10.200.0.60', '-I', INNER.ipv4]);
    const packets = (await seen.stop()).packets;
    t.ok(packets.length <= 2, 'they come in, and do not go out again');
    const peers = await world.planes.exit.observePeers();
    t.equal(peers.find((one) => one.publicKey === keyPair(60).publicKey)?.txBytes, 0);
  });
});

t.test('an exit without IPv6 says so at once', async (t) => {
  const world = await connected(false);
  t.teardown(() => world.close());
  const { client } = world.hosts;
  const { stdout, stderr, code } = await client.run(['ping', '-6', '-c', '1', '-W', '2', WEB6]);
  t.not(code, 0);
  t.match(`${stdout}${stderr}`, /unreachable|No route/i);
  t.equal(await pings(client, WEB, 2), 2, 'IPv4 goes on');
  t.equal(await pings(client, 'fd7a:7670:6e64::1', 1), 1, 'and the gateway answers');
});

t.test('all of a client’s traffic stays in its tunnel', async (t) => {
  const world = await connected();
  t.teardown(() => world.close());
  const { client } = world.hosts;
  const { client: plane } = world.planes;
  const units = clientUnits(at(A.ipv4, 40_001));
  const marked = units.map((unit) => (unit.kind === 'device' ? { ...unit, mark: TUNNEL_MARK } : unit));
  const held = (lan: boolean) => killSwitch({ lan, endpoints: [at(A.ipv4, 40_001)], own: [] });

  t.test('the underlay sees WireGuard to the relay and nothing else', async (t) => {
    const seen = await client.capture('eth0', 'not arp and not ip6 multicast');
    await client.exec(['curl', '-sS', world.web.url]);
    await client.exec(['curl', '-gsS', world.web.url6]);
    await pings(client, WEB, 3);
    t.same((await seen.stop()).except('wireguard'), []);
  });

  t.test('the LAN is reached where it is wanted, routes pushed by its DHCP server take nothing over', async (t) => {
    await plane.apply({ put: [...marked, held(false)] });
    t.equal(await pings(client, '192.168.1.1', 1), 0);
    t.equal(await pings(client, WEB, 2), 2);
    await plane.apply({ put: [held(true)] });
    t.equal(await pings(client, '192.168.1.1', 2), 2);
    await client.ip(`route add ${WEB}/32 via 192.168.1.1`, 'route add 128.0.0.0/1 via 192.168.1.1');
    const seen = await client.capture('eth0', `host ${WEB}`);
    t.equal(await pings(client, WEB, 2), 2);
    t.equal((await seen.stop()).packets.length, 0);
    await client.ip(`route del ${WEB}/32`, 'route del 128.0.0.0/1');
    t.same(await plane.reconcile([...marked, held(true)]), { repaired: [], removed: [] }, 'it is as it was said to be');
  });

  t.test('neighbours cannot send to the inner address', async (t) => {
    const neighbour = await world.homes.client.host('tv');
    await neighbour.ip(`route add ${INNER.ipv4}/32 via ${client.ipv4}`);
    t.equal(await pings(neighbour, INNER.ipv4, 2), 0);
    t.equal(await pings(neighbour, client.ipv4 ?? '', 2), 2, 'while the LAN address answers');
    await plane.apply({ put: units, remove: [KILL_SWITCH] });
  });

  t.test('where the device dies, traffic is held until it is back', async (t) => {
    const seen = await client.capture('eth0', `host ${WEB}`);
    await client.ip('link del wg-client');
    t.equal(await pings(client, WEB, 2), 0);
    t.equal((await seen.stop()).packets.length, 0);
    const { repaired } = await plane.reconcile(units);
    t.same([...repaired].sort(), [
      'device/wg-client',
      'full-tunnel/wg-client',
      units[1] && `peer/wg-client/${keyPair(12).publicKey}`,
    ]);
    await pingsUntilHeard(client, WEB);
  });

  t.test('blocked IPv6 does not leak', async (t) => {
    await plane.apply({ put: clientUnits(at(A.ipv4, 40_001), { ipv6: 'block' }) });
    const seen = await client.capture('eth0', `ip6 host ${WEB6}`);
    t.equal(await pings(client, WEB6, 1), 0);
    t.equal((await seen.stop()).packets.length, 0);
    t.equal(await pings(client, WEB, 2), 2);
  });

  t.test('without the tunnel everything is as it was', async (t) => {
    await plane.apply({ remove: ['full-tunnel/wg-client' as never, 'device/wg-client' as never] });
    t.same(await plane.inventory(), []);
    t.match(JSON.parse(await client.exec(['curl', '-sS', world.web.url])), { ip: CLIENT_HOME });
  });
});

t.test('an exempt endpoint that moves', async (t) => {
  const world = await connected();
  t.teardown(() => world.close());
  const { client } = world.hosts;
  await world.planes.b.apply({
    put: [
      relay(40_001, { localIp: ip(B.ipv4), vouched: [ip(CLIENT_HOME)], next: { kind: 'pair', port: port(40_002) } }),
      relay(40_002, { localIp: ip(B.ipv4), vouched: [ip(EXIT_HOME)], next: { kind: 'pair', port: port(40_001) } }),
    ],
  });
  const running = pings(client, WEB, 100, 0.05);
  await world.planes.exit.apply({ put: exitUnits(at(B.ipv4, 40_002)) });
  await world.planes.client.apply({ put: clientUnits(at(B.ipv4, 40_001)) });
  t.ok((await running) >= 95, 'hardly a packet is lost');
  t.match(await world.planes.client.observePeers(), [{ endpoint: at(B.ipv4, 40_001) }]);
  t.notMatch((await world.planes.client.inventory()).join('\n'), `to ${A.ipv4} `);
});
