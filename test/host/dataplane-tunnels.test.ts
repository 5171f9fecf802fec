import t, { type Test } from 'tap';
import { createLab, type Host, type Lab, type PacketSummary, type WebServer } from '../../chaos/lab/index.js';
import type { InterfaceName, TunnelUse, Unit, UnitId } from '../../src/model/dataplane.js';
import { type HostedDataPlane, openOnHost } from '../support/namespace-dataplane.js';
import { pings, pingsUntilHeard } from '../support/namespace-path.js';
import { at, cidrs, device, egress, fullTunnel, ip, keyPair, peer, port } from '../support/namespace-units.js';

t.setTimeout(400_000);

const EXITS = ['198.51.100.1', '198.51.100.2'] as const;
const NAMES = ['wg-client', 'wg-client-1'] as const;
const INNER = ['10.200.0.2', '10.200.0.3'] as const;
const INNER6 = ['fd7a:7670:6e64::2', 'fd7a:7670:6e64::3'] as const;
const TABLES = [52_000, 52_001] as const;
/** What its own network sees of a client beside its tunnels, and nothing else may be seen there. What exits send is theirs. */
const NEIGHBOURS = 'icmp6 and ip6[40] >= 133 and ip6[40] <= 137';
const OUTSIDE = `not arp and not ip6 multicast and not host 192.168.1.1 and not (${NEIGHBOURS}) and not udp src port 51820`;

type Slot = 0 | 1;

interface World {
  readonly lab: Lab;
  readonly client: Host;
  readonly exits: readonly [Host, Host];
  readonly web: WebServer;
  readonly plane: HostedDataPlane;
}

/** A client at home with a tunnel to each of two public exits. */
async function world(t: Test, ipv6: 'tunnel' | 'block' = 'tunnel'): Promise<World> {
  const lab = await createLab();
  t.teardown(() => lab.close());
  const [home, x, y, web] = await Promise.all([
    lab.home('client', { nat: 'port-preserving', publicIpv4: '198.51.100.20', ipv6: '2001:db8:20::/64' }),
    lab.publicHost('x', { ipv4: EXITS[0], ipv6: '2001:db8::1' }),
    lab.publicHost('y', { ipv4: EXITS[1], ipv6: '2001:db8::2' }),
    lab.webServer('web', { ipv4: '198.51.100.80', ipv6: '2001:db8::80' }),
  ]);
  const client = await home.host('laptop');
  await client.sysctl('net.ipv4.conf.all.rp_filter=1');
  for (const [slot, on] of [x, y].entries()) {
    const plane = await openOnHost(on, { owner: 'exit', engine: 'auto' });
    await plane.reconcile(exitUnits(slot as Slot));
  }
  const plane = await openOnHost(client, { owner: 'client', engine: 'auto' });
  await plane.reconcile([...ends(0), ...ends(1), ...uses('active', 'standby', ipv6)]);
  await pingsUntilHeard(client, web.host.ipv4 ?? '');
  // Both are handshaked: what is bound to a standby's address goes by it.
  await client.exec(['ping', '-c', '1', '-W', '5', '-I', INNER[1], web.host.ipv4 ?? '']);
  if (ipv6 === 'tunnel') await client.exec(['ping', '-c', '1', '-W', '5', '-I', INNER6[1], web.host.ipv6 ?? '']);
  return { lab, client, exits: [x, y], web, plane };
}

const exitUnits = (slot: Slot): readonly Unit[] => [
  device('wg-exit', { privateKey: keyPair(20 + slot).privateKey, listenPort: port(51_820) }),
  // Its clients ask a web server on its own network.
  egress('wg-exit', { forbidOnLink: false }),
  peer('wg-exit', 0, {
    publicKey: keyPair(30 + slot).publicKey,
    allowedIps: cidrs(`${INNER[slot]}/32`, `${INNER6[slot]}/128`),
  }),
];

const ends = (slot: Slot): readonly Unit[] => [
  device(NAMES[slot], {
    privateKey: keyPair(30 + slot).privateKey,
    addresses: cidrs(`${INNER[slot]}/32`, `${INNER6[slot]}/128`),
  }),
  peer(NAMES[slot], 0, {
    publicKey: keyPair(20 + slot).publicKey,
    allowedIps: cidrs('0.0.0.0/0', '::/0'),
    endpoint: at(EXITS[slot], 51_820),
    keepalive: 25,
  }),
];

const use = (slot: Slot, what: TunnelUse, ipv6: 'tunnel' | 'block' = 'tunnel'): Unit =>
  fullTunnel(NAMES[slot], {
    use: what,
    table: TABLES[slot],
    sources: [ip(INNER[slot]), ip(INNER6[slot])],
    exempt: [{ protocol: 'udp', endpoint: at(EXITS[slot], 51_820) }],
    ipv6,
  });

const uses = (first: TunnelUse, second: TunnelUse, ipv6: 'tunnel' | 'block' = 'tunnel'): readonly Unit[] => [
  use(0, first, ipv6),
  use(1, second, ipv6),
];

const gone = (slot: Slot): readonly UnitId[] =>
  [`full-tunnel/${NAMES[slot]}`, `device/${NAMES[slot]}`].map((id) => id as UnitId);

const seenFrom = async ({ client, web }: World): Promise<string> =>
  JSON.parse(await client.exec(['curl', '-sS', '-m', '5', web.url])).ip;

t.test('changing the active tunnel loses and leaks nothing', async (t) => {
  const w = await world(t);
  const { client, plane, web } = w;
  const leaks = await client.capture('eth0', OUTSIDE);
  const [web4 = '', web6 = ''] = [web.host.ipv4, web.host.ipv6];

  await t.test('to and fro under a hundred packets a second, of either family', async (t) => {
    t.equal(await seenFrom(w), EXITS[0]);
    const running = Promise.all([pings(client, web4, 400, 0.01), pings(client, web6, 400, 0.01)]);
    for (let round = 0; round < 6; round++) {
      await plane.apply({ put: uses('retiring', 'active') });
      await plane.apply({ put: uses('active', 'retiring') });
    }
    t.same(await running, [400, 400]);
  });

  await t.test('to and fro under as many packets as one program can send', async (t) => {
    // A moment without a rule lasts microseconds: only this many packets would find it.
    const flood = [web4, web6].map((to) => client.spawn(['python3', '-c', FLOOD, to]));
    await Promise.all(flood.map((one) => one.waitForLine(/flooding/, 10_000)));
    for (let round = 0; round < 12; round++) {
      await plane.apply({ put: uses('retiring', 'active') });
      await plane.apply({ put: uses('active', 'retiring') });
    }
    const ended = await Promise.all(flood.map((one) => one.stop()));
    t.ok(
      ended.every((one) => one.signal === 'SIGTERM'),
      'no packet was refused either',
    );
    await pingsUntilHeard(client, web4);
  });

  await t.test('a download stays on the exit it began with, what is new takes the other', async (t) => {
    const download = client.exec([
      'curl',
      '-sS',
      '-m',
      '30',
      `${web.url}/drip/2000000/3`,
      '-o',
      '/dev/null',
      '-w',
      '%{size_download} %{local_ip}',
    ]);
    await new Promise((resolve) => setTimeout(resolve, 500));
    await plane.apply({ put: uses('retiring', 'active') });
    t.equal(await seenFrom(w), EXITS[1]);
    t.equal(await download, `2000000 ${INNER[0]}`);
    t.same(await plane.reconcile([...ends(0), ...ends(1), ...uses('retiring', 'active')]), {
      repaired: [],
      removed: [],
    });
  });

  await t.test('a retired tunnel leaves nothing behind', async (t) => {
    const running = pings(client, web4, 100, 0.01);
    await plane.apply({ remove: gone(0) });
    t.equal(await running, 100);
    t.notMatch((await plane.inventory()).join('\n'), /52000|wg-client\b(?!-)|10\.200\.0\.2\b/);
    t.notMatch(await client.exec(['ip', 'rule']), '52000');
    t.equal((await client.exec(['ip', 'route', 'show', 'table', '52000']).catch(() => '')).trim(), '');
    // And one that comes while another is active: its own packets must not go through that one.
    const nested = await client.capture('wg-client-1', 'udp dst port 51820');
    await plane.apply({ put: [...ends(0), ...uses('standby', 'active')] });
    t.equal(await seenFrom(w), EXITS[1]);
    await client.exec(['ping', '-c', '3', '-i', '0.2', '-W', '5', '-I', INNER[0], web4]);
    t.equal((await nested.stop()).packets.length, 0);
  });

  await t.test('what is exempt stays where it is', async (t) => {
    const routes = await client.exec(['ip', 'route', 'get', EXITS[0], 'ipproto', 'udp', 'dport', '51820']);
    t.match(routes, /via 192\.168\.1\.1 dev eth0/);
  });

  await t.test('packets are counted tunnel by tunnel', async (t) => {
    await plane.apply({ put: uses('active', 'standby') });
    const before = await Promise.all(NAMES.map((device) => plane.trafficOf(device as InterfaceName)));
    t.equal(await pings(client, web4, 10, 0.02), 10);
    const after = await Promise.all(NAMES.map((device) => plane.trafficOf(device as InterfaceName)));
    const more = after.map((one, i) => ({
      rx: (one?.rxPackets ?? 0) - (before[i]?.rxPackets ?? 0),
      tx: (one?.txPackets ?? 0) - (before[i]?.txPackets ?? 0),
    }));
    t.ok((more[0]?.rx ?? 0) >= 10 && (more[0]?.tx ?? 0) >= 10, JSON.stringify(more));
    t.ok((more[1]?.rx ?? 9) < 10 && (more[1]?.tx ?? 9) < 10, JSON.stringify(more));
  });

  t.same(outsideTunnels(await leaks.stop()), []);
});

t.test('where no tunnel is active, traffic is held', async (t) => {
  const w = await world(t);
  const { client, plane, web } = w;
  const leaks = await client.capture('eth0', OUTSIDE);
  for (const [first, second] of [
    ['standby', 'standby'],
    ['dead', 'dead'],
    ['retiring', 'standby'],
  ] as const) {
    await plane.apply({ put: uses(first, second) });
    t.match((await client.run(['ping', '-c', '1', '-W', '1', web.host.ipv4 ?? ''])).stderr, /unreachable/i);
    t.equal(await pings(client, web.host.ipv6 ?? '', 1), 0);
    t.same((await plane.reconcile([...ends(0), ...ends(1), ...uses(first, second)])).repaired, []);
  }
  await plane.apply({ put: uses('standby', 'active') });
  t.equal(await seenFrom(w), EXITS[1]);
  t.same(outsideTunnels(await leaks.stop()), []);
});

t.test('IPv6 that an exit has not is blocked, whichever is active', async (t) => {
  const w = await world(t, 'block');
  const { client, plane, web } = w;
  const leaks = await client.capture('eth0', `ip6 and ${OUTSIDE}`);
  const running = Promise.all([
    pings(client, web.host.ipv4 ?? '', 200, 0.01),
    pings(client, web.host.ipv6 ?? '', 200, 0.01),
  ]);
  for (let round = 0; round < 4; round++) {
    await plane.apply({ put: uses('retiring', 'active', 'block') });
    await plane.apply({ put: uses('active', 'retiring', 'block') });
  }
  t.same(await running, [200, 0]);
  t.same(outsideTunnels(await leaks.stop()), []);
});

/** All of it, pings too: `except` takes those for background. */
const outsideTunnels = ({ packets }: PacketSummary): readonly string[] =>
  packets.filter(({ kind }) => kind !== 'wireguard').map(({ kind, packet }) => `${kind} to ${packet.ip?.to}`);

const FLOOD = `
import socket, sys, time
s = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
print('flooding', flush=True)
# A thousand a second: what a recording bears on a busy machine.
while True:
    for n in range(5): s.sendto(b'x', (sys.argv[1], 9))
    time.sleep(0.005)
`;

/** Sends a byte now and then, or only listens, and says how the connection ended. */
const TALKER = `
import socket, sys, time
target, local, pause = sys.argv[1], sys.argv[2], float(sys.argv[3])
s = socket.create_connection((target, 9000), 5, (local, 0)); s.settimeout(None)
print('open', flush=True)
try:
    while True:
        if pause: s.send(b'x'); time.sleep(pause)
        elif not s.recv(1): print('end', flush=True); break
except OSError as e:
    print(type(e).__name__, flush=True)
`;

/** Takes what it is sent, and never says or ends anything. */
const LISTENER = `
import socket, threading
def take(c):
    while c.recv(65536): pass
s = socket.create_server(('::', 9000), family=socket.AF_INET6, dualstack_ipv6=True)
print('listening', flush=True)
while True: threading.Thread(target=take, args=(s.accept()[0],), daemon=True).start()
`;

t.test('connections of a dead tunnel are reset at once', async (t) => {
  const w = await world(t);
  const { client, exits, plane, web } = w;
  await web.host.spawn(['python3', '-c', LISTENER]).waitForLine(/listening/);
  const talk = async (target: string, local: string, pause: number) => {
    const talker = client.spawn(['python3', '-c', TALKER, target, local, String(pause)]);
    await talker.waitForLine(/open/, 10_000);
    return talker;
  };
  const [web4 = '', web6 = ''] = [web.host.ipv4, web.host.ipv6];
  const sending = await Promise.all([talk(web4, INNER[0], 0.05), talk(web6, INNER6[0], 0.05)]);
  const idle = await Promise.all([talk(web4, INNER[0], 0), talk(web6, INNER6[0], 0)]);
  const other = await talk(web4, INNER[1], 0.05);
  // The exit freezes: nothing is closed, nothing answers.
  await exits[0].nft('table inet frozen { chain in { type filter hook prerouting priority -400; drop; }; }');
  await plane.apply({ put: uses('dead', 'active') });
  // Left alone, they would retry for a quarter of an hour (tcp_retries2).
  await Promise.all(sending.map((one) => one.waitForLine(/ConnectionResetError|BrokenPipeError/, 20_000)));
  t.ok(
    idle.every((one) => one.running),
    'those that only listen do not know yet',
  );
  await plane.resetConnections([ip(INNER[0]), ip(INNER6[0])]);
  await Promise.all(idle.map((one) => one.waitForLine(/Connection\w*Error/, 20_000)));
  t.ok(other.running, 'and no other connection');
  t.equal(await seenFrom(w), EXITS[1], 'new ones go by the other tunnel');
  const late = await client.run(['ping', '-c', '1', '-W', '2', '-I', INNER[0], web4]);
  t.not(late.code, 0);
  t.match(`${late.stdout}${late.stderr}`, /unreachable|not permitted/i, 'what is still bound to it is told at once');
});
