import type { ExitContract, NodeStatus } from '../gen/vpnd/v1/admin_pb.js';
import { shortId } from '../model/ids.js';
import { bytes, moment, plain } from './text.js';

/** What each kind of violation is, for people. Kinds of a newer daemon are shown as they are. */
const REFUSED: Readonly<Record<string, string>> = {
  source: 'from an address that is not the session’s',
  'special-address': 'to private, link-local, metadata and other special addresses',
  'own-network': 'to this machine, its networks or those you forbid',
  'other-client': 'from one client to another',
  mail: 'to port 25 (mail)',
  'new-connections': 'beyond the rate of new connections',
  'open-connections': 'beyond the number of open connections',
};

/** What `vpnd exit status` prints for people. `now` in milliseconds since the epoch. */
export function contractText(status: NodeStatus, contract: ExitContract, now: number): string {
  const count = status.sessions.length;
  const refused = Object.entries(contract.refused);
  const lines = [
    `exit ${shortId(status.peerId) || '(not enrolled)'}${status.region ? `, region ${plain(status.region)}` : ''}: ${opening(contract, now)}`,
    '',
    'lent',
    ...rows([
      ['bandwidth', bandwidth(contract)],
      ['sessions', `${contract.sessionCapacity} at a time, ${count} now`],
      ['connections', connections(contract)],
      ['hours', contract.hours === '' ? 'always' : `${plain(contract.hours)} (${plain(contract.timeZone)})`],
      ['IPv6', contract.ipv6 ? 'carried' : 'not carried'],
      [
        'today',
        `${bytes(Number(contract.fromClientsToday))} from clients, ${bytes(Number(contract.toClientsToday))} to them`,
      ],
    ]),
    '',
    'never reached',
    ...rows([
      ['this machine', 'all of its addresses, whichever it has, but for echoes to the tunnel’s own'],
      [
        'its networks',
        networks(contract.ownNetworks) || 'those it is connected to; at present all of them are private',
      ],
      ...(contract.forbiddenNetworks.length === 0
        ? []
        : [['forbidden', networks(contract.forbiddenNetworks)] as const]),
      ['special', networks(contract.specialNetworks) || 'nothing: this data plane carries nothing'],
      ['other clients', 'of this exit, and of the overlay'],
      ['mail', 'port 25, wherever it is'],
    ]),
    '',
    'refused (packets)',
    ...rows(
      refused.map(([kind, packets]) => [String(packets), REFUSED[kind] ?? plain(kind)] as const),
      8,
    ),
  ];
  if (status.problems.length > 0) lines.push('', 'problems', ...status.problems.map((text) => `  ! ${plain(text)}`));
  return `${lines.join('\n')}\n`;
}

function opening({ open, closedReason, changesMs }: ExitContract, now: number): string {
  const at = Number(changesMs);
  const when = at > now ? moment(at) : '';
  if (open) return when === '' ? 'open' : `open until ${when}`;
  return `closed: ${plain(closedReason)}${when === '' ? '' : `; open again at ${when}`}`;
}

function bandwidth({ maxMbps, maxSessionMbps }: ExitContract): string {
  const parts = [
    ...(maxMbps > 0 ? [`${maxMbps} Mbit/s, shared evenly`] : []),
    ...(maxSessionMbps > 0 ? [`${maxSessionMbps} Mbit/s for one session at most`] : []),
  ];
  return parts.length === 0 ? 'no limit' : `${parts.join(', ')}, in each direction`;
}

function connections({ maxConnections, maxNewConnections, maxNewConnectionsInAll }: ExitContract): string {
  const parts = [
    ...(maxConnections > 0 ? [`${maxConnections} open`] : []),
    ...(maxNewConnections > 0 ? [`${maxNewConnections} new a second`] : []),
  ];
  const each = parts.length === 0 ? 'no limit for a session' : `${parts.join(', ')}, each session`;
  return maxNewConnectionsInAll > 0 ? `${each}; ${maxNewConnectionsInAll} new a second in all` : each;
}

const networks = (list: readonly string[]): string => list.map(plain).join(' ');

function rows(entries: readonly (readonly [string, string])[], width = 14): string[] {
  return entries.map(([name, value]) => `  ${name.padEnd(width)} ${value}`);
}
