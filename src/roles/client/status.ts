import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ClientConfig } from '../../config/types.js';
import type { ExitSummarySchema, SessionStatusSchema } from '../../gen/vpnd/v1/admin_pb.js';
import type { PeerObservation } from '../../model/dataplane.js';
import type { ExitCandidate } from '../../model/directory.js';
import type { Member } from '../common/member.js';
import { nodeStatus, type StatusInit, wirePath } from '../common/status.js';
import type { ForwardingPorts } from '../ports.js';
import type { HeldSession } from './held-session.js';
import { isStale, type Tunnel } from './tunnel.js';

export async function clientStatus(
  config: ClientConfig,
  ports: ForwardingPorts,
  member: Member,
  tunnel: Tunnel,
): Promise<StatusInit> {
  const common = nodeStatus('client', config, ports, member);
  const { state } = tunnel;
  const problems = [...(common.problems ?? [])];
  const sessions: MessageInitShape<typeof SessionStatusSchema>[] = [];
  const lastChange = tunnel.lastChange;
  switch (state.kind) {
    case 'idle':
      break;
    case 'requesting':
      sessions.push({ state: 'requesting', lastChange });
      break;
    case 'waiting':
      sessions.push({ ...describe(state.lost, undefined), state: 'waiting', lastChange });
      problems.push(
        `no tunnel at present (${state.why.message}); traffic is held until there is one, or until vpnd down`,
      );
      break;
    case 'connecting':
    case 'up': {
      const seen = await tunnel.observe();
      const stale = state.kind === 'up' && isStale(seen, state.held, ports.clock.now());
      sessions.push({
        ...describe(state.held, seen),
        state: stale ? 'stale' : state.kind === 'up' ? 'up' : 'connecting',
        lastChange,
      });
      if (!state.held.ipv6) problems.push('this exit carries no IPv6; IPv6 is blocked while the tunnel is up');
    }
  }
  return { ...common, dataplane: ports.dataplane.engine, sessions, problems };
}

function describe(held: HeldSession, seen: PeerObservation | undefined): MessageInitShape<typeof SessionStatusSchema> {
  return {
    sessionId: held.session,
    path: wirePath(held.path),
    exitId: held.exit,
    exitRegion: held.exitRegion,
    exitCountry: held.exitCountry ?? '',
    via: [...held.via],
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
