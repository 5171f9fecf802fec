import type { NodeStatus, PeerStatus, SessionStatus } from '../gen/vpnd/v1/admin_pb.js';
import { Path, Role as WireRole } from '../gen/vpnd/v1/types_pb.js';
import { shortId } from '../model/ids.js';
import { age, bytes, latency, moment, plain, table } from './text.js';

const ROLE_NAMES: Record<WireRole, string> = {
  [WireRole.UNSPECIFIED]: 'node',
  [WireRole.BASE]: 'base',
  [WireRole.SUPERNODE]: 'supernode',
  [WireRole.EXIT]: 'exit',
  [WireRole.CLIENT]: 'client',
};
export const roleName = (role: WireRole): string => ROLE_NAMES[role] ?? 'node';

const PATH_NAMES: Record<Path, string> = {
  [Path.UNSPECIFIED]: '-',
  [Path.DIRECT]: 'direct',
  [Path.RELAY]: 'relay',
  [Path.RELAY2]: 'relay2',
};
export const pathName = (path: Path): string => PATH_NAMES[path] ?? '-';

/** What `vpnd status` prints for people. `now` in milliseconds since the epoch. */
export function statusText(status: NodeStatus, now: number): string {
  const role = roleName(status.role);
  const lines = [
    `${role} ${shortId(status.peerId) || '(not enrolled)'}${status.region ? `, region ${plain(status.region)}` : ''}`,
    ...pairs([
      ['running', status.startedMs === 0n ? '' : `${age(now - Number(status.startedMs))}, ${status.version}`],
      ['state', status.stateDirectory],
      ['data plane', status.dataplane],
      ['membership', status.membershipNotAfterMs > 0n ? `until ${moment(Number(status.membershipNotAfterMs))}` : ''],
      ['upstream', upstream(status, now)],
      ...Object.entries(status.facts).map(([name, value]): [string, string] => [
        name.replaceAll('_', ' '),
        plain(value),
      ]),
    ]),
  ];
  const count = status.sessions.length;
  if (role === 'client' && count === 0) lines.push('', 'no session: `vpnd up` asks for an exit');
  if (role === 'client' || count === 1) {
    for (const session of status.sessions) lines.push('', ...sessionLines(session, role, now));
  } else if (count > 1) lines.push('', sessionTable(status.sessions, now).trimEnd());
  if (status.peers.length > 0) lines.push('', peerTable(status.peers, now).trimEnd());
  if (status.problems.length > 0) lines.push('', 'problems', ...status.problems.map((text) => `  ! ${plain(text)}`));
  return `${lines.join('\n')}\n`;
}

/** `client ─ A ─ B ─ exit`, each with the beginning of its id. */
export function pathLine(session: SessionStatus): string {
  const hops = session.via.map((id, i) => `${String.fromCharCode(65 + i)} ${shortId(id)}`);
  return ['client', ...hops, `exit ${shortId(session.exitId)}`].join(' ─ ');
}

function sessionLines(session: SessionStatus, role: string, now: number): string[] {
  const handshake = Number(session.lastHandshakeMs);
  const place = [session.exitRegion && `region ${session.exitRegion}`, session.exitCountry].filter(Boolean).join(', ');
  return [
    `session ${shortId(session.sessionId)}: ${session.state}`,
    ...pairs([
      ['path', role === 'client' ? `${pathLine(session)}  (${pathName(session.path)})` : pathName(session.path)],
      ['exit', session.exitId === '' ? '' : `${shortId(session.exitId)}${place ? ` (${plain(place)})` : ''}`],
      ['endpoint', session.endpoint === undefined ? '' : `${session.endpoint.ip} port ${session.endpoint.port}`],
      ['addresses', [session.innerIpv4, session.innerIpv6].filter(Boolean).join(', ')],
      ['IPv6', role === 'client' ? (session.ipv6 ? 'through the tunnel' : 'blocked, since the exit has none') : ''],
      ['handshake', handshake === 0 ? 'none yet' : `${age(now - handshake)} ago`],
      ['traffic', `${bytes(Number(session.rxBytes))} received, ${bytes(Number(session.txBytes))} sent`],
      ['lease', session.leaseUntilMs === 0n ? '' : lease(Number(session.leaseUntilMs), now)],
      ['first packet', session.firstPacketMs > 0 ? `after ${latency(session.firstPacketMs)}` : ''],
      ['why', session.reasons.map(plain).join('; ')],
      ['last change', plain(session.lastChange)],
    ]),
  ];
}

const lease = (until: number, now: number): string => (until > now ? `${age(until - now)} left` : 'ended');

function upstream(status: NodeStatus, now: number): string {
  const up = status.upstream;
  if (up === undefined || up.state === '') return '';
  const to = [up.supervisorId && shortId(up.supervisorId), up.address && `at ${up.address}`].filter(Boolean).join(' ');
  const facts = [
    up.state,
    to,
    up.latencyMs > 0 ? latency(up.latencyMs) : '',
    up.sinceMs > 0n ? `for ${age(now - Number(up.sinceMs))}` : '',
    up.state === 'up' ? '' : plain(up.lastError),
  ];
  return facts.filter(Boolean).join(', ');
}

const sessionTable = (sessions: readonly SessionStatus[], now: number): string =>
  table(
    ['SESSION', 'STATE', 'PATH', 'EXIT', 'INNER', 'RECEIVED', 'SENT', 'LEASE'],
    sessions.map((s) => [
      shortId(s.sessionId),
      s.state,
      pathName(s.path),
      shortId(s.exitId) || '-',
      s.innerIpv4 || '-',
      bytes(Number(s.rxBytes)),
      bytes(Number(s.txBytes)),
      s.leaseUntilMs === 0n ? '-' : lease(Number(s.leaseUntilMs), now),
    ]),
  );

const peerTable = (peers: readonly PeerStatus[], now: number): string =>
  table(
    ['PEER', 'ROLE', 'REGION', 'CONNECTED', 'LATENCY'],
    peers.map((p) => [
      shortId(p.peerId),
      roleName(p.role),
      plain(p.region) || '-',
      p.sinceMs === 0n ? '-' : age(now - Number(p.sinceMs)),
      latency(p.latencyMs),
    ]),
  );

/** Named lines, those without a value left out. */
function pairs(entries: readonly (readonly [string, string])[]): string[] {
  const shown = entries.filter(([, value]) => value !== '');
  const width = Math.max(12, ...shown.map(([name]) => name.length));
  return shown.map(([name, value]) => `  ${name.padEnd(width)} ${value}`);
}
