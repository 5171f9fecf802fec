import { familyOf, formatHostPort, type HostPort, type IpAddress, parseIp, prefixLength } from '../model/address.js';
import { VpndError } from '../model/errors.js';
import { err, ok, type Result } from '../model/result.js';
import type { Role } from '../model/role.js';
import { flagOf, type Option, type OptionTable, type Values } from './option.js';
import { type CommonTable, OPTIONS } from './options.js';
import { secretOf } from './secrets.js';
import { type Given, gather, type RawConfig } from './sources.js';
import type {
  BaseConfig,
  ClientConfig,
  CommonConfig,
  DaemonConfig,
  ExitConfig,
  RetentionConfig,
  SupernodeConfig,
} from './types.js';
import { type AdvertisedHost, isUnspecified } from './values.js';

type ConfigOf<R extends Role> = Extract<DaemonConfig, { role: R }>;
type Table<R extends Role> = (typeof OPTIONS)[R];

/** A unix socket's path as the kernel holds it: 108 bytes with the final NUL. */
export const SOCKET_PATH_LIMIT = 107;

/** A client has up to three tunnels, each with an interface and a routing table of its own. */
const TUNNELS = [0, 1, 2];
/** An interface's name has 15 characters at most, and `-1` stands behind this one. */
const CLIENT_INTERFACE_LIMIT = 13;

/**
 * The configuration of a daemon, frozen, or one line that names the setting, where its value came from and what is
 * wrong with it. Nothing outside `raw` is consulted. Errors: VpndError `bad-config`.
 */
export function parseConfig<R extends Role>(role: R, raw: RawConfig): Result<ConfigOf<R>, VpndError> {
  const given = gather(role, raw);
  if (!given.ok) return given;
  try {
    return ok(deepFreeze(BUILDERS[role](given.value, raw)));
  } catch (thrown) {
    if (thrown instanceof VpndError && thrown.code === 'bad-config') return err(thrown);
    throw thrown;
  }
}

type AllGiven = ReadonlyMap<string, Given>;
/** Inside this file a refusal is thrown, so that the checks below read as a list. */
const refuse = (message: string): never => {
  throw new VpndError('bad-config', message);
};

const BUILDERS: { readonly [R in Role]: (given: AllGiven, raw: RawConfig) => ConfigOf<R> } = {
  base: buildBase,
  supernode: buildSupernode,
  exit: buildExit,
  client: buildClient,
};

function valuesOf<R extends Role>(role: R, given: AllGiven, raw: RawConfig): Values<Table<R>> {
  const table: OptionTable = OPTIONS[role];
  const values: Record<string, unknown> = {};
  for (const [key, option] of Object.entries(table)) {
    const found = option.secret ? secretOf(key, option, given, raw) : given.get(key);
    values[key] = found === undefined ? undefined : readValue(option, found);
  }
  return values as Values<Table<R>>;
}

function readValue(option: Option<unknown>, { text, where }: Given): unknown {
  const parsed = option.parse(text);
  if (parsed.ok) return parsed.value;
  if (!option.secret) return refuse(`${where}: '${text.slice(0, 200)}' ${parsed.error}`);
  // "--join-file: what 'token' holds is not a join token"
  return refuse(where.endsWith(' holds') ? `${where} ${parsed.error}` : `${where}: the value ${parsed.error}`);
}

function buildBase(given: AllGiven, raw: RawConfig): BaseConfig {
  const v = valuesOf('base', given, raw);
  if (v.blockLength < prefixLength(v.poolIpv4)) {
    refuse(`${where(given, 'blockLength')}: a /${v.blockLength} does not fit into --pool-ipv4 ${v.poolIpv4}`);
  }
  return {
    role: 'base',
    ...common(v),
    listen: v.listen,
    advertise: advertise(given, v.advertise, [v.listen], 'join tokens carry it'),
    poolIpv4: v.poolIpv4,
    poolIpv6: v.poolIpv6,
    blockLength: v.blockLength,
    membershipTtl: v.membershipTtl,
    certificateTtl: v.certificateTtl,
    retainAudit: v.retainAudit,
  };
}

function buildSupernode(given: AllGiven, raw: RawConfig): SupernodeConfig {
  const v = valuesOf('supernode', given, raw);
  const listenAlso = v.listenAlso ?? [];
  const listens: readonly [HostPort, ...HostPort[]] = [v.listen, ...listenAlso];
  const twice = listenAlso.find((at, i) => listens.slice(0, i + 1).some((one) => sameHostPort(one, at)));
  if (twice !== undefined) refuse(`${where(given, 'listenAlso')}: ${formatHostPort(twice)} is listened on already`);
  const addresses = advertise(given, v.advertise, listens, 'peers dial it');
  const inRelayRange = (at: number): boolean => at >= v.relayPorts.from && at <= v.relayPorts.to;
  const range = `--relay-ports ${v.relayPorts.from}-${v.relayPorts.to}`;
  if (v.probePort !== undefined && inRelayRange(v.probePort)) {
    refuse(`${where(given, 'probePort')}: ${v.probePort} lies within ${range}`);
  }
  if (inRelayRange(v.wireguardPort)) {
    refuse(`${where(given, 'wireguardPort')}: ${v.wireguardPort} lies within ${range}`);
  }
  if (v.probePort === v.wireguardPort) {
    refuse(`${where(given, 'wireguardPort')}: ${v.wireguardPort} is the --probe-port too`);
  }
  return {
    role: 'supernode',
    ...common(v),
    join: v.join,
    region: v.region,
    listen: v.listen,
    listenAlso,
    advertise: addresses,
    relayIps: relayIps(given, v.relayIps, addresses),
    relayPorts: v.relayPorts,
    probePort: v.probePort,
    egress: v.egress,
    interface: v.interface,
    wireguardPort: v.wireguardPort,
    dataplane: v.dataplane,
    country: v.country,
    sessionCapacity: v.sessionCapacity,
    lease: v.lease,
    drainTimeout: v.drainTimeout,
    ...retention(v),
    retainAudit: v.retainAudit,
  };
}

function buildExit(given: AllGiven, raw: RawConfig): ExitConfig {
  const v = valuesOf('exit', given, raw);
  return {
    role: 'exit',
    ...common(v),
    join: v.join,
    region: v.region,
    interface: v.interface,
    dataplane: v.dataplane,
    country: v.country,
    publicEndpoint: v.publicEndpoint,
    wireguardPort: v.wireguardPort ?? v.publicEndpoint?.port,
    maxMbps: v.maxMbps,
    maxSessionMbps: v.maxSessionMbps,
    maxConnections: v.maxConnections,
    maxNewConnections: v.maxNewConnections,
    maxNewConnectionsInAll: v.maxNewConnectionsInAll,
    forbid: v.forbid ?? [],
    hours: v.hours,
    timeZone: v.timeZone,
    sessionCapacity: v.sessionCapacity,
    ipv6: v.ipv6,
    pq: v.pq,
    wireguardKeyEvery: v.wireguardKeyEvery,
    uplinkCheck: v.uplinkCheck ?? [],
    ...retention(v),
  };
}

function buildClient(given: AllGiven, raw: RawConfig): ClientConfig {
  const v = valuesOf('client', given, raw);
  const taken = TUNNELS.map((slot) => v.table + slot).find((table) => table >= 253 && table <= 255);
  if (taken !== undefined) {
    const which = taken === v.table ? '' : `${v.table} to ${v.table + 2} are used, and `;
    refuse(`${where(given, 'table')}: ${which}${taken} is the kernel's own table (default, main or local)`);
  }
  if (v.interface.length > CLIENT_INTERFACE_LIMIT) {
    refuse(
      `${where(given, 'interface')}: '${v.interface}' is too long: a client puts -1 and -2 behind it for further tunnels, so at most ${CLIENT_INTERFACE_LIMIT} characters`,
    );
  }
  return {
    role: 'client',
    ...common(v),
    join: v.join,
    region: v.region,
    interface: v.interface,
    dataplane: v.dataplane,
    table: v.table,
    privacy: v.privacy,
    standby: v.standby,
    pq: v.pq,
    dns: v.dns,
    allowLan: v.allowLan,
    exclude: v.exclude ?? [],
    lockdown: v.lockdown,
    rotateEvery: v.rotateEvery,
    ...retention(v),
  };
}

function common(v: Values<CommonTable>): CommonConfig {
  const socket = v.socket ?? `${v.stateDir}/vpnd.sock`;
  if (Buffer.byteLength(socket) > SOCKET_PATH_LIMIT) {
    const flag = v.socket === undefined ? '--state-dir' : '--socket';
    refuse(`${flag}: '${socket}' is too long for a unix socket (at most ${SOCKET_PATH_LIMIT} bytes)`);
  }
  return {
    stateDir: v.stateDir,
    socket,
    user: v.user,
    metricsListen: v.metricsListen,
    logLevel: v.logLevel,
    logPrivacy: v.logPrivacy,
  };
}

const retention = (v: RetentionConfig): RetentionConfig => ({
  retainSessions: v.retainSessions,
  retainEvents: v.retainEvents,
});

const where = (given: AllGiven, key: string): string => given.get(key)?.where ?? key;

function advertise(
  given: AllGiven,
  hosts: readonly AdvertisedHost[] | undefined,
  [listen, ...more]: readonly [HostPort, ...HostPort[]],
  use: string,
): readonly HostPort[] {
  if (hosts !== undefined) {
    const reached = ({ host }: HostPort, at: AdvertisedHost) => isUnspecified(host) || host === at.host;
    const bare = hosts.filter((at) => at.port === undefined);
    return unique([
      ...hosts.map((at) => ({ host: at.host, port: at.port ?? listen.port })),
      ...more.flatMap((one) => bare.filter((at) => reached(one, at)).map(({ host }) => ({ host, port: one.port }))),
    ]);
  }
  if (!isUnspecified(listen.host)) {
    return unique([
      listen,
      ...more.map(({ host, port }) => ({ host: isUnspecified(host) ? listen.host : host, port })),
    ]);
  }
  return refuse(
    `--advertise is needed, since ${where(given, 'listen')} ${formatHostPort(listen)} names no single address: ` +
      `give the name or address where others reach this machine (${use})`,
  );
}

const sameHostPort = (a: HostPort, b: HostPort): boolean => a.host === b.host && a.port === b.port;

const unique = (list: readonly HostPort[]): readonly HostPort[] =>
  list.filter((at, i) => !list.slice(0, i).some((one) => sameHostPort(one, at)));

function relayIps(
  given: AllGiven,
  wanted: readonly IpAddress[] | undefined,
  addresses: readonly HostPort[],
): readonly IpAddress[] {
  if (wanted === undefined) {
    const literal = addresses.flatMap((at) => {
      const parsed = parseIp(at.host);
      return parsed.ok ? [parsed.value] : [];
    });
    const found = ([4, 6] as const).flatMap((family) => literal.find((ip) => familyOf(ip) === family) ?? []);
    if (found.length > 0) return found;
    return refuse(`${flagOf(OPTIONS.supernode.relayIps)} is needed, since --advertise names no IP address`);
  }
  for (const family of [4, 6] as const) {
    const same = wanted.filter((ip) => familyOf(ip) === family);
    if (same.length > 1) refuse(`${where(given, 'relayIps')}: more than one IPv${family} address: ${same.join(', ')}`);
  }
  const bad = wanted.find(isUnspecified);
  if (bad !== undefined) refuse(`${where(given, 'relayIps')}: '${bad}' is no address that others can reach`);
  return wanted;
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  for (const inner of Object.values(value)) deepFreeze(inner);
  return Object.freeze(value);
}
