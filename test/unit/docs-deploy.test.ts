import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { lockdownFileIn } from '../../dataplane/lockdown-file.js';
import { userOf } from '../../src/cli/account.js';
import type { Io } from '../../src/cli/io.js';
import { main } from '../../src/cli/main.js';
import { DNS_SOCKET } from '../../src/cli/open-dns.js';
import { OPTIONS } from '../../src/config/options.js';
import { duration } from '../../src/config/values.js';
import { formatJoinToken } from '../../src/identity/join-token.js';
import { openSodium } from '../../src/identity/sodium.js';
import type { Port } from '../../src/model/address.js';
import type { Region, Role } from '../../src/model/role.js';
import { hours, seconds } from '../../src/model/time.js';

const ROOT = process.cwd();
const ROLES = ['base', 'supernode', 'exit', 'client'] as const satisfies readonly Role[];

async function vpnd(...argv: string[]): Promise<{ status: number; out: string; err: string }> {
  const said = { out: '', err: '' };
  const io: Io = {
    out: (text) => {
      said.out += text;
    },
    err: (text) => {
      said.err += text;
    },
    env: {},
    interactive: false,
    exitNow: () => {
      throw new Error('checking a configuration does not end the process');
    },
    onSignal: () => () => {},
  };
  const status = await main(argv, io);
  return { status, ...said };
}

t.test('the example configurations are good, and so is everything that is commented out in them', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-docs-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const { crypto } = await openSodium();
  const tokenFile = join(dir, 'token');
  const secret = new Uint8Array(32);
  const base = [{ host: 'base.example.org', port: 7400 as Port }];
  const token = { base, caKeyHash: secret, secret, role: 'exit', region: 'eu' as Region } as const;
  writeFileSync(tokenFile, formatJoinToken(token, crypto.sha256), { mode: 0o600 });

  t.same(readdirSync(join(ROOT, 'deploy/config')).sort(), ROLES.map((role) => `${role}.toml`).sort());
  for (const role of ROLES) {
    const text = readFileSync(join(ROOT, `deploy/config/${role}.toml`), 'utf8');
    // The file that join-file names is on nobody's machine but the reader's.
    const join_ = role === 'base' ? [] : ['--join-file', tokenFile];
    const everything = join(dir, `${role}.toml`);
    const switchedOn = text.replace(/^# (?=[a-z0-9-]+ = )/gm, '');
    // Settings that are there twice, once switched on and once as a comment, would not be TOML.
    writeFileSync(everything, switchedOn);
    for (const path of [join(ROOT, `deploy/config/${role}.toml`), everything]) {
      const checked = await vpnd(role, '--check', '--config', path, ...join_);
      t.same(checked, { status: 0, out: `the configuration of vpnd ${role} is good\n`, err: '' }, path);
    }
    t.match(text, new RegExp(`^# /etc/vpnd/${role}\\.toml`), 'says where it goes');
  }
  writeFileSync(tokenFile, 'advertize = ["base.example.org"]\n');
  t.equal((await vpnd('base', '--check', '--config', tokenFile)).status, 2, 'a wrong one would be noticed');
});

t.test('the systemd units fit the daemons', async (t) => {
  t.same(
    readdirSync(join(ROOT, 'deploy/systemd')).sort(),
    [
      ...ROLES.map((role) => `vpnd-${role}.service`),
      'vpnd-dns.socket',
      'vpnd-dns@.service',
      'vpnd-lockdown.service',
    ].sort(),
  );
  for (const role of ROLES) {
    const text = readFileSync(join(ROOT, `deploy/systemd/vpnd-${role}.service`), 'utf8');
    const unit = settings(text);
    t.equal(unit.ExecStart, `/usr/local/bin/vpnd ${role}`);
    t.equal(
      `/var/lib/${unit.StateDirectory}`,
      OPTIONS[role].stateDir.default,
      'the state directory is the default one',
    );
    t.equal(unit.NoNewPrivileges, 'yes');
    t.equal(unit.ProtectSystem, 'strict');
    t.equal(unit.MemoryDenyWriteExecute, undefined, 'V8 could not run');
    t.equal(unit.ProtectKernelTunables, 'yes');
    t.equal(unit.SystemCallFilter, '~@privileged @resources', 'less than the services of a system have');
    t.equal(unit.RestartPreventExitStatus, '2', 'a wrong configuration is not tried again and again');
    if (role === 'base') {
      t.equal(unit.CapabilityBoundingSet, '', 'base needs no privilege');
      t.equal(unit.User, userOf(role), 'a supernode beside base cannot read its keys');
      t.equal(unit.PrivateUsers, 'yes');
      t.equal(unit.ReadWritePaths, undefined);
      continue;
    }
    t.equal(unit.User, userOf(role), 'whom a daemon becomes that root starts by hand');
    t.equal(unit.PrivateUsers, undefined, 'a capability over the host’s network would be none');
    t.equal(unit.KillMode, 'process', 'wireguard-go carries sessions on while the daemon restarts');
    t.equal(unit.RuntimeDirectoryPreserve, 'yes', 'and keeps its socket');
    t.equal(unit.CapabilityBoundingSet, unit.AmbientCapabilities);
    t.match(unit.CapabilityBoundingSet, /^CAP_NET_ADMIN( CAP_NET_BIND_SERVICE)?$/);
    t.match(unit.DeviceAllow, /^\/dev\/net\/tun rw$/);
    t.match(unit.RestrictAddressFamilies, /AF_NETLINK/);
    t.equal(unit.ReadWritePaths, '/proc/sys/net', 'sysctls of the network are written');
    t.match(
      text,
      new RegExp(`^#LoadCredential=join:/etc/vpnd/${role}\\.token$`, 'm'),
      'a hint how a token stays root’s',
    );
  }
});

t.test('what sets the resolver for a client is root without a capability, for that client alone', async (t) => {
  const unit = (name: string) => settings(readFileSync(join(ROOT, 'deploy/systemd', name), 'utf8'));
  const socket = unit('vpnd-dns.socket');
  t.match(socket, { ListenStream: DNS_SOCKET, SocketUser: userOf('client'), SocketMode: '0600', Accept: 'yes' });
  const service = unit('vpnd-dns@.service');
  t.match(service, { User: 'root', CapabilityBoundingSet: '', NoNewPrivileges: 'yes', StandardInput: 'socket' });
  t.match(service, { ProtectSystem: 'strict', ReadWritePaths: '/etc -/run/resolvconf' });
  t.equal(service.PrivateNetwork, undefined, 'interfaces have names in their own network only');
  const [, program = ''] = /node \/opt\/vpnd\/dist\/(\S+)\.js$/.exec(service.ExecStart ?? '') ?? [];
  t.ok(existsSync(join(ROOT, `${program}.ts`)), program);
});

t.test('lockdown is in force before any network is, and needs no daemon', async (t) => {
  const unit = settings(readFileSync(join(ROOT, 'deploy/systemd/vpnd-lockdown.service'), 'utf8'));
  t.match(unit, { Wants: 'network-pre.target', DefaultDependencies: 'no', Type: 'oneshot', RemainAfterExit: 'yes' });
  t.match(unit.Before, /^network-pre\.target/);
  t.equal(unit.ExecStart, '/usr/local/bin/vpnd lockdown load');
  t.equal(unit.ExecStop, undefined, 'stopping it opens nothing');
  t.equal(unit.ConditionPathExists, lockdownFileIn(OPTIONS.client.stateDir.default ?? ''));
  t.equal(unit.User, userOf('client'), 'whose file it is');
  t.equal(unit.CapabilityBoundingSet, 'CAP_NET_ADMIN');
});

t.test('a supernode that drains is given the time it asks for, by one signal', async (t) => {
  const unit = settings(readFileSync(join(ROOT, 'deploy/systemd/vpnd-supernode.service'), 'utf8'));
  const example = readFileSync(join(ROOT, 'deploy/config/supernode.toml'), 'utf8');
  const longest = /^# drain-timeout = "(\w+)"$/m.exec(example)?.[1] ?? '';
  const time = (text: string): number => {
    const parsed = duration(seconds(0), hours(24))(text);
    return parsed.ok ? parsed.value : Number.NaN;
  };
  const given = time(unit.TimeoutStopSec ?? '');
  // Beside the drain: what is under way, and closing everything.
  for (const needed of [OPTIONS.supernode.drainTimeout.default ?? '', longest]) {
    t.ok(given >= time(needed) + seconds(15), `${given} ms for a drain of ${needed}`);
  }
  t.equal(unit.KillSignal, undefined, 'SIGTERM');
  t.equal(unit.SendSIGHUP, undefined, 'and nothing after it: a second signal ends the daemon at once');
});

/** `Key=value` lines; of a key that stands twice (a filter and what it leaves out) the later one. */
function settings(text: string): Readonly<Record<string, string | undefined>> {
  const lines = text.split('\n').filter((line) => /^[A-Z]\w*=/.test(line));
  return Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]));
}
