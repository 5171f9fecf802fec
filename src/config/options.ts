import type { Role } from '../model/role.js';
import { days, hours, minutes, seconds } from '../model/time.js';
import { type OptionTable, option, optional } from './option.js';
import * as v from './values.js';

/** The port /metrics and /healthz have on each role, so that all four can share a machine. */
const METRICS_PORT: Record<Role, number> = { base: 9470, supernode: 9471, exit: 9472, client: 9473 };

const common = <R extends Role>(role: R) => ({
  stateDir: option({
    name: 'state-dir',
    value: '<dir>',
    parse: v.absolutePath,
    default: `/var/lib/vpnd/${role}`,
    help: 'Directory of keys, database, lock and socket; one for each daemon',
    example: `/srv/vpnd/${role}`,
  }),
  socket: optional({
    name: 'socket',
    value: '<path>',
    parse: v.absolutePath,
    help: 'Unix socket of the local API; vpnd.sock in the state directory unless given',
    example: `/run/vpnd/${role}.sock`,
  }),
  user: optional({
    name: 'user',
    value: '<user>',
    parse: v.userName,
    help: `User that a daemon started by root becomes, by name or number: ${role === 'base' ? 'vpnd-base' : 'vpnd'} unless given, made where there is none; root stays root. No effect on a daemon that another user starts`,
    example: 'vpnd',
  }),
  metricsListen: option({
    name: 'metrics',
    value: '<host:port>',
    parse: v.unlessOff(v.listenAddress),
    default: `127.0.0.1:${METRICS_PORT[role]}`,
    help: 'Where /metrics and /healthz are served, or off',
    example: '10.0.0.5:9470',
  }),
  logLevel: option({
    name: 'log-level',
    value: '<level>',
    parse: v.oneOf('debug', 'info', 'warn', 'error'),
    default: 'info',
    help: 'Least important lines to log: debug, info, warn or error',
    example: 'debug',
  }),
  logPrivacy: option({
    name: 'log-privacy',
    value: '<mode>',
    parse: v.oneOf('strict', 'partial', 'off'),
    default: 'partial',
    help: 'What the log says of peers: strict has no address and no session at any level; partial has shortened ids, and in debug lines the /24 or /48 of an address; off has whole ids, and in debug lines whole addresses',
    example: 'strict',
  }),
});

/** What every daemon has. */
export type CommonTable = ReturnType<typeof common>;

const member = {
  join: optional({
    name: 'join',
    value: '<token>',
    parse: v.joinToken,
    help: 'Join token from `vpnd token create`, needed at the first start; another one later enrols the node anew. A flag stays in the history of the shell, so prefer --join-file',
    example: 'vpnd1abc…',
    secret: true,
  }),
  joinFile: optional({
    name: 'join-file',
    value: '<path>',
    parse: v.filePath,
    help: 'File that holds the join token, which nobody but its owner may change',
    example: '/etc/vpnd/join-token',
  }),
  region: optional({
    name: 'region',
    value: '<region>',
    parse: v.region,
    help: "Region of this node; must agree with the token's, which counts when this is left out",
    example: 'eu',
  }),
};

const retained = {
  retainSessions: option({
    name: 'retain-sessions',
    value: '<duration>',
    parse: v.duration(minutes(10), days(365)),
    default: '24h',
    help: 'How long what is left of ended sessions is kept: answers to commands, and which sessions there were',
    example: '1h',
  }),
  retainEvents: option({
    name: 'retain-events',
    value: '<duration>',
    parse: v.duration(minutes(1), days(3650)),
    default: '7d',
    help: 'How long the events that `vpnd events` shows are kept',
    example: '1d',
  }),
};

const retainAudit = option({
  name: 'retain-audit',
  value: '<duration>',
  parse: v.duration(days(1), days(36_500)),
  default: '365d',
  help: 'How long entries of the audit log are kept',
  example: '90d',
});

const forwarding = (device: string, name = 'Name of the WireGuard interface') => ({
  interface: option({
    name: 'interface',
    value: '<name>',
    parse: v.interfaceName,
    default: device,
    help: name,
    example: device,
  }),
  dataplane: option({
    name: 'dataplane',
    value: '<engine>',
    parse: v.oneOf('auto', 'kernel', 'userspace', 'memory'),
    default: 'auto',
    help: 'WireGuard engine: kernel, userspace (wireguard-go), auto for the first of them there is; memory forwards nothing and is for trying out',
    example: 'kernel',
  }),
});

const pq = (standard: 'require' | 'prefer', help: string) =>
  option({
    name: 'pq',
    value: '<mode>',
    parse: v.oneOf('require', 'prefer', 'off'),
    default: standard,
    help,
    example: 'off',
  });

const countryOption = optional({
  name: 'country',
  value: '<code>',
  parse: v.country,
  help: 'Country that traffic leaves from, ISO 3166-1 alpha-2',
  example: 'DE',
});

const base = {
  ...common('base'),
  listen: option({
    name: 'listen',
    value: '<host:port>',
    parse: v.listenAddress,
    default: '0.0.0.0:7400',
    help: 'Where supernodes and newcomers connect (TCP)',
    example: '[::]:7400',
  }),
  advertise: optional({
    name: 'advertise',
    value: '<host[:port]>',
    parse: v.listOf(v.advertised),
    help: 'Where others reach base, best first; join tokens carry it; needed unless --listen names one address',
    example: 'base.example.org',
    many: true,
  }),
  poolIpv4: option({
    name: 'pool-ipv4',
    value: '<cidr>',
    parse: v.network(4, 8, 24, '10.200.0.0/13'),
    default: '10.200.0.0/13',
    help: 'Inner IPv4 addresses of the whole overlay',
    example: '10.64.0.0/12',
  }),
  poolIpv6: option({
    name: 'pool-ipv6',
    value: '<cidr>',
    parse: v.network(6, 16, 56, 'fd76:706e:6400::/48'),
    default: 'fd76:706e:6400::/48',
    help: 'Inner IPv6 addresses of the whole overlay; supernodes are leased /64 blocks of it',
    example: 'fd12:3456:789a::/48',
  }),
  blockLength: option({
    name: 'block-length',
    value: '<length>',
    parse: v.integer(16, 28),
    default: '22',
    help: 'Prefix length of the IPv4 blocks leased to supernodes',
    example: '24',
  }),
  membershipTtl: option({
    name: 'membership-ttl',
    value: '<duration>',
    parse: v.duration(seconds(10), days(3650)),
    default: '30d',
    help: 'How long a membership lasts when it is not renewed',
    example: '7d',
  }),
  certificateTtl: option({
    name: 'certificate-ttl',
    value: '<duration>',
    parse: v.duration(seconds(10), days(397)),
    default: '24h',
    help: "How long a supernode's TLS certificate lasts; renewed at two thirds",
    example: '12h',
  }),
  retainAudit,
} satisfies OptionTable;

const supernode = {
  ...common('supernode'),
  ...member,
  listen: option({
    name: 'listen',
    value: '<host:port>',
    parse: v.listenAddress,
    default: '0.0.0.0:443',
    help: 'Where peers and other supernodes connect (TCP)',
    example: '[::]:443',
  }),
  listenAlso: optional({
    name: 'listen-also',
    value: '<host:port>',
    parse: v.listOf(v.listenAddress),
    help: 'Further addresses to listen on (TCP): --listen on another port, and 443 here, serves networks that let nothing else out',
    example: '0.0.0.0:443',
    many: true,
  }),
  advertise: optional({
    name: 'advertise',
    value: '<host[:port]>',
    parse: v.listOf(v.advertised),
    help: 'Where others reach this supernode, best first, without a port on every port it listens on; needed unless --listen names one address',
    example: '203.0.113.7',
    many: true,
  }),
  relayIps: optional({
    name: 'relay-ip',
    value: '<ip>',
    parse: v.listOf(v.ip),
    help: 'Public addresses that relay ports are on, at most one of each family; the advertised addresses unless given',
    example: '203.0.113.7,2001:db8::7',
    many: true,
  }),
  relayPorts: option({
    name: 'relay-ports',
    value: '<from-to>',
    parse: v.portRange,
    default: '40001-49999',
    help: 'UDP ports for relaying, one or two for each session',
    example: '50000-59999',
  }),
  probePort: option({
    name: 'probe-port',
    value: '<port>',
    parse: v.unlessOff(v.port),
    default: '40000',
    help: 'UDP port that tells peers how their NAT maps them, or off; by default beside the relay ports, so that one range is opened',
    example: '3479',
  }),
  egress: option({
    name: 'egress',
    value: '<on|off>',
    parse: v.onOff,
    default: 'off',
    help: 'Be an exit too, for regions that have none; base allows it by a token made with --egress',
    example: 'on',
    switch: true,
  }),
  ...forwarding('wg-relay'),
  wireguardPort: option({
    name: 'wireguard-port',
    value: '<port>',
    parse: v.port,
    default: '51820',
    help: 'UDP port of WireGuard with --egress',
    example: '51821',
  }),
  country: countryOption,
  sessionCapacity: option({
    name: 'capacity',
    value: '<sessions>',
    parse: v.integer(1, 1_000_000),
    default: '10000',
    help: 'Sessions at one time before newcomers are sent elsewhere',
    example: '2000',
  }),
  lease: option({
    name: 'lease',
    value: '<duration>',
    parse: v.duration(seconds(1), days(30)),
    default: '1h',
    help: 'How long a session lives with nobody renewing it',
    example: '10m',
  }),
  drainTimeout: option({
    name: 'drain-timeout',
    value: '<duration>',
    parse: v.duration(seconds(0), hours(24)),
    default: '15s',
    help: 'How long a supernode that is stopped waits for its sessions to move to others, where there are any; 0s leaves them in the kernel for the next start',
    example: '2m',
  }),
  ...retained,
  retainAudit,
} satisfies OptionTable;

const exit = {
  ...common('exit'),
  ...member,
  ...forwarding('wg-exit'),
  country: countryOption,
  publicEndpoint: optional({
    name: 'public-endpoint',
    value: '<ip:port>',
    parse: v.endpoint,
    help: 'Public address or forwarded port of this exit (UDP); clients then come straight to it',
    example: '198.51.100.4:51820',
  }),
  wireguardPort: optional({
    name: 'wireguard-port',
    value: '<port>',
    parse: v.port,
    help: "UDP port of WireGuard; the kernel's choice, or with --public-endpoint its port, unless given",
    example: '51820',
  }),
  maxMbps: option({
    name: 'max-mbps',
    value: '<number>',
    parse: v.amount,
    default: '0',
    help: 'Bandwidth lent to clients in Mbit/s, in each direction and all of them together; they share it evenly. 0 for no limit',
    example: '100',
  }),
  maxSessionMbps: option({
    name: 'max-session-mbps',
    value: '<number>',
    parse: v.amount,
    default: '0',
    help: 'The most that one session gets of it, in each direction, even where nobody else wants any; 0 for no limit',
    example: '20',
  }),
  sessionCapacity: option({
    name: 'capacity',
    value: '<sessions>',
    parse: v.integer(1, 100_000),
    default: '1000',
    help: 'Sessions at one time',
    example: '20',
  }),
  maxConnections: option({
    name: 'max-connections',
    value: '<number>',
    parse: v.integer(0, 1_000_000),
    default: '1000',
    help: 'Connections that one session has open at a time, by IPv4 and by IPv6 each; 0 for no limit',
    example: '300',
  }),
  maxNewConnections: option({
    name: 'max-new-connections',
    value: '<number>',
    parse: v.integer(0, 100_000),
    default: '50',
    help: "New connections of one session in a second, by IPv4 and by IPv6 each; ten seconds' worth may come at once. 0 for no limit",
    example: '20',
  }),
  maxNewConnectionsInAll: option({
    name: 'max-new-connections-in-all',
    value: '<number>',
    parse: v.integer(0, 100_000),
    default: '200',
    help: 'The same of all sessions together, so that the router at home keeps up; 0 for no limit',
    example: '100',
  }),
  forbid: optional({
    name: 'forbid',
    value: '<network>',
    parse: v.listOf(v.forbidden),
    help: 'Networks that clients never reach, besides private and special addresses, this machine and the networks it is connected to, which they never do',
    example: '203.0.113.0/24,2001:db8:5::/48',
    many: true,
  }),
  hours: optional({
    name: 'hours',
    value: '<hours>',
    parse: v.openingHours,
    help: 'When this exit is lent: times that hold for the days that nothing else in the list names. Outside of them clients go elsewhere, and two and a half minutes later whoever is left is put out. Always unless given',
    example: '08:00-23:00,Sat-Sun 10:00-24:00',
    many: true,
  }),
  timeZone: optional({
    name: 'time-zone',
    value: '<zone>',
    parse: v.timeZone,
    help: "Whose clock --hours and the day's figures go by; this machine's unless given",
    example: 'Europe/Berlin',
  }),
  ipv6: option({
    name: 'ipv6',
    value: '<mode>',
    parse: v.oneOf('auto', 'on', 'off'),
    default: 'auto',
    help: 'Carry IPv6: on, off, or auto when this machine has a global route for it',
    example: 'off',
  }),
  pq: pq(
    'prefer',
    'Post-quantum pre-shared keys (ML-KEM-768): prefer makes one wherever the client asks for it; require refuses clients that do not; off makes none',
  ),
  wireguardKeyEvery: option({
    name: 'wireguard-key-every',
    value: '<duration>',
    parse: v.unlessOff(v.duration(hours(1), days(365))),
    default: '7d',
    help: 'How often the WireGuard key is replaced, without ending a session; off keeps it until `vpnd keys rotate wireguard`',
    example: '1d',
  }),
  uplinkCheck: optional({
    name: 'uplink-check',
    value: '<host:port>',
    parse: v.listOf(v.service),
    help: "TCP services whose silence means that this exit has lost the internet; the overlay's own servers are always among them",
    example: 'www.example.net:443',
    many: true,
  }),
  ...retained,
} satisfies OptionTable;

const client = {
  ...common('client'),
  ...member,
  ...forwarding(
    'wg-client',
    'Name of the WireGuard interface; further tunnels put -1 and -2 behind it, so 13 characters at most',
  ),
  table: option({
    name: 'table',
    value: '<number>',
    parse: v.integer(1, 4_294_967_293),
    default: '51820',
    help: 'First of the three routing tables of the tunnels: this one and the two numbers after it',
    example: '5182',
  }),
  privacy: option({
    name: 'privacy',
    value: '<mode>',
    parse: v.oneOf('auto', 'direct', 'private'),
    default: 'auto',
    help: 'auto goes direct where it works; direct prefers exits that are reached so and keeps trying; private always takes two supernodes, so that none sees both ends',
    example: 'private',
  }),
  standby: option({
    name: 'standby',
    value: '<on|off>',
    parse: v.onOff,
    default: 'on',
    help: 'Keep a second tunnel ready, to another exit over other supernodes where there are any',
    example: 'off',
  }),
  pq: pq(
    'require',
    'Post-quantum pre-shared keys (ML-KEM-768): require refuses exits that take no part; prefer goes without where it must; off never asks',
  ),
  dns: option({
    name: 'dns',
    value: '<ip>',
    parse: v.unlessOff(v.resolvers),
    default: '9.9.9.9,149.112.112.112',
    help: "Who is asked for names while a tunnel is up, through it: up to three public resolvers (Quad9's unless given), or this machine's own at 127.0.0.1; off leaves the resolver alone, whoever that is",
    example: '1.1.1.1,1.0.0.1',
    many: true,
  }),
  allowLan: option({
    name: 'allow-lan',
    value: '<on|off>',
    parse: v.onOff,
    default: 'off',
    help: 'Let private networks beside this machine be reached while a tunnel is wanted (printers, shares, the router), and discovery on them; never public addresses, and never for names',
    example: 'on',
    switch: true,
  }),
  exclude: optional({
    name: 'exclude',
    value: '<cidr>',
    parse: v.listOf(v.anyNetwork),
    help: 'Networks that are reached outside the tunnel, in the open, by whatever way this machine has without it; programs: `vpnd exclude`',
    example: '203.0.113.0/24',
    many: true,
  }),
  lockdown: optional({
    name: 'lockdown',
    value: '<on|off>',
    parse: v.onOff,
    help: 'Hold all traffic unless there is a tunnel: before vpnd up and after vpnd down, while the daemon is stopped or dead, and from boot on; stays as it is unless given',
    example: 'on',
    switch: true,
  }),
  rotateEvery: optional({
    name: 'rotate-every',
    value: '<duration>',
    parse: v.duration(minutes(1), days(30)),
    help: 'Go over to another exit this often, without breaking what is open; never unless given',
    example: '1h',
  }),
  ...retained,
} satisfies OptionTable;

/** All settings of each role. Keys are the fields of that role's configuration in types.ts. */
export const OPTIONS = { base, supernode, exit, client } satisfies Record<Role, OptionTable>;
