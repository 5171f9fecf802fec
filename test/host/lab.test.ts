import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createLab, exchangeDatagrams, type Home, type Lab, type WebServer } from '../../chaos/lab/index.js';
import { patternAt } from '../../chaos/lab/pattern.js';

const WEB = { ipv4: '198.51.100.80', ipv6: '2001:db8::80' };
const OTHER = '198.51.100.90';

function namespaces(): string[] {
  return execFileSync('ip', ['netns', 'list'], { encoding: 'utf8' })
    .split('\n')
    .map((line) => line.split(' ')[0] ?? '');
}

function belongingTo(name: string): string[] {
  return namespaces().filter((namespace) => namespace.startsWith(`${name}-`));
}

/** A dead process that nobody has waited for yet has no command line any more. */
function runs(pid: number): boolean {
  return existsSync(`/proc/${pid}`) && readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== '';
}

/** The outer ports that a home's one inner port is mapped to, for each of two destinations. */
async function mappedPorts(lab: Lab, home: Home, from: number): Promise<number[]> {
  const host = lab.hosts.find((each) => each.ipv4 === '192.168.1.2');
  if (!host) throw new Error('the home has no host yet');
  const to = [WEB.ipv4, OTHER].map((ip) => ({ ip, port: 3478 }));
  const answers = await exchangeDatagrams(host, { from, to, answers: 2, forMs: 5000 });
  for (const { text } of answers) t.equal(JSON.parse(text).ip, home.publicIpv4, 'the inner address is hidden');
  return answers.map(({ text }) => JSON.parse(text).port);
}

async function twoServers(lab: Lab): Promise<WebServer> {
  const [web] = await Promise.all([lab.webServer('web', WEB), lab.webServer('other', { ipv4: OTHER })]);
  return web;
}

t.test('public hosts', async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.close());
  const [web, client] = await Promise.all([
    lab.webServer('web', WEB),
    lab.publicHost('client', { ipv4: '198.51.100.1', ipv6: '2001:db8::1' }),
  ]);

  t.test('a web server tells its clients who they are, over IPv4 and IPv6', async (t) => {
    t.match(JSON.parse(await client.exec(['curl', '-sS', web.url])), { ip: '198.51.100.1', port: Number });
    t.match(JSON.parse(await client.exec(['curl', '-sS', '-g', web.url6])), { ip: '2001:db8::1', port: Number });
    t.match(web.requests(), [{ ip: '198.51.100.1', path: '/' }, { ip: '2001:db8::1' }]);
  });

  t.test('downloads have the size that was asked for', async (t) => {
    for (const path of ['/bytes/200000', '/drip/3001/1']) {
      const got = await client.exec(['curl', '-sS', '-o', '/dev/null', '-w', '%{size_download}', `${web.url}${path}`]);
      t.equal(got, path.split('/')[2]);
    }
    const size = 2_500_000;
    const saved = join(client.directory, 'saved');
    await client.exec(['curl', '-sS', '-o', saved, `${web.url}/bytes/${size}`]);
    const bytes = readFileSync(saved);
    for (let at = 0; at < size; at += 100_000) t.ok(bytes.subarray(at, at + 100_000).equals(patternAt(at, 100_000)));
  });

  t.test('a recording tells plain text by its content', async (t) => {
    const capture = await client.capture('eth0');
    await client.exec(['curl', '-sS', `${web.url}/canary-4711`]);
    await exchangeDatagrams(client, { from: 40000, to: [{ ip: WEB.ipv4, port: 3478 }], answers: 1 });
    const seen = await capture.stop();
    t.match(seen.byKind, { tcp: 2, udp: 2 });
    t.ok(seen.tcpPorts.has(80) && seen.udpPorts.has(3478));
    t.equal(seen.containing('canary-4711'), 1);
    t.equal(seen.except('wireguard', 'tls').length, 4);
    t.match(seen.except('wireguard', 'tls'), [/^tcp 198\.51\.100\.1 port \d+ > 198\.51\.100\.80 port 80/]);
  });

  t.test('each host has a WireGuard socket directory and a resolv.conf of its own', async (t) => {
    await client.exec(['touch', '/var/run/wireguard/mark']);
    await client.exec(['sh', '-c', 'echo nameserver 192.0.2.1 >/etc/resolv.conf']);
    t.equal((await client.exec(['ls', '/run/wireguard'])).trim(), 'mark');
    t.equal(await web.host.exec(['ls', '/run/wireguard']), '');
    t.equal(await web.host.exec(['cat', '/etc/resolv.conf']), '');
    t.notOk(existsSync('/run/wireguard/mark'), 'nor does this machine see it');
  });

  t.test('a process keeps its working directory and its environment, and ends when told', async (t) => {
    const shell = client.spawn(['sh', '-c', 'echo "$PWD $COLOUR"; echo oops >&2; exec sleep 60'], {
      cwd: '/usr',
      env: { COLOUR: 'red' },
    });
    await shell.waitForLine(/^\/usr red$/);
    await shell.waitForLine(/^oops$/);
    t.ok(client.pids().includes(shell.pid));
    await t.rejects(shell.waitForLine(/never/, 10), /ran 10 ms before a line matched .*oops/s);
    shell.kill();
    t.same(await shell.exited, { code: undefined, signal: 'SIGTERM' });
    await t.rejects(shell.waitForLine(/never/), /ended \(SIGTERM\)/);
    t.notOk(shell.running);
  });

  t.test('commands answer with their output and how they ended', async (t) => {
    t.same(await client.run(['cat'], { stdin: 'word' }), { code: 0, stdout: 'word', stderr: '' });
    t.match(await client.run(['sh', '-c', 'echo no >&2; exit 3']), { code: 3, stderr: 'no\n' });
    t.match(await client.run(['sleep', '60'], { timeout: 20 }), { code: 124 });
    t.match(await client.run(['no-such-program']), { code: 127, stderr: /no-such-program/ });
    await t.rejects(client.exec(['sh', '-c', 'echo no >&2; exit 3']), /exit code 3: no$/);
  });

  t.test('a link that is down carries nothing', async (t) => {
    await web.host.linkDown();
    t.not((await client.run(['ping', '-nc1', '-W1', WEB.ipv4])).code, 0);
    await web.host.linkUp();
    t.equal((await client.run(['ping', '-nc1', '-W5', WEB.ipv4])).code, 0);
  });

  t.test('packets are delayed, or the reason is said', async (t) => {
    const set = await client.run(['tc', 'qdisc', 'add', 'dev', 'lo', 'root', 'netem', 'delay', '1ms']);
    if (set.code !== 0) {
      await t.rejects(client.delay(50), /cannot delay packets.*make kernel/s);
      return;
    }
    await client.delay(200);
    const ping = await client.exec(['ping', '-nc3', '-W5', WEB.ipv4]);
    t.ok(Number(/min\/avg\/max\/mdev = ([\d.]+)/.exec(ping)?.[1]) >= 200, 'a round trip takes that long');
    await client.delay(0);
  });
});

t.test('a port-preserving router', async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.close());
  await twoServers(lab);
  const home = await lab.home('home', {
    nat: 'port-preserving',
    publicIpv4: '198.51.100.10',
    ipv6: '2001:db8:1::/64',
  });
  const inner = await home.host('inner');
  const stranger = await lab.publicHost('stranger', { ipv4: '198.51.100.66', ipv6: '2001:db8::66' });

  t.same(await mappedPorts(lab, home, 51820), [51820, 51820], 'keeps the port, for every destination');

  const knock = (ip: string) =>
    Promise.all([
      exchangeDatagrams(inner, { from: 51820, to: [{ ip: WEB.ipv4, port: 9 }], forMs: 1500 }),
      exchangeDatagrams(stranger, { from: 7, to: [{ ip, port: 51820 }], forMs: 1000 }),
    ]).then(([heard]) => heard.filter((datagram) => datagram.ip !== WEB.ipv4));
  t.same(await knock('198.51.100.10'), [], 'strangers do not come in');
  t.equal(await home.router.conntrackCount(['-p', 'udp', '-s', '198.51.100.66']), 0, 'and leave no trace');

  t.match(JSON.parse(await inner.exec(['curl', '-sS', `http://${WEB.ipv4}`])), { ip: '198.51.100.10' });
  t.match(JSON.parse(await inner.exec(['curl', '-sSg', `http://[${WEB.ipv6}]`])), { ip: '2001:db8:1::2' });
  t.not((await stranger.run(['ping', '-nc1', '-W1', '2001:db8:1::2'])).code, 0, 'nor over IPv6');

  await home.rebind();
  const moved = await mappedPorts(lab, home, 51820);
  t.ok(
    moved.length === 2 && moved.every((port) => port >= 21000 && port <= 21999),
    `rebinding maps other ports: ${moved}`,
  );

  await home.changeAddress('198.51.100.11');
  t.match(JSON.parse(await inner.exec(['curl', '-sS', `http://${WEB.ipv4}`])), { ip: '198.51.100.11' });

  await home.forward('udp', 4000, inner);
  const listening = exchangeDatagrams(inner, { from: 4000, forMs: 20_000, answers: 1 });
  const door = { ip: '198.51.100.11', port: 4000 };
  let heard = false;
  const heardOnce = listening.then((seen) => {
    heard = true;
    return seen;
  });
  while (!heard) await exchangeDatagrams(stranger, { from: 7, to: [door], forMs: 200 });
  t.match(await heardOnce, [{ ip: '198.51.100.66', port: 7 }], 'a forwarded port lets them in');
});

t.test('a router with random ports maps every destination differently', async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.close());
  await twoServers(lab);
  const home = await lab.home('home', { nat: 'random', publicIpv4: '198.51.100.20' });
  await home.host('inner');
  const ports = await mappedPorts(lab, home, 51820);
  t.equal(new Set([...ports, 51820]).size, 3, `three different ports: ${ports}`);
});

t.test("a carrier's NAT stands before the home's own", async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.close());
  await twoServers(lab);
  const home = await lab.home('home', {
    nat: 'carrier-grade',
    publicIpv4: '198.51.100.30',
    ipv6: '2001:db8:3::/64',
  });
  const inner = await home.host('inner');
  const ports = await mappedPorts(lab, home, 51820);
  t.equal(new Set([...ports, 51820]).size, 3, `three different ports: ${ports}`);
  const between = await home.carrier?.exec(['conntrack', '-L', '-p', 'udp']);
  t.match(between, /src=100\.64\.0\.2 .*sport=51820/, 'the home keeps the port, the carrier does not');
  t.match(JSON.parse(await inner.exec(['curl', '-sSg', `http://[${WEB.ipv6}]`])), { ip: '2001:db8:3::2' });
  await t.rejects(home.forward('udp', 4000, inner), /carrier/);
});

t.test('where UDP is blocked, DNS and TCP pass', async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.close());
  const web = await twoServers(lab);
  const home = await lab.home('home', { nat: 'udp-blocked', publicIpv4: '198.51.100.40' });
  const inner = await home.host('inner');
  const to = [53, 3478].map((port) => ({ ip: WEB.ipv4, port }));
  const answers = await exchangeDatagrams(inner, { from: 51820, to, forMs: 1000 });
  t.same(
    answers.map(({ port }) => port),
    [53],
  );
  t.match(JSON.parse(await inner.exec(['curl', '-sS', web.url])), { ip: '198.51.100.40' });
});

t.test('without NAT the hosts themselves are seen and reached', async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.close());
  const web = await twoServers(lab);
  const home = await lab.home('home', { nat: 'none', publicIpv4: '198.51.100.50', lan: '203.0.113.0/24' });
  const inner = await home.host('inner');
  t.match(JSON.parse(await inner.exec(['curl', '-sS', web.url])), { ip: '203.0.113.2' });
  t.equal((await web.host.run(['ping', '-nc1', '-W5', '203.0.113.2'])).code, 0);
});

t.test('cables, cards and homes change under a host', async (t) => {
  const lab = await createLab();
  t.teardown(() => lab.close());
  const [web, one, other] = await Promise.all([
    lab.webServer('web', WEB),
    lab.home('one', { nat: 'port-preserving', publicIpv4: '198.51.100.10' }),
    lab.home('other', { nat: 'port-preserving', publicIpv4: '198.51.100.11', lan: '192.168.2.0/24' }),
  ]);
  const laptop = await one.host('laptop');
  // Long enough for a neighbour that has just been lost to be asked for again.
  const seen = async (): Promise<string> => {
    const got = await laptop.run(['curl', '-sS', '--max-time', '5', web.url]);
    return got.code === 0 ? JSON.parse(got.stdout).ip : 'nobody';
  };
  t.equal(await seen(), '198.51.100.10');

  await laptop.unplug();
  t.equal(await seen(), 'nobody', 'with the cable pulled');
  t.match(await laptop.exec(['ip', '-br', 'addr', 'show', 'eth0']), /DOWN.*192\.168\.1\.2/, 'it keeps its address');
  await laptop.replug();
  t.equal(await seen(), '198.51.100.10', 'plugged in again it goes on without a word to it');

  await laptop.silence();
  t.equal(await seen(), 'nobody', 'where nothing passes');
  t.match(await laptop.exec(['ip', '-br', 'link', 'show', 'eth0']), / UP /, 'it has not noticed');
  await laptop.unsilence();
  t.equal(await seen(), '198.51.100.10');

  await one.cutUplink(['198.51.100.80']);
  t.equal(await seen(), '198.51.100.10', 'the one address that is left');
  t.not((await laptop.run(['ping', '-nc1', '-W1', '198.51.100.254'])).code, 0, 'and no other');
  await one.cutUplink([]);
  t.equal(await seen(), 'nobody');
  await one.openUplink();
  t.equal(await seen(), '198.51.100.10');

  const ask = (port: number) => exchangeDatagrams(laptop, { from: 5000, to: [{ ip: WEB.ipv4, port }], forMs: 500 });
  await one.blockUdp();
  t.same([(await ask(3478)).length, (await ask(53)).length], [0, 1], 'no UDP but DNS');
  await one.allowUdp();
  t.equal((await ask(3478)).length, 1);

  await other.connect(laptop, { device: 'eth1', metric: 50 });
  t.equal(await seen(), '198.51.100.10', 'a second card changes nothing while the first is preferred');
  await laptop.ip('route del default dev eth0');
  t.equal(await seen(), '198.51.100.11', 'and serves when it is not');
  await laptop.removeCard('eth1');
  await other.adopt(laptop);
  t.equal(await seen(), '198.51.100.11', 'carried over to another home');
  t.equal(laptop.ipv4, '192.168.2.3');
});

t.test('eight hosts stand in two seconds, and closing leaves nothing', async (t) => {
  const began = process.hrtime.bigint();
  const lab = await createLab({ name: 'eight' });
  const [sna, , homeA, homeB] = await Promise.all([
    lab.publicHost('sna', { ipv4: '198.51.100.1' }),
    lab.publicHost('snb', { ipv4: '198.51.100.2' }),
    lab.home('homea', { nat: 'port-preserving', publicIpv4: '198.51.100.10' }),
    lab.home('homeb', { nat: 'random', publicIpv4: '198.51.100.20', lan: '192.168.2.0/24' }),
  ]);
  await Promise.all([homeA.host('exit'), homeB.host('client'), homeB.host('phone')]);
  const took = Number(process.hrtime.bigint() - began) / 1e6;
  t.comment(`built in ${Math.round(took)} ms`);
  t.equal(belongingTo(lab.name).length, 8);
  // A daemon leaves its parent and its process group; it must still be found.
  await sna.exec(['sh', '-c', 'setsid sleep 600 >/dev/null 2>&1 &']);
  const [daemon = 0] = sna.pids();
  t.ok(runs(daemon));
  await lab.close();
  await lab.close();
  t.same(belongingTo(lab.name), []);
  t.notOk(runs(daemon));
  t.same(
    readdirSync('/run/vpnd-lab').filter((file) => file.startsWith(lab.name)),
    [],
  );
  await t.rejects(lab.publicHost('late', { ipv4: '198.51.100.3' }), /closed/);
});

t.test('a lab whose owner dies', async (t) => {
  const start = async () => {
    const owner = spawn(process.execPath, [fileURLToPath(new URL('../support/lab-owner.js', import.meta.url))], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [line] = (await once(owner.stdout.setEncoding('utf8'), 'data')) as [string];
    const { name, sleeper } = JSON.parse(line) as { name: string; sleeper: number };
    t.equal(belongingTo(name).length, 2);
    return { owner, name, sleeper };
  };

  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    t.test(`of ${signal} is removed at once`, async (t) => {
      const { owner, name, sleeper } = await start();
      owner.kill(signal);
      t.same(await once(owner, 'exit'), [null, signal], 'and the owner ends by that signal');
      t.same(belongingTo(name), []);
      t.notOk(runs(sleeper));
    });
  }

  t.test('of SIGKILL is removed when the next one starts, and the living are left alone', async (t) => {
    const { owner, name, sleeper } = await start();
    const living = await start();
    owner.kill('SIGKILL');
    await once(owner, 'exit');
    t.equal(belongingTo(name).length, 2);
    t.ok(runs(sleeper));
    const next = await createLab();
    t.same(belongingTo(name), []);
    t.notOk(runs(sleeper));
    t.equal(belongingTo(living.name).length, 2);
    await next.close();
    living.owner.kill('SIGTERM');
    await once(living.owner, 'exit');
  });
});
