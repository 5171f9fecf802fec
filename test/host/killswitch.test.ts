import { rmdirSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import t, { type Test } from 'tap';
import type { RunResult } from '../../chaos/lab/index.js';
import {
  ADDRESSES,
  activeSession,
  freezeDaemon,
  LAB_UID,
  Overlay,
  statusOf,
  thawDaemon,
  vpnd,
} from '../../chaos/overlay/index.js';
import { pings } from '../support/namespace-path.js';
import { eventually, kernelResidue } from '../support/overlay-checks.js';

t.setTimeout(400_000);

/** A second web server, for what is to be reached in the open. */
const OPEN = '198.51.100.81';
const LAPTOP = '192.168.2.2';
const TV = '192.168.2.3';
const ROUTER = '192.168.2.1';
/** To and from the web, and ARP that asks for it: of all that, the tunnel shows nothing outside. */
const WEB = `host ${ADDRESSES.web} or host ${ADDRESSES.webIpv6}`;
/** As curl says it: refused, or no answer. */
const NOT_REACHED = [7, 28];
/** As deploy/systemd/vpnd-lockdown.service runs it. */
const AS_UNIT = [
  ...['setpriv', '--reuid', `${LAB_UID}`, '--regid', `${LAB_UID}`, '--clear-groups', '--no-new-privs'],
  ...['--inh-caps=-all,+net_admin', '--ambient-caps=-all,+net_admin', '--bounding-set=-all,+net_admin', '--'],
];

const overlay = await Overlay.start({
  exitIpv6: true,
  clientIpv6: true,
  oneSupernode: true,
  clientArgs: ['--standby', 'off'],
});
t.teardown(() => overlay.close());
const { client, clientHome, web } = overlay;
const { host } = client;
const [open, tv] = await Promise.all([overlay.lab.webServer('open', { ipv4: OPEN }), clientHome.host('tv')]);

/** Packets that match and that were seen on the laptop's own card while something was done. */
async function seenOutside(filter: string, what: () => Promise<unknown>): Promise<readonly string[]> {
  const capture = await host.capture('eth0', filter);
  await what();
  const { packets } = await capture.stop();
  return packets.map(({ kind, packet: { ip } }) => `${kind} ${ip?.from ?? ''} > ${ip?.to ?? ''}`);
}

const curl = (url: string, ...more: readonly string[]): Promise<RunResult> =>
  host.run(['curl', '-gksS', '-m', '2', '-o', '/dev/null', ...more, url]);
const bash = (script: string): Promise<RunResult> => host.run(['bash', '-c', script]);
const up = async (t: Test) => {
  const said = await client.cli('up');
  t.equal(said.code, 0, said.stderr);
};

/** Somebody who may do so takes all of it away but the kill switch: what is left of the routes leads out in the open. */
async function withoutRouting(): Promise<void> {
  for (const family of ['-4', '-6']) {
    await host.exec(['ip', family, 'rule', 'flush']);
    await host.exec(['ip', family, 'rule', 'add', 'lookup', 'main', 'priority', '32766']);
    await host.run(['ip', family, 'route', 'flush', 'table', '51820']);
  }
}

t.test('whoever deletes rules, routes and devices under traffic lets nothing out', async (t) => {
  t.equal(await overlay.seenIp(), ADDRESSES.clientHome, 'before vpnd up everything leaves as it is');
  await up(t);
  const outside = await seenOutside(WEB, async () => {
    const traffic = [ADDRESSES.web, ADDRESSES.webIpv6].map((to) => host.spawn(['ping', '-n', '-i', '0.005', to]));
    for (const one of traffic) await one.waitForLine(/bytes from/);
    // So that it does not put it right in the middle.
    freezeDaemon(client);
    await withoutRouting();
    await pause(500);
    await host.exec(['ip', 'link', 'del', 'wg-client']);
    await pause(500);
    t.match(await host.exec(['ip', 'route', 'get', ADDRESSES.web]), /dev eth0/, 'by its routes it would leave');
    for (const one of traffic) one.kill('SIGINT');
    thawDaemon(client);
  });
  t.same(outside, []);
  await eventually(
    () => overlay.fetch(`${web.url}/`, 2),
    ({ ok }) => ok,
    30_000,
  );
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'the daemon puts it right');
});

t.test('a program that is bound to the outer interface or address is held', async (t) => {
  const outside = await seenOutside(WEB, async () => {
    for (const bound of ['eth0', LAPTOP]) {
      t.ok(NOT_REACHED.includes((await curl(web.url, '--interface', bound)).code), bound);
    }
    t.not((await curl(web.url6, '--interface', 'eth0')).code, 0);
    await Promise.all(
      [ADDRESSES.web, ADDRESSES.webIpv6].map((to) =>
        host.run(['ping', '-c', '3', '-i', '0.1', '-W', '1', '-I', 'eth0', to]),
      ),
    );
  });
  t.same(outside, []);
});

t.test('what the daemon may reach is the daemon’s alone', async (t) => {
  const endpoint = activeSession(await client.api.status())?.endpoint;
  const outside = await seenOutside(`tcp[tcpflags] & tcp-syn != 0 or udp and greater 400`, async () => {
    for (const user of ['0', '65534']) {
      const as = ['setpriv', '--reuid', user, '--clear-groups'];
      const said = await host.run([...as, 'curl', '-ksS', '-m', '2', `https://${ADDRESSES.a}:443/`]);
      t.ok(NOT_REACHED.includes(said.code), `user ${user}: ${said.stderr}`);
    }
    await bash(`head -c 500 /dev/zero > /dev/udp/${endpoint?.ip}/${endpoint?.port}`);
  });
  t.same(outside, []);
  t.equal((await client.api.status()).upstream?.state, 'up', 'which has its stream all the same');
});

t.test('neither names nor neighbours are asked', async (t) => {
  const outside = await seenOutside(
    `src host ${LAPTOP} and (port 53 or port 853 or dst net 192.168.2.0/24)`,
    async () => {
      t.not((await bash(`echo a name > /dev/udp/${ROUTER}/53; echo > /dev/tcp/${ROUTER}/853`)).code, 0, 'at once');
      t.equal(await pings(host, TV, 1), 0);
      t.equal(await pings(tv, LAPTOP, 1), 0);
    },
  );
  t.same(
    outside.filter((line) => !line.startsWith('arp')),
    [],
  );
  t.match((await client.api.status()).facts, { local_network: 'closed' });
});

t.test('vpnd down lets everything out again', async (t) => {
  t.equal((await client.cli('down')).code, 0);
  t.same(await kernelResidue(client), []);
  t.equal(await overlay.seenIp(), ADDRESSES.clientHome);
});

t.test('--allow-lan opens the LAN, not for names; --exclude opens a network', async (t) => {
  await client.stop();
  await client.start({ more: ['--allow-lan', '--exclude', `${OPEN}/32`] });
  await up(t);
  t.equal(await pings(host, TV, 2), 2);
  t.equal(await pings(tv, LAPTOP, 2), 2);
  t.same(await seenOutside('port 53', () => bash(`echo a name > /dev/udp/${ROUTER}/53`)), []);
  t.equal(await overlay.seenIp(`${open.url}/`), ADDRESSES.clientHome, 'the excluded network sees the laptop');
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'and nobody else does');
  t.same(await seenOutside(WEB, () => curl(web.url, '--interface', 'eth0')), []);
  t.match((await client.api.status()).facts, { local_network: /^open/, outside: `${OPEN}/32` });
});

t.test('a program outside the tunnel', async (t) => {
  // As on a machine with cgroup v2; the mount is this host's own, and the group goes with its last program.
  await host.exec(['mount', '-t', 'cgroup2', 'none', '/sys/fs/cgroup']);
  t.teardown(removeGroup);
  // As some distributions have it.
  await host.sysctl('net.ipv4.conf.all.rp_filter=1', 'net.ipv4.conf.eth0.rp_filter=1');
  const run = (...argv: readonly string[]) => host.run(vpnd('exclude', '--', ...argv));
  const seen = await run('curl', '-sS', '-m', '5', `${web.url}/`);
  t.match(JSON.parse(seen.stdout || '{}'), { ip: ADDRESSES.clientHome }, seen.stderr);
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'others stay in it');
  const names = await seenOutside('port 53', () => run('bash', '-c', `echo name > /dev/udp/${ADDRESSES.web}/53`));
  t.same(names, [], 'the names it asks for go through the tunnel');
  t.equal((await run('sh', '-c', 'exit 7')).code, 7, 'it ends as the program does');

  const long = host.spawn(vpnd('exclude', '--', 'ping', '-n', '-i', '0.2', ADDRESSES.web));
  await long.waitForLine(/bytes from/);
  t.match((await client.cli('status')).stdout, /outside +198.*, [1-9] process.*vpnd exclude/);
  long.kill('SIGTERM');
  await long.exited;
});

t.test('lockdown', async (t) => {
  t.test('keeps everything in after vpnd down, and says how to leave', async (t) => {
    t.match((await client.cli('lockdown', 'on')).stdout, /nothing leaves/);
    t.match((await client.cli('lockdown', 'status')).stdout, /on, and in force/);
    t.match((await client.cli('down')).stdout, /lockdown is on.*vpnd lockdown off/);
    t.same(await seenOutside(WEB, () => Promise.all([curl(web.url), curl(web.url6)])), []);
    await up(t);
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'vpnd up works');
  });

  t.test('holds when the daemon is killed, whatever happens to its tunnel', async (t) => {
    const outside = await seenOutside(WEB, async () => {
      const ping = host.spawn(['ping', '-n', '-i', '0.01', ADDRESSES.web]);
      await ping.waitForLine(/bytes from/);
      await client.crash();
      await withoutRouting();
      await host.exec(['ip', 'link', 'del', 'wg-client']);
      await pause(300);
      ping.kill('SIGINT');
    });
    t.same(outside, []);
  });

  t.test('is there after a reboot before any daemon is, and lets one connect', async (t) => {
    await host.nft('flush ruleset\n');
    await withoutRouting();
    const loaded = await host.run([...AS_UNIT, ...vpnd('lockdown', 'load', '--state-dir', client.stateDir)]);
    t.equal(loaded.code, 0, loaded.stderr);
    t.same(await seenOutside(WEB, () => Promise.all([curl(web.url), curl(web.url6)])), []);
    await client.start();
    await statusOf(client, (status) => activeSession(status)?.state === 'up');
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'the user’s wish is carried out again');
    t.match((await client.api.status()).facts, { lockdown: /^on/ });
  });

  t.test('a file that is not what vpnd writes opens nothing', async (t) => {
    await client.cli('down');
    await client.stop();
    await host.nft('flush ruleset\n');
    await bash(`echo 'include "/etc/shadow"' >> ${client.stateDir}/lockdown.nft`);
    const broken = await host.run(vpnd('lockdown', 'load', '--state-dir', client.stateDir));
    t.equal(broken.code, 1);
    t.match(broken.stderr, /everything is held/);
    t.same(await seenOutside(WEB, () => curl(web.url)), []);
  });

  t.test('vpnd clean does not end it unasked; vpnd lockdown off does, without a daemon', async (t) => {
    const clean = await host.run(vpnd('clean', '--role', 'client', '--state-dir', client.stateDir));
    t.not(clean.code, 0);
    t.match(clean.stderr, /vpnd lockdown off/);
    const off = await host.run(vpnd('lockdown', 'off', '--state-dir', client.stateDir));
    t.equal(off.code, 0, off.stderr);
    t.equal(await overlay.seenIp(), ADDRESSES.clientHome);
    t.same(await kernelResidue(client), []);
  });
});

/** The hierarchy of groups is the machine's: every lab sees the same. */
function removeGroup(): void {
  try {
    rmdirSync('/sys/fs/cgroup/unified/vpnd-exclude');
  } catch {
    // It went with its last program.
  }
}
