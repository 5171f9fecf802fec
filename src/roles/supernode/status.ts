import type { MessageInitShape } from '@bufbuild/protobuf';
import type { SupernodeConfig } from '../../config/types.js';
import type { Server } from '../../core/ports/network.js';
import type { PeerStatusSchema, SessionStatusSchema } from '../../gen/vpnd/v1/admin_pb.js';
import { formatHostPort } from '../../model/address.js';
import type { AddressPlan } from '../../model/messages.js';
import type { StreamManager } from '../../transport/stream-manager.js';
import type { Member } from '../common/member.js';
import { nodeStatus, type StatusInit, wirePath, wireRole } from '../common/status.js';
import type { ForwardingPorts } from '../ports.js';
import type { BackSessions, RelayPorts } from './back.js';
import type { Carrier } from './carrier.js';
import type { Drain } from './drain.js';
import { type FrontSessions, pathOf } from './front.js';

export interface SupernodeView {
  readonly config: SupernodeConfig;
  readonly ports: ForwardingPorts;
  readonly member: Member;
  readonly streams: StreamManager;
  readonly front: FrontSessions;
  readonly back: BackSessions;
  readonly relayPorts: RelayPorts;
  readonly plan: AddressPlan | undefined;
  readonly server: Server;
  readonly carrier: Pick<Carrier, 'count'>;
  readonly drain: Drain;
}

/** A supernode's status: who is connected, which sessions it carries. No address of a peer is in it. */
export async function supernodeStatus(view: SupernodeView): Promise<StatusInit> {
  const { config, ports, member, streams, front, back, relayPorts, plan } = view;
  const common = nodeStatus('supernode', config, ports, member);
  const problems = [...(common.problems ?? []), ...[ports.audit.problem() ?? []].flat()];
  if (plan === undefined) problems.push('base has leased no addresses yet: no session can be opened');
  const { draining } = view.drain;
  const left = view.drain.progress();
  if (draining)
    problems.push(
      left.done
        ? 'out of service: everybody has gone elsewhere; start it again to have it serve'
        : `being taken out of service: ${left.sessions} sessions are still here`,
    );
  return {
    ...common,
    problems,
    dataplane: ports.dataplane.engine,
    sessions: sessions(front, back),
    peers: [...streams.byRole('exit'), ...streams.byRole('client')].map(
      (peer): MessageInitShape<typeof PeerStatusSchema> => ({
        peerId: peer.id,
        role: wireRole(peer.role),
        region: peer.region,
        sinceMs: BigInt(peer.since),
        latencyMs: peer.latency ?? 0,
      }),
    ),
    facts: {
      listening: [view.server.address, ...config.listenAlso].map(formatHostPort).join(' '),
      relay_ports: `${config.relayPorts.from}-${config.relayPorts.to}, ${relayPorts.taken} in use`,
      inside_streams: `${view.carrier.count} sessions of clients without UDP`,
      draining: draining ? 'yes' : 'no',
      egress: config.egress ? 'on' : 'off',
      blocks: plan?.blocksIpv4.join(' ') ?? '',
    },
  };
}

function sessions(front: FrontSessions, back: BackSessions): MessageInitShape<typeof SessionStatusSchema>[] {
  const ours = front.all().map((one) => ({
    sessionId: one.session,
    state: one.established ? 'up' : 'connecting',
    path: wirePath(pathOf(one)),
    exitId: one.exit,
    leaseUntilMs: BigInt(one.leaseUntil),
    lastChange: 'of a client here',
  }));
  const known = new Set(ours.map((one) => one.sessionId));
  const theirs = back
    .all()
    .filter((one) => !known.has(one.session))
    .map((one) => ({
      sessionId: one.session,
      state: 'up',
      exitId: one.exit,
      leaseUntilMs: BigInt(one.leaseUntil),
      lastChange: 'at an exit here',
    }));
  return [...ours, ...theirs];
}
