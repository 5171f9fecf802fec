import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ClientConfig } from '../../config/types.js';
import type { ExitSummarySchema, SessionStatusSchema } from '../../gen/vpnd/v1/admin_pb.js';
import type { PeerObservation } from '../../model/dataplane.js';
import type { ExitCandidate } from '../../model/directory.js';
import type { Member } from '../common/member.js';
import { nodeStatus, type StatusInit, wirePath } from '../common/status.js';
import type { ForwardingPorts } from '../ports.js';
import type { Connection } from './connection.js';
import type { HeldTunnel } from './tunnel.js';

type SessionInit = MessageInitShape<typeof SessionStatusSchema>;

export async function clientStatus(
  config: ClientConfig,
  ports: ForwardingPorts,
  member: Member,
  connection: Connection,
): Promise<StatusInit> {
  const common = nodeStatus('client', config, ports, member);
  const problems = [...(common.problems ?? [])];
  const { phase, why, lastChange } = connection;
  const seen = phase === 'idle' ? new Map<number, PeerObservation>() : await connection.keeper.observe();
  const sessions: SessionInit[] = [];
  const active = connection.tunnels.active();
  if (active !== undefined) {
    sessions.push({
      ...describe(connection, active, seen.get(active.slot)),
      state: stateOf(connection, active),
      lastChange,
    });
    if (!active.held.ipv6) problems.push('this exit carries no IPv6; IPv6 is blocked while the tunnel is up');
    if (active.carriedAt !== undefined) {
      problems.push(
        'no UDP gets through here: the tunnel is carried inside the stream to the supernode, and is slower',
      );
    }
  } else if (phase !== 'idle') sessions.push({ use: 'active', state: phase, lastChange });
  if (phase === 'waiting' || (active !== undefined && connection.keeper.pulses.of(active.slot) === 'dead')) {
    problems.push(
      `no tunnel at present (${why?.message ?? 'nothing comes back'}); traffic is held until there is one, or until vpnd down`,
    );
  }
  for (const tunnel of connection.tunnels.held()) {
    if (tunnel.use !== 'standby' && tunnel.use !== 'retiring') continue;
    const pulse = connection.keeper.pulses.of(tunnel.slot);
    const state = tunnel.held.connectedAfter === undefined ? 'connecting' : pulse === 'alive' ? 'up' : 'silent';
    sessions.push({ ...describe(connection, tunnel, seen.get(tunnel.slot)), state });
  }
  const noStandby = connection.standbyProblem;
  if (noStandby !== undefined) problems.push(`no standby at present: ${noStandby.message}`);
  const facts = { ...common.facts, dns: connection.dns.text, ...connection.protection.facts() };
  return { ...common, dataplane: ports.dataplane.engine, facts, sessions, problems };
}

/** Never `up` while nothing passes. */
function stateOf(connection: Connection, tunnel: HeldTunnel): string {
  if (tunnel.holds) return 'waiting';
  if (tunnel.held.connectedAfter === undefined) return 'connecting';
  const pulse = connection.keeper.pulses.of(tunnel.slot);
  return pulse === 'alive' ? 'up' : pulse === 'dead' ? 'waiting' : 'silent';
}

function describe(connection: Connection, tunnel: HeldTunnel, seen: PeerObservation | undefined): SessionInit {
  const { held, slot } = tunnel;
  return {
    sessionId: held.session,
    use: tunnel.use,
    device: tunnel.device,
    path: wirePath(held.path),
    exitId: held.exit,
    exitRegion: held.exitRegion,
    exitCountry: held.exitCountry ?? '',
    via: held.path === 'direct' ? [] : [...held.via],
    supernodeId: held.supervisor ?? '',
    endpoint: held.endpoint,
    innerIpv4: held.inner.ipv4,
    innerIpv6: held.inner.ipv6,
    ipv6: held.ipv6,
    lastHandshakeMs: BigInt(seen?.lastHandshake ?? 0),
    rxBytes: BigInt(seen?.rxBytes ?? 0),
    txBytes: BigInt(seen?.txBytes ?? 0),
    leaseUntilMs: BigInt(held.leaseUntil),
    reasons: [...held.reasons],
    firstPacketMs: held.connectedAfter ?? 0,
    latencyMs: connection.keeper.pulses.roundTrip(slot) ?? 0,
    sinceMs: BigInt(held.openedAt),
    closingMs: BigInt(connection.keeper.retirement.endsAt(slot) ?? 0),
    presharedKey: held.preshared === undefined ? '' : 'ML-KEM-768',
    presharedSinceMs: BigInt(held.preshared?.since ?? 0),
  };
}

export function exitSummaries(
  exits: readonly ExitCandidate[],
  region: string,
): MessageInitShape<typeof ExitSummarySchema>[] {
  return exits
    .filter((one) => region === '' || one.region === region)
    .map((one) => ({
      peerId: one.id,
      region: one.region,
      country: one.country ?? '',
      pool: one.pool,
      ipv6: one.ipv6,
      latencyMs: one.latency ?? 0,
      sessions: one.load.sessions,
      sessionCapacity: one.load.sessionCapacity,
      egress: one.egress,
      supernodeId: one.supernode,
    }));
}
