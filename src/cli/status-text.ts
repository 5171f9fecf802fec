import type { NodeStatus, PeerStatus, SessionStatus, StreamStatus } from '../gen/vpnd/v1/admin_pb.js';
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
      ['upstream', streamText(status.upstream, now)],
      ...status.otherUpstreams.map((other): [string, string] => ['also', streamText(other, now)]),
      ...Object.entries(status.facts).map(([name, value]): [string, string] => [
        name.replaceAll('_', ' '),
        plain(value),
      ]),
    ]),
  ];
  const count = status.sessions.length;
  if (role === 'client' && count === 0) lines.push('', 'no session: `vpnd up` asks for an exit');
  if (role === 'client' && count > 0) lines.push(...clientLines(status, now));
  else if (count === 1) for (const session of status.sessions) lines.push('', ...sessionLines(session, now));
  else if (count > 1) lines.push('', sessionTable(status.sessions, now).trimEnd());
  if (status.peers.length > 0) lines.push('', peerTable(status.peers, now).trimEnd());
  if (status.problems.length > 0) lines.push('', 'problems', ...status.problems.map((text) => `  ! ${plain(text)}`));
  return `${lines.join('\n')}\n`;
}

/** `client ─ A ─ B ─ exit`, each with the beginning of its id. */
export function pathLine(session: SessionStatus): string {
  const hops = session.via.map((id, i) => `${String.fromCharCode(65 + i)} ${shortId(id)}`);
  return ['client', ...hops, `exit ${shortId(session.exitId)}`].join(' ─ ');
}

/** The client's session that carries traffic, or is to; undefined when nothing is up. */
export const activeSession = (status: NodeStatus): SessionStatus | undefined =>
  status.sessions.find(({ use }) => use === 'active' || use === '');

/** `client ─ A ─ B ─ exit (us, US)` of the session that carries traffic. */
export function tunnelLine(status: NodeStatus): string {
  const session = activeSession(status);
  if (session === undefined) return 'no session';
  const place = [session.exitRegion, session.exitCountry].filter(Boolean).join(', ');
  return `${pathLine(session)}${place ? ` (${plain(place)})` : ''}`;
}

/** What a person has to know of a state that its name does not say. */
const STATES: Readonly<Record<string, string>> = {
  requesting: 'requesting an exit',
  silent: 'silent: nothing comes back at present',
  waiting: 'waiting: there is no tunnel, and traffic is held until there is one',
};

/** The tunnel in use, then a line for each other one. */
function clientLines(status: NodeStatus, now: number): string[] {
  const active = activeSession(status);
  const others = status.sessions.filter((session) => session !== active);
  return [
    ...(active === undefined ? [] : ['', ...activeLines(active, now)]),
    ...(others.length === 0 ? [] : ['', ...pairs(others.map((session) => otherTunnel(session, now)))]),
  ];
}

function activeLines(session: SessionStatus, now: number): string[] {
  const exit = exitText(session);
  const since = session.state === 'up' && session.sinceMs > 0n ? ` for ${age(now - Number(session.sinceMs))}` : '';
  const heading = `session ${shortId(session.sessionId) || '-'}: ${STATES[session.state] ?? session.state}${since}`;
  const lastChange: [string, string] = ['last change', plain(session.lastChange)];
  if (session.state === 'requesting' || session.state === 'waiting') {
    return [heading, ...pairs([['last exit', exit], lastChange])];
  }
  return [
    heading,
    ...pairs([
      ['path', `${pathLine(session)}  (${pathName(session.path)})`],
      ['exit', exit],
      ['interface', session.device],
      ['endpoint', endpointText(session)],
      ['addresses', addresses(session)],
      ['IPv6', session.ipv6 ? 'through the tunnel' : 'blocked, since the exit has none'],
      ['latency', session.latencyMs > 0 ? latency(session.latencyMs) : ''],
      ...traffic(session, now),
      ['pre-shared', presharedText(session, now) || 'none: no protection against quantum computers'],
      ['first packet', session.firstPacketMs > 0 ? `after ${latency(session.firstPacketMs)}` : ''],
      ['why', session.reasons.map(plain).join('; ')],
      lastChange,
    ]),
  ];
}

/** `standby   ready, exit x (region eu, DE), over A y (relay), 23 ms`; `retiring   exit z, closing in 45 s`. */
function otherTunnel(session: SessionStatus, now: number): [string, string] {
  const exit = `exit ${exitText(session)}`;
  if (session.use === 'retiring') {
    const left = Number(session.closingMs) - now;
    return ['retiring', `${exit}, ${session.closingMs === 0n ? 'closing' : `closing in ${age(left)}`}`];
  }
  const state = session.state === 'up' ? 'ready' : (STATES[session.state] ?? session.state);
  const hops = session.via.map((id, i) => `${String.fromCharCode(65 + i)} ${shortId(id)}`).join(' ─ ');
  const way = hops === '' ? pathName(session.path) : `over ${hops} (${pathName(session.path)})`;
  const facts = [
    state,
    session.exitId && exit,
    session.exitId && way,
    session.latencyMs > 0 && latency(session.latencyMs),
  ];
  return [plain(session.use) || 'also', facts.filter(Boolean).join(', ')];
}

/** A session as exits and supernodes have it. */
function sessionLines(session: SessionStatus, now: number): string[] {
  return [
    `session ${shortId(session.sessionId)}: ${session.state}`,
    ...pairs([
      ['path', pathName(session.path)],
      ['exit', exitText(session)],
      ['endpoint', endpointText(session)],
      ['addresses', addresses(session)],
      ...traffic(session, now),
      ['pre-shared', presharedText(session, now)],
      ['last change', plain(session.lastChange)],
    ]),
  ];
}

function exitText(session: SessionStatus): string {
  if (session.exitId === '') return '';
  const place = [session.exitRegion && `region ${session.exitRegion}`, session.exitCountry].filter(Boolean).join(', ');
  return `${shortId(session.exitId)}${place ? ` (${plain(place)})` : ''}`;
}

function presharedText({ presharedKey, presharedSinceMs }: SessionStatus, now: number): string {
  return presharedKey === '' ? '' : `${plain(presharedKey)}, renewed ${age(now - Number(presharedSinceMs))} ago`;
}

const endpointText = ({ endpoint }: SessionStatus): string =>
  endpoint === undefined ? '' : `${endpoint.ip} port ${endpoint.port}`;

const addresses = (session: SessionStatus): string => [session.innerIpv4, session.innerIpv6].filter(Boolean).join(', ');

function traffic(session: SessionStatus, now: number): (readonly [string, string])[] {
  const handshake = Number(session.lastHandshakeMs);
  return [
    ['handshake', handshake === 0 ? 'none yet' : `${age(now - handshake)} ago`],
    ['traffic', `${bytes(Number(session.rxBytes))} received, ${bytes(Number(session.txBytes))} sent`],
    ['lease', session.leaseUntilMs === 0n ? '' : lease(Number(session.leaseUntilMs), now)],
  ];
}

const lease = (until: number, now: number): string => (until > now ? `${age(until - now)} left` : 'ended');

function streamText(up: StreamStatus | undefined, now: number): string {
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
