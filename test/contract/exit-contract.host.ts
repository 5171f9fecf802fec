import t from 'tap';
import { createLab, type Host, type Lab, type WebServer } from '../../chaos/lab/index.js';
import type { Unit } from '../../src/model/dataplane.js';
import { type HostedDataPlane, openOnHost } from '../support/namespace-dataplane.js';
import { at, cidrs, device, egress, keyPair, peer, shaper } from '../support/namespace-units.js';

// An emulated machine takes its time.
t.setTimeout(900_000);

const EXIT = '198.51.100.10';
const WEB = '198.51.100.80';
const MEGA = 1_000_000;
const NO_LIMITS = { newPerSession: 0, newInAll: 0, openPerSession: 0 };

/** Clients that come straight to an exit, and a web server that only tunnels lead to. */
interface World {
  readonly lab: Lab;
  readonly exit: Host;
  readonly clients: readonly [Host, Host];
  readonly plane: HostedDataPlane;
  readonly web: WebServer;
}

const session = (n: 0 | 1, more: object = {}) =>
  peer('wg-exit', 20 + n, { allowedIps: cidrs(`10.200.0.${2 + n}/32`, `fd7a:7670:6e64::${2 + n}/128`), ...more });

/** The web server is on the exit's own network here, as servers in a lab are: that is another test's. */
const exitUnits = (
  more: readonly Unit[] = [],
  sessions: readonly Unit[] = [session(0), session(1)],
): readonly Unit[] => [
  device('wg-exit', { listenPort: at(EXIT, 51_820).port }),
  ...(more.some((unit) => unit.kind === 'egress') ? [] : [egress('wg-exit', { forbidOnLink: false })]),
  ...more,
  ...sessions,
];

async function buildWorld(): Promise<World> {
  const lab = await createLab();
  const [exit, one, two, web] = await Promise.all([
    lab.publicHost('exit', { ipv4: EXIT }),
    lab.publicHost('one', { ipv4: '198.51.100.20' }),
    lab.publicHost('two', { ipv4: '198.51.100.21' }),
    lab.webServer('web', { ipv4: WEB }),
  ]);
  const plane = await openOnHost(exit, { owner: 'exit', engine: 'auto' });
  await plane.reconcile(exitUnits());
  for (const [n, host] of [one, two].entries()) {
    const client = await openOnHost(host, { owner: 'client', engine: 'auto' });
    await client.reconcile([
      device('wg-client', {
        privateKey: keyPair(20 + n).privateKey,
        addresses: cidrs(`10.200.0.${2 + n}/32`, `fd7a:7670:6e64::${2 + n}/128`),
      }),
      peer('wg-client', 1, { allowedIps: cidrs('0.0.0.0/0', '::/0'), endpoint: at(EXIT, 51_820) }),
    ]);
    await host.ip(`route add ${WEB}/32 dev wg-client src 10.200.0.${2 + n}`, 'route add 203.0.113.0/24 dev wg-client');
    await host.exec(['ping', '-c', '1', '-W', '5', WEB]);
  }
  web.host.spawn(['python3', '-c', SINK]);
  await web.host.exec(['python3', '-c', WAIT]);
  return { lab, exit, clients: [one, two], plane, web };
}

/** Takes what it is sent until the end, and says so. */
const SINK = `
import socket, threading
def take(c):
    while c.recv(65536): pass
    c.sendall(b'k'); c.close()
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('', 9000)); s.listen()
while True: threading.Thread(target=take, args=(s.accept()[0],)).start()
`;
const WAIT = `
import socket, time
while True:
    try: socket.create_connection(('127.0.0.1', 9000)).close(); break
    except OSError: time.sleep(0.05)
`;
const UPLOAD = `
import socket, sys, time
s = socket.create_connection(('${WEB}', 9000)); began = time.monotonic()
s.sendall(bytes(int(sys.argv[1]))); s.shutdown(socket.SHUT_WR); s.recv(1)
print(time.monotonic() - began)
`;

/** Seconds that it took. */
const download = async (from: Host, bytes: number): Promise<number> => {
  const [size, seconds] = (
    await from.exec(
      ['curl', '-sS', '-o', '/dev/null', '-w', '%{size_download} %{time_total}', `http://${WEB}/bytes/${bytes}`],
      { timeout: 60_000 },
    )
  ).split(' ');
  if (Number(size) !== bytes) throw new Error(`${size} bytes of ${bytes} came`);
  return Number(seconds);
};
const upload = async (from: Host, bytes: number): Promise<number> =>
  Number(await from.exec(['python3', '-c', UPLOAD, String(bytes)], { timeout: 60_000 }));

/** What a rate makes of so many bytes at best: no headers counted, and a burst and a queue's worth free. */
const atLeast = (bytes: number, bits: number): number => ((bytes - 150_000) * 8) / bits;

t.test('an exit’s contract, by the kernel', async (t) => {
  const world = await buildWorld();
  t.teardown(() => world.lab.close());
  const { exit, clients, plane } = world;
  const [one, two] = clients;
  const rate = 12 * MEGA;
  const bytes = 3 * MEGA;
  const figure = (what: string, seconds: number) =>
    t.comment(`${what}: ${((bytes * 8) / seconds / MEGA).toFixed(2)} Mbit/s of payload`);

  t.test('without a limit nothing holds a client back', async (t) => {
    t.ok((await download(one, bytes)) < atLeast(bytes, rate), 'or the rest of this says nothing');
    t.equal((await exit.exec(['ip', '-br', 'link', 'show', 'type', 'ifb'])).trim(), '');
  });

  t.test('all sessions together get what is lent, in each direction, and share it', async (t) => {
    t.same((await plane.reconcile(exitUnits([shaper('wg-exit', { rate })]))).repaired, ['shaper/wg-exit']);
    const down = await download(one, bytes);
    t.ok(down >= atLeast(bytes, rate), `down in ${down} s`);
    figure('one session, down', down);
    const up = await upload(one, bytes);
    t.ok(up >= atLeast(bytes, rate), `up in ${up} s`);
    figure('one session, up', up);
    const both = await Promise.all([download(one, bytes), download(two, bytes)]);
    const [first, second] = both;
    figure('two sessions, first', first);
    figure('two sessions, second', second);
    t.ok(Math.max(...both) >= atLeast(2 * bytes, rate), `both down in ${Math.max(...both)} s`);
    t.ok(Math.min(...both) >= 0.6 * Math.max(...both), 'neither had more than its share');
  });

  t.test('a session with ten connections has no more than one with one', async (t) => {
    const many = Array.from({ length: 10 }, () => download(two, bytes / 2).catch(() => 0));
    const alone = await download(one, bytes);
    // Half of the rate is its own; a tenth would be what ten connections leave it.
    t.ok(alone <= (bytes * 8) / (rate * 0.3), `alone against ten in ${alone} s`);
    await Promise.all(many);
  });

  t.test('one session gets no more than its own limit', async (t) => {
    await plane.apply({ put: [shaper('wg-exit', { rate, sessionRate: rate / 3 })] });
    const down = await download(one, bytes / 2);
    t.ok(down >= atLeast(bytes / 2, rate / 3), `down in ${down} s`);
    await plane.apply({ put: [shaper('wg-exit', { rate: 0, sessionRate: rate / 3 })] });
    t.ok((await download(two, bytes / 2)) >= atLeast(bytes / 2, rate / 3), 'where there is no other limit');
  });

  const units = exitUnits([shaper('wg-exit', { rate, sessionRate: rate / 3 })]);
  const classes = async (side = 'down') =>
    [...(await exit.exec(['tc', 'class', 'show', 'dev', `vpnd-exit-${side}`])).matchAll(/^class htb 1:(\S+)/gm)].map(
      ([, id]) => id,
    );

  t.test('sessions come and go with their classes; a crash leaves all of it in force', async (t) => {
    await plane.reconcile(units);
    t.same((await classes()).sort(), ['1', '10', '11', 'fffe']);
    const [, peerOfTwo] = units.filter((unit) => unit.kind === 'peer');
    await plane.apply({ remove: [`peer/wg-exit/${keyPair(21).publicKey}` as never] });
    t.same((await classes()).sort(), ['1', '10', 'fffe']);
    t.same((await classes('up')).sort(), ['1', '10', 'fffe']);
    await plane.apply({ put: peerOfTwo === undefined ? [] : [peerOfTwo] });
    t.same((await plane.reconcile(units)).repaired, [], 'nothing is made twice');
    const again = await openOnHost(exit, { owner: 'exit', engine: 'auto' });
    const before = await exit.exec(['tc', '-s', 'class', 'show', 'dev', 'vpnd-exit-down']);
    t.same(await again.reconcile(units), { repaired: [], removed: [] });
    const sent = (text: string) => [...text.matchAll(/Sent (\d+) bytes/g)].map(([, n]) => n);
    t.same(
      sent(await exit.exec(['tc', '-s', 'class', 'show', 'dev', 'vpnd-exit-down'])),
      sent(before),
      'it was left alone',
    );
    await again.close();
  });

  t.test('what somebody else takes away is made again', async (t) => {
    for (const vandalism of [
      'tc qdisc del dev wg-exit clsact',
      'tc filter del dev wg-exit egress',
      'tc qdisc del dev vpnd-exit-down root',
      'tc filter del dev vpnd-exit-up parent 1: protocol ip prio 10 handle 10:2:1 u32',
      'tc class change dev vpnd-exit-up parent 1: classid 1:fffe htb rate 900mbit ceil 900mbit',
      'ip link set dev vpnd-exit-up down',
      'ip link del dev vpnd-exit-down',
    ]) {
      await exit.exec(vandalism.split(' '));
      t.same((await plane.reconcile(units)).repaired, ['shaper/wg-exit'], vandalism);
      t.same((await plane.reconcile(units)).repaired, [], 'whole again');
    }
    const down = await download(one, bytes / 3);
    t.ok(down >= atLeast(bytes / 3, rate / 3), `and in force: ${down} s`);
  });

  t.test('an exit that changes devices keeps one limit for both', async (t) => {
    const second = [
      device('wg-exit-1', { privateKey: keyPair(9).privateKey, addresses: [] }),
      shaper('wg-exit-1', { rate, sessionRate: rate / 3 }),
    ];
    await plane.reconcile([...units, ...second]);
    t.match(await exit.exec(['tc', 'filter', 'show', 'dev', 'wg-exit-1', 'egress']), /to device vpnd-exit-down/);
    t.same((await plane.reconcile([...units, ...second])).repaired, []);
    t.equal((await exit.exec(['ip', '-br', 'link', 'show', 'type', 'ifb'])).trim().split('\n').length, 2);
    await plane.reconcile(units);
  });

  t.test('a limit that is taken back leaves nothing behind', async (t) => {
    await plane.apply({ remove: ['shaper/wg-exit' as never] });
    t.equal((await exit.exec(['ip', '-br', 'link', 'show', 'type', 'ifb'])).trim(), '');
    t.notMatch(await exit.exec(['tc', 'qdisc', 'show', 'dev', 'wg-exit']), /clsact|htb/);
    t.ok((await download(one, bytes)) < atLeast(bytes, rate));
  });

  t.test('what is refused is counted by what it was, and the counts outlive a change of the rules', async (t) => {
    // As WireGuard lets nobody's address but a session's own through, one with too many plays the forger here.
    const forger = session(0, { allowedIps: cidrs('10.200.0.2/32', '203.0.113.0/24') });
    await plane.reconcile(exitUnits([], [forger, session(1)]));
    const before = (await plane.observeEgress()).refused;
    await one.ip('addr add 203.0.113.9/32 dev wg-client');
    const seen = await exit.capture('eth0', 'host 203.0.113.9');
    await one.run(['ping', '-c', '2', '-i', '0.2', '-W', '1', '-I', '203.0.113.9', WEB]);
    t.equal((await seen.stop()).packets.length, 0);
    t.equal((await plane.observeEgress()).refused.source, before.source + 2);
    await plane.reconcile(
      exitUnits(
        [egress('wg-exit', { forbidOnLink: false, forbidden: cidrs('198.51.100.80/32') })],
        [forger, session(1)],
      ),
    );
    t.equal((await plane.observeEgress()).refused.source, before.source + 2, 'the rules are others now');
    t.not((await one.run(['ping', '-c', '1', '-W', '1', WEB])).code, 0, 'what the owner forbids is not reached');
    t.equal((await plane.observeEgress()).refused['own-network'], before['own-network'] + 1);
  });

  t.test('addresses and networks of the exit are refused as it gets them, with no word from anybody', async (t) => {
    const strict = [egress('wg-exit')];
    const refused = async () => (await plane.observeEgress()).refused['own-network'];
    await plane.reconcile(exitUnits(strict));
    t.same((await plane.observeEgress()).onLink, ['198.51.100.0/24']);
    t.not((await one.run(['ping', '-c', '1', '-W', '1', WEB])).code, 0, 'its neighbour');
    const before = await refused();
    await exit.ip('addr add 203.0.113.66/32 dev lo');
    const seen = await exit.capture('wg-exit', 'src 203.0.113.66');
    await one.run(['ping', '-c', '1', '-W', '1', '203.0.113.66']);
    t.equal((await seen.stop()).packets.length, 0, 'an address that it was given a moment ago');
    t.equal(await refused(), before + 1);
    await exit.ip('link add other type bridge', 'link set other up', 'addr add 203.0.113.129/25 dev other');
    t.same((await plane.reconcile(exitUnits(strict))).repaired, [], 'it follows, and nobody had changed its rules');
    t.same((await plane.observeEgress()).onLink, ['198.51.100.0/24', '203.0.113.128/25']);
  });

  t.test('connections are limited in number and in rate, each session on its own', async (t) => {
    const limits = { newPerSession: 10, newInAll: 0, openPerSession: 30 };
    await plane.reconcile(exitUnits([egress('wg-exit', { forbidOnLink: false, limits })]));
    await exit.conntrackFlush();
    const before = (await plane.observeEgress()).refused;
    await one.exec(['python3', '-c', FLOOD]);
    t.equal(await exit.conntrackCount(['-s', '10.200.0.2']), 30);
    const { refused } = await plane.observeEgress();
    // Ten seconds' worth at once, and what a slow flood earns while it lasts.
    const tooFast = refused['new-connections'] - before['new-connections'];
    t.ok(tooFast > 100 && tooFast <= 300, `${tooFast} of 400 came too fast`);
    t.ok(refused['open-connections'] - before['open-connections'] >= 50, 'the others were too many');
    await download(two, 1000);
    t.same((await plane.observeEgress()).refused, refused, 'and somebody else has his own');
    await plane.reconcile(
      exitUnits([egress('wg-exit', { forbidOnLink: false, limits: { ...NO_LIMITS, newInAll: 5 } })]),
    );
    await exit.conntrackFlush();
    await two.exec(['python3', '-c', FLOOD]);
    const passed = await exit.conntrackCount(['-s', '10.200.0.3']);
    t.ok(passed >= 50 && passed < 200, `${passed} of 400 passed the limit for all`);
  });

  t.test('a flow that nobody answers is one connection, however many packets it has', async (t) => {
    const limits = { newPerSession: 1, newInAll: 1, openPerSession: 3 };
    await plane.reconcile(exitUnits([egress('wg-exit', { forbidOnLink: false, limits })]));
    await exit.conntrackFlush();
    const seen = await exit.capture('eth0', `udp and dst host ${WEB} and dst port 9`);
    await one.exec(['python3', '-c', ONE_WAY]);
    t.equal((await seen.stop()).packets.length, 200);
  });
});

const FLOOD = `
import socket
for n in range(400):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('${WEB}', 9)); s.close()
`;
const ONE_WAY = `
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for n in range(200):
    s.sendto(b'x', ('${WEB}', 9)); time.sleep(0.002)
time.sleep(0.3)
`;
