import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { createLab, type Host, type Lab, type Spawned } from '../../chaos/lab/index.js';
import { Pings, vpnd } from '../../chaos/overlay/index.js';
import { eventually } from '../support/overlay-checks.js';

/**
 * The deployment of docs/runbook.md: base and a supernode on one server, the configurations of deploy/config, state in
 * the default directories, and what the systemd units give a daemon: a user of its own with CAP_NET_ADMIN and no more.
 */
const SERVER = '198.51.100.7';
const EXIT_HOME = '198.51.100.10';
const CLIENT_HOME = '198.51.100.20';
const NOBODY = '65534';
const READY_MS = 90_000;

type Forwarding = 'supernode' | 'exit' | 'client';

t.test('the deployment of the runbook, without root', { bail: true }, async (t) => {
  const lab = await createLab({ name: 'deploy' });
  t.teardown(() => lab.close());
  const { server, home, laptop, web } = await machines(lab);
  const user = await unprivilegedUser(server);
  const running = new Map<string, Spawned>();
  const start = async (host: Host, role: 'base' | Forwarding) => {
    const daemon = host.spawn([...as(user, role), ...vpnd(role, '--config', `/var/lib/etc/${role}.toml`)]);
    running.set(role, daemon);
    await daemon.waitForLine(/ ready: /, READY_MS);
  };
  const stop = async (role: string) => {
    await running.get(role)?.stop(20_000);
  };
  const seenBy = async () => JSON.parse(await laptop.exec(['curl', '-sS', '--max-time', '5', web.url])).ip as string;

  await t.test('base and a supernode share the server', async (t) => {
    await prepare(server, 'base', user);
    await start(server, 'base');
    await prepare(server, 'supernode', user, await token(server, 'supernode'));
    await start(server, 'supernode');
    t.match(await said(server, 'status', '--role', 'base'), /supernodes connected +1\n/);
  });

  await t.test('tokens are asked of base, whatever role they are for', async (t) => {
    await prepare(home, 'exit', user, await token(server, 'exit'));
    await prepare(laptop, 'client', user, await token(server, 'client'));
    t.match(await said(server, 'token', 'list'), /client[\s\S]*exit[\s\S]*supernode/);
  });

  await t.test('exit and client join, and traffic flows', async (t) => {
    await start(home, 'exit');
    await start(laptop, 'client');
    t.match(await said(laptop, 'exits'), /eu +DE/);
    t.equal(await seenBy(), CLIENT_HOME);
    t.match(await said(laptop, 'up'), /^up: client ─ A /);
    t.equal(await seenBy(), EXIT_HOME);
  });

  await t.test('a restart of each daemon, as an upgrade does it, loses no packet', async (t) => {
    const pings = await Pings.start(laptop, web, { everySeconds: 0.1 });
    for (const [host, role] of [
      [home, 'exit'],
      [laptop, 'client'],
      [server, 'supernode'],
      [server, 'base'],
    ] as const) {
      await stop(role);
      await start(host, role);
    }
    const { sent, lost } = await pings.stop();
    t.equal(lost, 0, `of ${sent} packets`);
  });

  await t.test('comparing with the kernel finds what somebody took away, and nothing else', async (t) => {
    await laptop.ip('rule del priority 6130');
    const client = running.get('client');
    const repaired = async () => (client?.lines('stderr') ?? []).filter((line) => line.includes('repaired'));
    const lines = await eventually(repaired, (found) => found.length > 0);
    t.same(
      lines.map((line) => (JSON.parse(line) as { unit: string }).unit),
      ['full-tunnel/wg-client'],
    );
    t.equal(await seenBy(), EXIT_HOME);
  });

  await t.test('afterwards nothing is left', async (t) => {
    t.equal(await said(laptop, 'down'), 'down\n');
    t.equal(await seenBy(), CLIENT_HOME);
    for (const role of ['client', 'exit', 'supernode', 'base']) await stop(role);
    for (const [host, role] of [
      [laptop, 'client'],
      [home, 'exit'],
      [server, 'supernode'],
    ] as const) {
      t.equal(await said(host, 'clean', '--role', role), 'nothing was left\n', role);
    }
  });
});

async function machines(lab: Lab) {
  const [server, exitHome, clientHome, web] = await Promise.all([
    lab.publicHost('server', { ipv4: SERVER }),
    lab.home('homex', { nat: 'port-preserving', publicIpv4: EXIT_HOME, lan: '192.168.1.0/24' }),
    lab.home('homec', { nat: 'port-preserving', publicIpv4: CLIENT_HOME, lan: '192.168.2.0/24' }),
    lab.webServer('web', { ipv4: '198.51.100.80' }),
  ]);
  const [home, laptop] = await Promise.all([exitHome.host('exit'), clientHome.host('laptop')]);
  for (const host of [server, home, laptop]) {
    // State directories of the host's own, at their default place.
    await host.exec(['mount', '-t', 'tmpfs', 'tmpfs', '/var/lib']);
    await host.exec(['mkdir', '-p', '/var/lib/etc', '/var/lib/vpnd']);
  }
  return { server, home, laptop, web };
}

/** Nobody, or root with the same few capabilities where the checkout is not for everybody to read. */
async function unprivilegedUser(host: Host): Promise<string> {
  const binary = fileURLToPath(new URL('../../bin/vpnd.js', import.meta.url));
  const readable = await host.run(['setpriv', '--reuid', NOBODY, '--clear-groups', 'test', '-r', binary]);
  return readable.code === 0 ? NOBODY : '0';
}

/** What AmbientCapabilities, CapabilityBoundingSet and NoNewPrivileges of the units do. */
function as(user: string, role: 'base' | Forwarding): string[] {
  const capabilities = {
    base: '',
    supernode: ',+net_admin,+net_bind_service',
    exit: ',+net_admin',
    client: ',+net_admin',
  };
  const set = `-all${capabilities[role]}`;
  return [
    ...['setpriv', '--reuid', user, '--regid', user, '--clear-groups', '--no-new-privs'],
    ...[`--inh-caps=${set}`, `--ambient-caps=${set}`, `--bounding-set=${set}`],
  ];
}

/** The example configuration with the lab's addresses in it, the token beside it, and what systemd makes for a unit. */
async function prepare(host: Host, role: 'base' | Forwarding, user: string, joinToken?: string): Promise<void> {
  const example = readFileSync(`deploy/config/${role}.toml`, 'utf8')
    .replaceAll('203.0.113.7', SERVER)
    .replaceAll('base.example.org', SERVER)
    .replaceAll('/etc/vpnd/', '/var/lib/etc/');
  await host.exec(['tee', `/var/lib/etc/${role}.toml`], { stdin: example });
  if (joinToken !== undefined) {
    const path = `/var/lib/etc/${role}.token`;
    await host.exec(['install', '-m', '600', '-o', user, '-g', user, '/dev/null', path]);
    await host.exec(['tee', path], { stdin: joinToken });
  }
  await host.exec(['install', '-d', '-m', '700', '-o', user, '-g', user, `/var/lib/vpnd/${role}`]);
  await host.exec(['chown', `${user}:${user}`, '/run/wireguard']);
}

const token = (server: Host, role: Forwarding) => said(server, 'token', 'create', '--role', role, '--region', 'eu');

/** Standard output of a command that works. */
async function said(host: Host, ...argv: string[]): Promise<string> {
  return host.exec(vpnd(...argv), { timeout: 60_000 });
}
