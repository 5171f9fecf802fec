import type { BaseConfig, ClientConfig, ExitConfig, SupernodeConfig } from '../../../src/config/types.js';
import { type Cidr, type IpAddress, type Port, parseCidr } from '../../../src/model/address.js';
import type { InterfaceName } from '../../../src/model/dataplane.js';
import { days, hours, seconds } from '../../../src/model/time.js';

const common = (name: string) => ({
  stateDir: `/nowhere/${name}`,
  socket: `/nowhere/${name}/vpnd.sock`,
  user: undefined,
  metricsListen: undefined,
  logLevel: 'info' as const,
  logPrivacy: 'strict' as const,
});
const member = (name: string) => ({
  ...common(name),
  join: undefined,
  region: undefined,
  dataplane: 'memory' as const,
  retainSessions: hours(24),
  retainEvents: days(7),
});

const cidr = (text: string): Cidr => {
  const parsed = parseCidr(text);
  if (!parsed.ok) throw new Error(text);
  return parsed.value;
};

export const CONTROL_PORT = 443 as Port;

export const baseConfig = (name: string, ip: IpAddress, change: Partial<BaseConfig> = {}): BaseConfig => ({
  ...common(name),
  role: 'base',
  listen: { host: ip, port: CONTROL_PORT },
  advertise: [{ host: ip, port: CONTROL_PORT }],
  poolIpv4: cidr('10.200.0.0/13'),
  poolIpv6: cidr('fd76:706e:64::/48'),
  blockLength: 22,
  membershipTtl: days(30),
  certificateTtl: hours(24),
  retainAudit: days(365),
  ...change,
});

export const supernodeConfig = (
  name: string,
  ip: IpAddress,
  change: Partial<SupernodeConfig> = {},
): SupernodeConfig => ({
  ...member(name),
  role: 'supernode',
  listen: { host: ip, port: CONTROL_PORT },
  advertise: [{ host: ip, port: CONTROL_PORT }],
  relayIps: [ip],
  relayPorts: { from: 40_000 as Port, to: 40_999 as Port },
  probePort: 3478 as Port,
  egress: false,
  interface: 'wg-relay' as InterfaceName,
  listenAlso: [],
  wireguardPort: 51_820 as Port,
  country: undefined,
  sessionCapacity: 200,
  lease: hours(1),
  drainTimeout: seconds(0),
  retainAudit: days(365),
  ...change,
});

export const exitConfig = (name: string, change: Partial<ExitConfig> = {}): ExitConfig => ({
  ...member(name),
  role: 'exit',
  interface: 'wg-exit' as InterfaceName,
  country: undefined,
  publicEndpoint: undefined,
  wireguardPort: undefined,
  maxMbps: 0,
  maxSessionMbps: 0,
  maxConnections: 1000,
  maxNewConnections: 50,
  maxNewConnectionsInAll: 200,
  forbid: [],
  hours: undefined,
  timeZone: 'UTC',
  sessionCapacity: 50,
  ipv6: 'auto',
  uplinkCheck: [],
  wireguardKeyEvery: undefined,
  pq: 'prefer',
  ...change,
});

export const clientConfig = (name: string, change: Partial<ClientConfig> = {}): ClientConfig => ({
  ...member(name),
  role: 'client',
  interface: 'wg-client' as InterfaceName,
  table: 51_820,
  privacy: 'auto',
  standby: false,
  allowLan: false,
  exclude: [],
  lockdown: undefined,
  rotateEvery: undefined,
  pq: 'require',
  dns: ['9.9.9.9' as IpAddress],
  ...change,
});
