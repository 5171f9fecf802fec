import t from 'tap';
import { ADDRESSES, Overlay, OverlayNode } from '../../chaos/overlay/index.js';
import { kernelResidue } from '../support/overlay-checks.js';

t.setTimeout(600_000);

interface Contract {
  readonly open: boolean;
  readonly sessions: number;
  readonly refused: Readonly<Record<string, string>>;
  readonly toClientsToday: string;
  readonly ownNetworks: readonly string[];
}

const MBPS = 16;
/** What nobody behind this exit may get to, by IPv4 and IPv6. */
const SPECIAL = [
  ...['10.1.2.3', '100.64.0.1', '169.254.169.254', '172.16.0.1', '192.0.0.1', '192.168.77.1', '198.18.0.1'],
  ...['0.1.2.3', '224.0.1.251', '240.0.0.1', '64:ff9b::a00:1', '::10.0.0.1', 'fd00::1', 'fec0::1', 'ff0e::fb'],
  // Private IPv4 addresses inside of others.
  ...['64:ff9b:1::c0a8:101', '2002:c0a8:101::1', '2001:0:4136::1'],
];
/** The exit's router, its own addresses and somebody else in its home, who has public IPv6 as everybody there. */
const HOME = {
  special: ['192.168.1.1', '192.168.1.2', '192.168.1.3'],
  own: ['2001:db8:1::1', '2001:db8:1::2', '2001:db8:1::3', '2001:db8:1:7::1'],
};
const EXIT = ['192.168.1.2', '2001:db8:1::2'];
const FORBIDDEN = '198.51.100.81';

t.test('what the owner of an exit is promised', async (t) => {
  const limits = ['--max-mbps', `${MBPS}`, '--max-connections', '40', '--max-new-connections', '20'];
  const overlay = await Overlay.start({
    exitIpv6: true,
    clientIpv6: true,
    exitArgs: [...limits, '--forbid', FORBIDDEN],
    clientArgs: ['--privacy', 'private', '--standby', 'off'],
  });
  t.teardown(() => overlay.close());
  const { exit, client, web, lab, exitHome, clientHome } = overlay;
  const [otherHost, printer] = await Promise.all([clientHome.host('other'), exitHome.host('printer')]);
  await lab.publicHost('forbidden', { ipv4: FORBIDDEN });
  printer.spawn(['python3', '-m', 'http.server', '80', '--bind', '::']);
  const other = new OverlayNode('other', otherHost, 'client', ['--privacy', 'private', '--standby', 'off']);
  await other.start({ token: await overlay.token('client', 'eu') });
  for (const one of [client, other]) t.equal((await one.cli('up', '--region', 'us')).code, 0);
  const [session] = (
    await client.json<{ sessions: { innerIpv4: string; innerIpv6: string; device: string }[] }>('status')
  ).sessions;
  if (session === undefined) throw new Error('there is no session');
  const contract = () => exit.json<Contract>('exit', 'status');
  const refused = async (kind: string) => Number((await contract()).refused[kind]);

  await t.test('of all the addresses that are nobody’s business not one is reached', async (t) => {
    const before = (await contract()).refused;
    const everywhere = [...SPECIAL, ...HOME.special, ...HOME.own, FORBIDDEN];
    // What comes to the exit itself is headed for its own addresses, too: its streams.
    const others = everywhere.filter((ip) => !EXIT.includes(ip));
    const none = others.map((ip) => `dst host ${ip}`).join(' or ');
    const onTheWire = 'icmp or icmp6[0] = 128 or tcp or (udp and not port 51820)';
    const seen = await exit.host.capture('eth0', `(${none}) and (${onTheWire})`);
    const ping = (ip: string) => {
      const from = ip.includes(':') ? session.innerIpv6 : session.innerIpv4;
      return client.host.run(['ping', '-n', '-c', '2', '-i', '0.2', '-W', '1', '-I', from, ip]);
    };
    for (const results of [await Promise.all(everywhere.map(ping))]) {
      t.same(
        everywhere.filter((_, i) => results[i]?.code === 0),
        [],
      );
    }
    const curl = (url: string) => client.host.run(['curl', '-gsS', '-m', '1', '--interface', session.innerIpv4, url]);
    t.not((await curl('http://192.168.1.3/')).code, 0);
    t.not(
      (await client.host.run(['curl', '-gsS', '-m', '1', '--interface', session.innerIpv6, 'http://[2001:db8:1::3]/']))
        .code,
      0,
    );
    t.not((await curl(`telnet://${ADDRESSES.web}:25`)).code, 0);
    t.same((await seen.stop()).except(), [], 'no packet of theirs left the exit');
    const after = (await contract()).refused;
    const more = (kind: string) => Number(after[kind]) - Number(before[kind]);
    // The client's own kernel sends nothing to some of them, whatever its routes say: 0/8, 240/4, multicast from elsewhere.
    t.ok(more('special-address') >= 2 * (SPECIAL.length - 4), `${more('special-address')} to special addresses`);
    t.ok(more('own-network') >= 2 * (HOME.own.length + 1), `${more('own-network')} to the exit’s own networks`);
    t.ok(more('mail') >= 1);
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'what is public is reached');
    t.match(await overlay.seenIp(`${web.url6}/`), /^2001:db8:(1:)?:/);
  });

  await t.test('another client is not reached, and nobody uses an address that is not his', async (t) => {
    const theirs = (await other.json<{ sessions: { innerIpv4: string }[] }>('status')).sessions[0]?.innerIpv4 ?? '';
    const before = await refused('other-client');
    t.not((await client.host.run(['ping', '-c', '1', '-W', '1', '-I', session.innerIpv4, theirs])).code, 0);
    t.ok((await refused('other-client')) > before);
    const seen = await exit.host.capture('any', `src host ${theirs} and icmp`);
    await client.host.ip(`addr add ${theirs}/32 dev ${session.device}`);
    const forged = ['ping', '-c', '2', '-i', '0.2', '-W', '1', '-I', theirs, ADDRESSES.web];
    await client.host.ip(`rule add from ${theirs} lookup 51820 priority 90`);
    const sourceBefore = await refused('source');
    t.not((await client.host.run(forged)).code, 0);
    t.equal((await seen.stop()).packets.length, 0, 'WireGuard takes a key’s own addresses and no others');
    const { dataplane } = await exit.json<{ dataplane: string }>('status');
    // wireguard-go tells nobody how often it refused.
    if (dataplane === 'kernel') t.ok((await refused('source')) > sourceBefore);
    await client.host.ip(`rule del from ${theirs} lookup 51820 priority 90`);
    // The daemon may have found it first.
    await client.host.run(['ip', 'addr', 'del', `${theirs}/32`, 'dev', session.device]);
  });

  await t.test('a flood of connections is held, and somebody else does not notice', async (t) => {
    const before = (await contract()).refused;
    const flood = client.host.exec(['python3', '-c', FLOOD]);
    const [page] = await Promise.all([
      otherHost.exec([
        'curl',
        '-sS',
        '-m',
        '10',
        `${web.url}/bytes/100000`,
        '-o',
        '/dev/null',
        '-w',
        '%{size_download}',
      ]),
      flood,
    ]);
    t.equal(page, '100000', 'while it goes on');
    t.ok((await exit.host.conntrackCount(['-s', session.innerIpv4])) <= 2 * 40, 'the table of connections');
    const after = (await contract()).refused;
    const more = (kind: string) => Number(after[kind]) - Number(before[kind]);
    t.ok(more('new-connections') >= 300, `${more('new-connections')} came too fast`);
    t.ok(more('open-connections') >= 50, `${more('open-connections')} were too many`);
    t.equal(
      await otherHost.exec(['curl', '-sS', '-m', '10', '-o', '/dev/null', '-w', '%{http_code}', `${web.url}/`]),
      '200',
    );
  });

  await t.test('the line is lent up to what was said', async (t) => {
    const bytes = 3_000_000;
    const before = Number((await contract()).toClientsToday);
    const seconds = Number(
      await otherHost.exec(
        ['curl', '-sS', '-m', '60', '-o', '/dev/null', '-w', '%{time_total}', `${web.url}/bytes/${bytes}`],
        { timeout: 90_000 },
      ),
    );
    t.ok(seconds >= ((bytes - 150_000) * 8) / (MBPS * 1e6), `${bytes} bytes in ${seconds} s`);
    t.ok(Number((await contract()).toClientsToday) - before >= bytes, 'and it is in the day’s figures');
  });

  await t.test('vpnd exit status shows all of it', async (t) => {
    const { stdout } = await exit.cli('exit', 'status');
    t.match(stdout, /^exit \S+, region us: open\n/);
    t.match(stdout, /bandwidth +16 Mbit\/s, shared evenly, in each direction/);
    t.match(stdout, /sessions +1000 at a time, 2 now/);
    t.match(stdout, /connections +40 open, 20 new a second, each session; 200 new a second in all/);
    t.match(stdout, /its networks +2001:db8:1::\/56/);
    t.match(stdout, /forbidden +198\.51\.100\.81\/32/);
    t.match(stdout, /special +.*169\.254\.0\.0\/16 .*fc00::\/7/);
    t.match(stdout, /^ +\d+ +to port 25 \(mail\)$/m);
    for (const [, about] of Object.entries({ home: ADDRESSES.clientHome, inner: session.innerIpv4 })) {
      t.notMatch(stdout, about, 'and not who it was');
    }
    const metrics = await exit.host.exec(['curl', '-sS', 'http://127.0.0.1:9472/metrics']);
    t.match(metrics, /^vpnd_exit_violations_total\{kind="own-network"\} [1-9]/m);
    t.notMatch(metrics, session.innerIpv4);
    t.notMatch(exit.process.lines('stderr').join('\n'), /169\.254\.169\.254|2001:db8:1::3/, 'no log says where to');
  });

  await t.test('a pause puts nobody out at once, and can be taken back', async (t) => {
    t.match(
      (await exit.cli('exit', 'pause', '--for', '1h')).stdout,
      /: closed: its owner has paused it; open again at /,
    );
    t.equal((await contract()).sessions, 2);
    // Not by the one whose flood still has all the connections that it may have.
    const page = await otherHost.exec(['curl', '-sS', '-m', '10', `${web.url}/`]);
    t.match(JSON.parse(page), { ip: ADDRESSES.exitHome }, 'there is no other exit, so it stays for now');
    t.match((await exit.cli('exit', 'resume')).stdout, /region us: open\n/);
  });

  await t.test('nothing is left of it when the exit stops', async (t) => {
    for (const one of [client, other]) await one.cli('down');
    await exit.stop();
    t.same(await kernelResidue(exit), []);
  });
});

const FLOOD = `
import socket, time
for n in range(600):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b'x', ('${ADDRESSES.web}', 9)); s.close()
    time.sleep(0.001)
`;
