import { readFileSync } from 'node:fs';
import t from 'tap';
import { loadRawConfig } from '../../src/config/load.js';
import { parseConfig } from '../../src/config/parse.js';
import { renderDocumentation } from '../../src/config/render.js';
import type { RawConfig } from '../../src/config/sources.js';
import type { DaemonConfig } from '../../src/config/types.js';
import { formatHostPort } from '../../src/model/address.js';
import type { Role } from '../../src/model/role.js';

const TOKEN = `vpnd1${'abcdefgh234567'.repeat(4)}`;

const missing = (path: string): never => {
  throw Object.assign(new Error(`no ${path}`), { code: 'ENOENT' });
};
const raw = (over: Partial<RawConfig> = {}): RawConfig => ({
  flags: {},
  env: {},
  file: undefined,
  read: missing,
  ...over,
});
const toml = (text: string): RawConfig['file'] => ({ path: '/etc/vpnd/x.toml', text });

function good<R extends Role>(role: R, over: Partial<RawConfig>): Extract<DaemonConfig, { role: R }> {
  const parsed = parseConfig(role, raw(over));
  if (!parsed.ok) throw parsed.error;
  return parsed.value;
}

function complaint(role: Role, over: Partial<RawConfig>): string {
  const parsed = parseConfig(role, raw(over));
  return parsed.ok ? 'accepted' : `${parsed.error.code}: ${parsed.error.message}`;
}

t.test('a daemon with nothing but what it needs has sensible settings', async (t) => {
  t.match(good('base', { flags: { advertise: 'base.example.org' } }), {
    role: 'base',
    stateDir: '/var/lib/vpnd/base',
    socket: '/var/lib/vpnd/base/vpnd.sock',
    user: undefined,
    metricsListen: { host: '127.0.0.1', port: 9470 },
    logLevel: 'info',
    logPrivacy: 'partial',
    listen: { host: '0.0.0.0', port: 7400 },
    advertise: [{ host: 'base.example.org', port: 7400 }],
    poolIpv4: '10.200.0.0/13',
    poolIpv6: 'fd76:706e:6400::/48',
    blockLength: 22,
    membershipTtl: 30 * 86_400_000,
    certificateTtl: 86_400_000,
  });
  t.match(good('supernode', { flags: { advertise: '203.0.113.7' } }), {
    listen: { host: '0.0.0.0', port: 443 },
    advertise: [{ host: '203.0.113.7', port: 443 }],
    relayIps: ['203.0.113.7'],
    relayPorts: { from: 40001, to: 49999 },
    probePort: 40000,
    egress: false,
    interface: 'wg-relay',
    wireguardPort: 51820,
    sessionCapacity: 10000,
    lease: 3_600_000,
    drainTimeout: 15_000,
    join: undefined,
  });
  t.match(good('exit', {}), { interface: 'wg-exit', maxMbps: 0, ipv6: 'auto', wireguardPort: undefined });
  t.same(good('exit', {}).uplinkCheck, []);
  t.match(good('client', {}), {
    interface: 'wg-client',
    table: 51820,
    privacy: 'auto',
    standby: true,
    rotateEvery: undefined,
    stateDir: '/var/lib/vpnd/client',
  });
});

t.test('good values are read as they are meant', async (t) => {
  t.same(good('base', { flags: { listen: '203.0.113.5:7000' } }).advertise, [{ host: '203.0.113.5', port: 7000 }]);
  t.same(good('base', { flags: { listen: '[2001:db8::5]:7000' } }).advertise, [{ host: '2001:db8::5', port: 7000 }]);
  t.equal(good('exit', { flags: { metrics: 'off' } }).metricsListen, undefined);
  t.equal(good('exit', { flags: { country: 'de' } }).country, 'DE');
  t.equal(good('exit', { flags: { 'public-endpoint': '198.51.100.4:51999' } }).wireguardPort, 51999);
  t.equal(
    good('exit', { flags: { 'public-endpoint': '198.51.100.4:51999', 'wireguard-port': '51820' } }).wireguardPort,
    51820,
    'a forwarded port may differ from the one behind it',
  );
  t.equal(good('exit', { flags: { 'state-dir': '/srv/vpnd/' } }).socket, '/srv/vpnd/vpnd.sock');
  const supernode = good('supernode', {
    flags: {
      advertise: 'sn.example.org:8443,[2001:db8::7]',
      'relay-ip': '203.0.113.7,2001:db8::7',
      egress: 'on',
      'probe-port': 'off',
    },
  });
  t.same(supernode.advertise, [
    { host: 'sn.example.org', port: 8443 },
    { host: '2001:db8::7', port: 443 },
  ]);
  t.same(supernode.relayIps, ['203.0.113.7', '2001:db8::7']);
  t.same(supernode.listenAlso, []);
  t.same(good('exit', { file: toml('uplink-check = ["www.example.net:443", "[2001:db8::1]:80"]') }).uplinkCheck, [
    { host: 'www.example.net', port: 443 },
    { host: '2001:db8::1', port: 80 },
  ]);
  t.match(good('client', { flags: { privacy: 'direct', standby: 'off', 'rotate-every': '1h' } }), {
    privacy: 'direct',
    standby: false,
    rotateEvery: 3_600_000,
  });
  t.equal(good('client', { flags: { interface: 'wg-my-laptop1' } }).interface, 'wg-my-laptop1', '13 characters');
  t.equal(good('client', { flags: { table: '250' } }).table, 250);
  t.equal(good('supernode', { flags: { advertise: '203.0.113.7', 'drain-timeout': '0s' } }).drainTimeout, 0);
  t.equal(supernode.egress, true);
  t.equal(supernode.probePort, undefined);
  for (const [text, ms] of [
    ['500ms', 500],
    ['30s', 30_000],
    ['10m', 600_000],
    ['1.5h', 5_400_000],
    ['7d', 604_800_000],
  ] as const) {
    const flags = { advertise: '203.0.113.7', lease: text };
    const parsed = parseConfig('supernode', raw({ flags }));
    t.equal(
      parsed.ok ? parsed.value.lease : parsed.error.message,
      ms >= 1000 ? ms : `--lease: '${text}' must lie between 1s and 30d`,
    );
  }
});

t.test('a flag overrides a variable, a variable the file, the file the default', async (t) => {
  const file = toml('log-level = "error"');
  t.equal(good('exit', {}).logLevel, 'info');
  t.equal(good('exit', { file }).logLevel, 'error');
  t.equal(good('exit', { file, env: { VPND_LOG_LEVEL: 'warn' } }).logLevel, 'warn');
  t.equal(good('exit', { file, env: { VPND_LOG_LEVEL: 'warn' }, flags: { 'log-level': 'debug' } }).logLevel, 'debug');
});

t.test('the file may hold text, numbers, switches and lists', async (t) => {
  const config = good('supernode', {
    file: toml('advertise = ["203.0.113.7", "[2001:db8::7]:443"]\negress = true\ncapacity = 20\nprobe-port = 3479'),
  });
  t.equal(config.advertise.length, 2);
  t.same(config.relayIps, ['203.0.113.7', '2001:db8::7']);
  t.match(config, { egress: true, sessionCapacity: 20, probePort: 3479 });
});

t.test('a configuration cannot be changed', async (t) => {
  const config = good('supernode', { flags: { advertise: '203.0.113.7' } });
  t.ok(Object.isFrozen(config) && Object.isFrozen(config.relayPorts) && Object.isFrozen(config.advertise[0]));
  t.throws(() => Object.assign(config.advertise, [undefined]), TypeError);
});

t.test('what is wrong is said in one line that names the setting and where it came from', async (t) => {
  const sn = { advertise: '203.0.113.7' };
  const cases: readonly (readonly [Role, Partial<RawConfig>, string])[] = [
    [
      'base',
      { env: { VPND_POOL_IPV4: '10.0.0.0/33', VPND_ADVERTISE: 'b.example' } },
      "--pool-ipv4 (from VPND_POOL_IPV4): '10.0.0.0/33' is not a CIDR like 10.200.0.0/13",
    ],
    [
      'base',
      { flags: { 'pool-ipv4': 'fd00::/48' } },
      "--pool-ipv4: 'fd00::/48' is not an IPv4 network like 10.200.0.0/13",
    ],
    [
      'base',
      { flags: { 'pool-ipv4': '10.200.0.1/13' } },
      "--pool-ipv4: '10.200.0.1/13' has host bits set; the network is 10.200.0.0/13",
    ],
    ['base', { flags: { 'pool-ipv4': '10.0.0.0/30' } }, "--pool-ipv4: '10.0.0.0/30' must be a /8 to /24"],
    ['base', { flags: { 'pool-ipv6': 'fd00::/64' } }, "--pool-ipv6: 'fd00::/64' must be a /16 to /56"],
    [
      'base',
      { flags: { advertise: 'b.example', 'pool-ipv4': '10.0.0.0/24' } },
      '--block-length: a /22 does not fit into --pool-ipv4 10.0.0.0/24',
    ],
    ['base', {}, '--advertise is needed, since --listen 0.0.0.0:7400 names no single address'],
    ['base', { flags: { advertise: '0.0.0.0' } }, "--advertise: '0.0.0.0' is no address that others can reach"],
    [
      'base',
      { flags: { advertise: 'b.example,b c' } },
      "--advertise: 'b.example,b c' contains 'b c', which is not a host like",
    ],
    ['base', { flags: { listen: '7400' } }, "--listen: '7400' is not an address and port"],
    ['base', { flags: { listen: '0.0.0.0:70000' } }, "--listen: '0.0.0.0:70000' is not an address and port"],
    [
      'base',
      { flags: { 'membership-ttl': '30' } },
      "--membership-ttl: '30' is not a duration like 30s, 10m, 24h or 30d",
    ],
    ['base', { flags: { 'certificate-ttl': '2s' } }, "--certificate-ttl: '2s' must lie between 10s and 397d"],
    [
      'supernode',
      { flags: { ...sn, 'relay-ports': '49999-40000' } },
      "--relay-ports: '49999-40000' does not go upwards",
    ],
    ['supernode', { flags: { ...sn, 'relay-ports': '500-999' } }, "--relay-ports: '500-999' reaches below 1024"],
    ['supernode', { flags: { ...sn, 'relay-ports': '40000' } }, "--relay-ports: '40000' is not a range of ports like"],
    [
      'supernode',
      { flags: { ...sn, 'probe-port': '40001' } },
      '--probe-port: 40001 lies within --relay-ports 40001-49999',
    ],
    ['supernode', { flags: { ...sn, 'wireguard-port': '40001' } }, '--wireguard-port: 40001 lies within --relay-ports'],
    ['supernode', { flags: { ...sn, 'wireguard-port': '40000' } }, '--wireguard-port: 40000 is the --probe-port too'],
    ['supernode', { flags: { ...sn, 'probe-port': '0' } }, "--probe-port: '0' is not a port from 1 to 65535, nor off"],
    [
      'supernode',
      { flags: { advertise: 'sn.example.org' } },
      '--relay-ip is needed, since --advertise names no IP address',
    ],
    [
      'supernode',
      { flags: { ...sn, 'relay-ip': '203.0.113.7,203.0.113.8' } },
      '--relay-ip: more than one IPv4 address',
    ],
    ['supernode', { flags: { ...sn, 'relay-ip': '::' } }, "--relay-ip: '::' is no address that others can reach"],
    ['supernode', { flags: { ...sn, egress: 'maybe' } }, "--egress: 'maybe' is not on or off"],
    ['supernode', { flags: { ...sn, capacity: '0' } }, "--capacity: '0' is not a whole number from 1 to"],
    ['supernode', { flags: { ...sn, capacity: '1e3' } }, "--capacity: '1e3' is not a whole number from 1 to"],
    ['exit', { flags: { region: 'EU West' } }, "--region: 'EU West' is not a region like eu or us-east-1"],
    ['exit', { flags: { country: 'Germany' } }, "--country: 'Germany' is not a country code of two letters like DE"],
    [
      'exit',
      { flags: { 'public-endpoint': 'home.example.org:51820' } },
      "--public-endpoint: 'home.example.org:51820' is not an IP address and port",
    ],
    [
      'exit',
      { flags: { interface: 'a-name-that-is-too-long' } },
      "--interface: 'a-name-that-is-too-long' is not an interface name",
    ],
    ['exit', { flags: { 'max-mbps': '-1' } }, "--max-mbps: '-1' is not a number like 100 or 12.5"],
    ['exit', { flags: { ipv6: 'yes' } }, "--ipv6: 'yes' is not one of auto, on, off"],
    ['exit', { flags: { dataplane: 'Kernel' } }, "--dataplane: 'Kernel' is not one of auto, kernel, userspace, memory"],
    ['exit', { flags: { 'state-dir': 'state' } }, "--state-dir: 'state' is not an absolute path"],
    ['exit', { flags: { 'state-dir': `/${'x'.repeat(110)}` } }, 'is too long for a unix socket (at most 107 bytes)'],
    [
      'exit',
      { env: { VPND_LOG_LEVEL: '' } },
      "--log-level (from VPND_LOG_LEVEL): '' is not one of debug, info, warn, error",
    ],
    [
      'exit',
      { file: toml('log-level = "loud"') },
      "--log-level (from 'log-level' in /etc/vpnd/x.toml): 'loud' is not one of",
    ],
    [
      'exit',
      { file: toml('log-level = [1]') },
      "--log-level (from 'log-level' in /etc/vpnd/x.toml): must be text, a number or true/false",
    ],
    ['exit', { file: toml('log-level = "a"\nb =') }, '/etc/vpnd/x.toml is not TOML: line 2'],
    [
      'exit',
      { file: toml('log-levle = "warn"') },
      "'log-levle' in /etc/vpnd/x.toml is not a setting of an exit; did you mean log-level?",
    ],
    ['exit', { file: toml('[exit]\nregion = "eu"') }, "'exit' in /etc/vpnd/x.toml is not a setting of an exit"],
    [
      'exit',
      { file: toml('relay-ports = "40000-49999"') },
      "'relay-ports' in /etc/vpnd/x.toml is not a setting of an exit (but of a supernode)",
    ],
    [
      'exit',
      { env: { VPND_LOG_LVEL: 'warn' } },
      'VPND_LOG_LVEL is not a setting of an exit; did you mean VPND_LOG_LEVEL?',
    ],
    ['exit', { env: { VPND_EGRESS: 'on' } }, 'VPND_EGRESS is not a setting of an exit (but of a supernode)'],
    ['exit', { flags: { 'join-file': '/no/such' } }, "--join-file: '/no/such' does not exist"],
    ['exit', { flags: { 'join-file': '/f', join: TOKEN } }, '--join-file: give either --join or --join-file, not both'],
    ['client', { flags: { table: '254' } }, "--table: 254 is the kernel's own table"],
    ['client', { flags: { table: '252' } }, "--table: 252 to 254 are used, and 253 is the kernel's own table"],
    ['client', { flags: { table: '4294967294' } }, "--table: '4294967294' is not a whole number from 1 to 4294967293"],
    [
      'client',
      { env: { VPND_INTERFACE: 'wg-my-laptop-a' } },
      "--interface (from VPND_INTERFACE): 'wg-my-laptop-a' is too long: a client puts -1 and -2 behind it",
    ],
    ['client', { flags: { privacy: 'paranoid' } }, "--privacy: 'paranoid' is not one of auto, direct, private"],
    ['client', { flags: { standby: 'warm' } }, "--standby: 'warm' is not on or off"],
    ['client', { flags: { 'rotate-every': '10s' } }, "--rotate-every: '10s' must lie between 1m and 30d"],
    ['client', { flags: { 'rotate-every': 'hourly' } }, "--rotate-every: 'hourly' is not a duration"],
    ['client', { flags: { 'rotate-every': '0s' } }, "--rotate-every: '0s' must lie between 1m and 30d"],
    [
      'exit',
      { flags: { standby: 'on' }, file: toml('standby = true') },
      'is not a setting of an exit (but of a client)',
    ],
    ['exit', { flags: { 'uplink-check': 'example.net' } }, "--uplink-check: 'example.net' is not a host and port like"],
    [
      'exit',
      { flags: { 'uplink-check': 'example.net:443,0.0.0.0:1' } },
      "contains '0.0.0.0:1', which is no address that others can reach",
    ],
    ['supernode', { flags: { ...sn, 'drain-timeout': '25h' } }, "--drain-timeout: '25h' must lie between 0ms and 1d"],
    ['supernode', { flags: { ...sn, 'drain-timeout': '15' } }, "--drain-timeout: '15' is not a duration like 30s"],
  ];
  for (const [role, over, expected] of cases) {
    const line = complaint(role, over);
    t.ok(line.startsWith('bad-config: '), line);
    t.ok(line.includes(expected), `${line}\n  should say: ${expected}`);
    t.notMatch(line, /\n/, 'one line');
  }
});

t.test('a join token comes from a flag, a variable or a file, and is never repeated', async (t) => {
  t.equal(good('exit', { flags: { join: TOKEN } }).join, TOKEN);
  t.equal(good('exit', { env: { VPND_JOIN: TOKEN } }).join, TOKEN);
  t.equal(good('exit', { flags: { join: `${TOKEN.slice(0, 20).toUpperCase()}\n ${TOKEN.slice(20)}\n` } }).join, TOKEN);
  const read = (path: string) => (path === '/etc/token' ? `${TOKEN}\n` : missing(path));
  t.equal(good('exit', { env: { VPND_JOIN_FILE: '/etc/token' }, read }).join, TOKEN);
  const other = TOKEN.replace('abc', 'xyz');
  t.equal(good('exit', { env: { VPND_JOIN_FILE: '/etc/token' }, flags: { join: other }, read }).join, other);
  const canary = 'vpnd1SECRET!CANARY';
  t.notMatch(complaint('exit', { flags: { join: canary } }), 'CANARY');
  t.match(complaint('exit', { flags: { join: canary } }), '--join: the value is not a join token');
  t.notMatch(complaint('exit', { flags: { 'join-file': '/x' }, read: () => canary }), 'CANARY');
  t.notMatch(complaint('exit', { file: toml(`join = "${canary}`) }), 'CANARY', 'nor by the parser of the file');
});

t.test('the file is the named one, or that of the role where there is one', async (t) => {
  const files: Record<string, string> = { '/etc/vpnd/exit.toml': 'region = "eu"', '/my.toml': 'region = "us"' };
  const read = (path: string) => files[path] ?? missing(path);
  const region = (config: string | undefined, env: NodeJS.ProcessEnv = {}) => {
    const loaded = loadRawConfig('exit', {}, config, env, { read, readSecret: missing });
    if (!loaded.ok) return loaded.error.message;
    const parsed = parseConfig('exit', loaded.value);
    return parsed.ok ? parsed.value.region : parsed.error.message;
  };
  t.equal(region(undefined), 'eu');
  t.equal(region('/my.toml'), 'us');
  t.equal(region(undefined, { VPND_CONFIG: '/my.toml' }), 'us');
  t.equal(region('/gone.toml'), "--config: '/gone.toml' does not exist");
  t.equal(region(undefined, { VPND_CONFIG: '/gone.toml' }), "--config (from VPND_CONFIG): '/gone.toml' does not exist");
  t.ok(loadRawConfig('client', {}, undefined, {}, { read, readSecret: missing }).ok, 'no file at all is fine');
});

t.test('a supernode that listens on several ports is advertised on each of them', async (t) => {
  const addresses = (flags: Record<string, string>) =>
    good('supernode', { flags: { 'relay-ip': '203.0.113.7', ...flags } }).advertise.map(formatHostPort);
  const also = { listen: '0.0.0.0:8443', 'listen-also': '0.0.0.0:443,203.0.113.9:80' };
  t.same(addresses({ ...also, advertise: '203.0.113.7,203.0.113.9,sn.example.org:5' }), [
    '203.0.113.7:8443',
    '203.0.113.9:8443',
    'sn.example.org:5',
    '203.0.113.7:443',
    '203.0.113.9:443',
    '203.0.113.9:80',
  ]);
  t.same(addresses({ listen: '203.0.113.7:8443', 'listen-also': '0.0.0.0:443' }), [
    '203.0.113.7:8443',
    '203.0.113.7:443',
  ]);
  t.equal(
    complaint('supernode', { flags: { 'listen-also': '0.0.0.0:443', advertise: '203.0.113.7' } }),
    'bad-config: --listen-also: 0.0.0.0:443 is listened on already',
  );
});

t.test('docs/configuration.md is what the table of options says', async (t) => {
  const root = [new URL('../../', import.meta.url), new URL('../../../', import.meta.url)];
  const found = root.flatMap((dir) => {
    try {
      return [readFileSync(new URL('docs/configuration.md', dir), 'utf8')];
    } catch {
      return [];
    }
  });
  t.equal(found[0], renderDocumentation(), 'run: node dist/src/cli/print-options.js > docs/configuration.md');
});
