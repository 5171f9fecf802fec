import t from 'tap';
import type { Host } from '../../chaos/lab/index.js';
import { KILL_SWITCH, TUNNEL_MARK } from '../../src/model/dataplane.js';
import {
  A,
  buildWorld,
  CLIENT_HOME,
  clientUnits,
  EXIT_HOME,
  exitUnits,
  INNER,
  pings,
  pingsUntilHeard,
} from '../support/namespace-path.js';
import { at, ip, killSwitch, port, relay } from '../support/namespace-units.js';

/**
 * What is done to networks around nodes, each by itself against the real kernel, and seen to fail. Without the kill
 * switch, but where it is what opens the LAN: it is the second door, and would hide whether the first one is shut.
 */
t.setTimeout(900_000);

const WEB = '198.51.100.80';
/** Datagrams of a length that nothing else here has. */
const TOLD = 333;
const SHADOWED = 7_000;

const world = await buildWorld();
t.teardown(() => world.close());
const { client, exit, a } = world.hosts;
await world.planes.a.apply({
  put: [
    relay(40_001, { vouched: [ip(CLIENT_HOME)], next: { kind: 'pair', port: port(40_002) } }),
    relay(40_002, { vouched: [ip(EXIT_HOME)], next: { kind: 'pair', port: port(40_001) } }),
  ],
});
await world.planes.exit.reconcile(exitUnits(at(A.ipv4, 40_002)));
const units = clientUnits(at(A.ipv4, 40_001));
await world.planes.client.reconcile(units);
await pingsUntilHeard(client, WEB);

/** Sends a datagram from a port of its own and waits a second for answers; says what came. */
const sendUdp = (from: Host, own: number, to: string, toPort: number, text: string): Promise<string> =>
  from.exec(['python3', '-c', SEND, String(own), to, String(toPort), text]);
const SEND = `
import socket, sys
own, to, port, text = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('', int(own))); s.settimeout(1)
s.sendto(text.encode(), (to, int(port)))
try: print(s.recvfrom(2048)[0].decode())
except TimeoutError: print('')
`;
/** Answers every datagram with its own name. */
const ECHO = `
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('', int(sys.argv[1]))); print('ready', flush=True)
while True:
    data, who = s.recvfrom(2048)
    s.sendto(sys.argv[2].encode(), who)
`;

t.test('port shadow: a client gets nothing that was meant for a service of its exit', async (t) => {
  await world.homes.exit.forward('udp', SHADOWED, exit);
  const service = exit.spawn(['python3', '-c', ECHO, String(SHADOWED), 'the service']);
  await service.waitForLine(/ready/);
  const victim = await world.lab.publicHost('victim', { ipv4: '198.51.100.91' });
  t.equal((await sendUdp(victim, 9_001, EXIT_HOME, SHADOWED, 'hello')).trim(), 'the service', 'it is there');
  // From the service's own port to the very port that the victim is going to write from.
  const seen = await victim.capture('eth0', `udp and src host ${EXIT_HOME} and dst port 9000`);
  await sendUdp(client, SHADOWED, '198.51.100.91', 9_000, 'a mapping, please');
  const { packets, udpPorts } = await seen.stop();
  t.ok(packets.length > 0, 'the client’s packet came out');
  t.notOk([...udpPorts.keys()].includes(SHADOWED), 'from another port than the service’s');
  const stolen = await client.capture('wg-client', 'udp and src host 198.51.100.91');
  t.equal((await sendUdp(victim, 9_000, EXIT_HOME, SHADOWED, 'my password')).trim(), 'the service');
  t.equal((await stolen.stop()).packets.length, 0);
});

t.test('TunnelVision: routes that a DHCP server hands out take nothing out of the tunnel', async (t) => {
  const routes = [`${WEB}/32`, '198.51.100.64/26', '0.0.0.0/1', '128.0.0.0/1', '2001:db8::80/128'];
  for (const route of routes)
    await client.ip(`route add ${route} ${route.includes(':') ? '' : 'via 192.168.1.1 '}dev eth0`);
  const seen = await client.capture('eth0', `host ${WEB} or host 2001:db8::80`);
  t.equal(await pings(client, WEB, 2), 2);
  t.equal(await pings(client, '2001:db8::80', 2), 2);
  t.match(JSON.parse(await client.exec(['curl', '-sS', '-m', '5', world.web.url])), { ip: EXIT_HOME });
  t.equal((await seen.stop()).packets.length, 0);
  for (const route of routes) await client.ip(`route del ${route} dev eth0`);
});

t.test('TunnelCrack, local networks: a LAN that claims public addresses gets none of them', async (t) => {
  const { client: plane } = world.planes;
  const marked = units.map((unit) => (unit.kind === 'device' ? { ...unit, mark: TUNNEL_MARK } : unit));
  await plane.apply({ put: [...marked, killSwitch({ lan: true, endpoints: [at(A.ipv4, 40_001)], own: [] })] });
  await client.ip('addr add 198.51.100.81/30 dev eth0', 'addr add 2001:db8::82/126 dev eth0 nodad');
  const seen = await client.capture('eth0', `host ${WEB} or host 2001:db8::80`);
  t.equal(await pings(client, '192.168.1.1', 2), 2, 'its own LAN is open to it');
  t.equal(await pings(client, WEB, 2), 2);
  t.match(JSON.parse(await client.exec(['curl', '-sS', '-m', '5', world.web.url])), { ip: EXIT_HOME });
  t.equal((await seen.stop()).packets.length, 0, 'nor is the LAN asked who has them');
  await client.ip('addr del 198.51.100.81/30 dev eth0', 'addr del 2001:db8::82/126 dev eth0');
  await plane.apply({ put: units, remove: [KILL_SWITCH] });
});

t.test(
  'TunnelCrack, server addresses: to a supernode’s address nothing leaves but what is for its ports',
  async (t) => {
    const seen = await client.capture('eth0', `host ${A.ipv4} and not (udp and port 40001)`);
    await client.run(['curl', '-sS', '-m', '1', `http://${A.ipv4}/`]);
    await client.run(['curl', '-sS', '-m', '1', `telnet://${A.ipv4}:22`]);
    await pings(client, A.ipv4, 2);
    await sendUdp(client, 5_555, A.ipv4, 53, 'a name');
    t.equal((await seen.stop()).packets.length, 0);
    t.equal(await pings(client, WEB, 2), 2);
  },
);

t.test('open reflector: a relay sends nothing on for strangers, whatever they send', async (t) => {
  const stranger = await world.lab.publicHost('stranger', { ipv4: '198.51.100.66' });
  const learned = await world.planes.a.observeRelays();
  const seen = await a.capture('eth0', `udp and src host ${A.ipv4} and udp[4:2] = ${TOLD + 8}`);
  await stranger.exec(['python3', '-c', BLAST, A.ipv4, '40001', '40002']);
  t.equal((await seen.stop()).packets.length, 0, 'neither on, nor back');
  t.equal(await pings(client, WEB, 5, 0.1), 5);
  t.same(await world.planes.a.observeRelays(), learned, 'and learned nothing from it');
});
/** Noise, and what begins like a handshake and like data, from several ports. */
const BLAST = `
import socket, sys
to, *ports = sys.argv[1:]
for own, begin in ((4000, b'x'), (4001, bytes([1, 0, 0, 0])), (4002, bytes([4, 0, 0, 0]))):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', own))
    for port in ports:
        for _ in range(20): s.sendto(begin.ljust(${TOLD}, b'x'), (to, int(port)))
`;

t.test(
  'tunnel injection: a neighbour reaches nothing at the tunnel’s address, nor learns that it is there',
  async (t) => {
    const neighbour = await world.homes.client.host('tv');
    await neighbour.ip(`route add ${INNER.ipv4}/32 via ${client.ipv4}`, `addr add ${WEB}/32 dev lo`);
    const came = await client.capture('eth0', `dst host ${INNER.ipv4}`);
    // Whatever the kernel says to it (an echo, a refused connection) goes into the tunnel, and tells that somebody is here.
    const said = await client.capture('wg-client', `icmp or tcp or src host ${neighbour.ipv4}`);
    t.equal(await pings(neighbour, INNER.ipv4, 2), 0);
    t.equal((await neighbour.run(['curl', '-sS', '-m', '1', `http://${INNER.ipv4}:9/`])).code, 28, 'no refusal either');
    await neighbour.run(['ping', '-c', '2', '-i', '0.2', '-W', '1', '-I', WEB, INNER.ipv4]);
    await neighbour.run(['curl', '-sS', '-m', '1', '--interface', WEB, `http://${INNER.ipv4}:9/`]);
    t.ok((await came.stop()).packets.length >= 5, 'it came as far as here');
    t.equal((await said.stop()).packets.length, 0, 'and no word of it went anywhere');
  },
);

t.test('ARP: who asks the LAN for the tunnel’s address gets no answer', async (t) => {
  const neighbour = await world.homes.client.host('camera');
  const asked = async (address: string) => {
    const seen = await neighbour.capture('eth0', 'arp[6:2] = 2');
    await neighbour.ip(`route replace ${address}/32 dev eth0`, `neigh flush to ${address}`);
    await neighbour.run(['ping', '-c', '2', '-i', '0.2', '-W', '1', address]);
    return (await seen.stop()).packets.length;
  };
  t.ok((await asked(client.ipv4 ?? '')) > 0, 'for the LAN address there is one');
  t.equal(await asked(INNER.ipv4), 0);
});

t.test('the exit’s own network and metadata services are out of reach', async (t) => {
  const printer = await world.homes.exit.host('printer');
  const SERVER = ['python3', '-m', 'http.server', '80', '--bind', '0.0.0.0'];
  // A cloud's metadata service is beside the machine; here the router plays it.
  await world.homes.exit.router.ip('addr add 169.254.169.254/32 dev lo');
  await exit.ip('route add 169.254.169.254/32 via 192.168.7.1');
  for (const host of [printer, exit, world.homes.exit.router]) host.spawn(SERVER);
  const fetch = (from: Host, address: string, ...more: string[]) =>
    from.run(['curl', '-sS', '-m', '1', '-o', '/dev/null', '--retry', '0', ...more, `http://${address}/`]);
  for (const address of ['169.254.169.254', printer.ipv4 ?? ''])
    for (let tries = 0; (await fetch(exit, address)).code !== 0; tries++)
      if (tries > 20) throw new Error(`${address} does not answer the exit itself`);
  const targets = [
    '169.254.169.254',
    printer.ipv4 ?? '',
    exit.ipv4 ?? '',
    '192.168.7.1',
    '127.0.0.1',
    '100.64.0.1',
    '10.1.2.3',
  ];
  const none = targets.map((one) => `dst host ${one}`).join(' or ');
  const seen = await exit.capture('any', `tcp and dst port 80 and src host not ${INNER.ipv4} and (${none})`);
  const tried = targets.filter((one) => one !== '127.0.0.1');
  const ended = await Promise.all(tried.map((address) => fetch(client, address, '--interface', INNER.ipv4)));
  t.same(
    tried.filter((_, i) => ended[i]?.code === 0),
    [],
  );
  t.equal((await seen.stop()).packets.length, 0, 'and nothing of it leaves the exit');
  t.equal((await fetch(client, WEB)).code, 0, 'while the internet is reached');
});

t.test('source address: a client is nobody but itself, for others inside and for the internet', async (t) => {
  const forged = ['10.200.0.77', '198.51.100.99', '192.168.7.99'];
  const seen = await exit.capture('any', forged.map((one) => `host ${one}`).join(' or '));
  for (const address of forged) {
    await client.ip(`addr add ${address}/32 dev wg-client`, `rule add from ${address} lookup 51820 priority 90`);
    t.equal((await client.run(['ping', '-c', '2', '-i', '0.2', '-W', '1', '-I', address, WEB])).code, 1, address);
    await client.ip(`rule del from ${address} lookup 51820 priority 90`, `addr del ${address}/32 dev wg-client`);
  }
  t.equal((await seen.stop()).packets.length, 0);
  t.equal(await pings(client, WEB, 2), 2);
});
