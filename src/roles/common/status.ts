import type { MessageInitShape } from '@bufbuild/protobuf';
import type { CommonConfig } from '../../config/types.js';
import type { KnownSupernodeSchema, NodeStatusSchema } from '../../gen/vpnd/v1/admin_pb.js';
import { Path as WirePath, Role as WireRole } from '../../gen/vpnd/v1/types_pb.js';
import { formatHostPort } from '../../model/address.js';
import type { SupernodeInfo } from '../../model/directory.js';
import type { MemberRole, Path, Role } from '../../model/role.js';
import type { RolePorts } from '../ports.js';
import type { Line } from './line.js';
import type { Member } from './member.js';

export const wireRole = (role: Role): WireRole =>
  ({ base: WireRole.BASE, supernode: WireRole.SUPERNODE, exit: WireRole.EXIT, client: WireRole.CLIENT })[role];

export const wirePath = (path: Path): WirePath =>
  ({ direct: WirePath.DIRECT, relay: WirePath.RELAY, relay2: WirePath.RELAY2 })[path];

/** A status still to be completed: the plain form of a message, without what only a built one has. */
export type StatusInit = Exclude<MessageInitShape<typeof NodeStatusSchema>, { readonly $typeName: string }>;

/** What every member's status has. */
export function nodeStatus(role: MemberRole, config: CommonConfig, ports: RolePorts, member: Member): StatusInit {
  const main = member.main();
  const link = main.upstream.status();
  const offset = member.clockOffset();
  return {
    role: wireRole(role),
    peerId: member.id,
    region: member.membership().region,
    version: ports.version,
    startedMs: BigInt(member.startedAt),
    stateDirectory: config.stateDir,
    membershipNotAfterMs: BigInt(member.membership().notAfter),
    upstream: {
      ...streamStatus(main),
      ...(offset === undefined ? {} : { clockOffsetMs: BigInt(Math.round(offset)) }),
    },
    otherUpstreams: member
      .lines()
      .filter((line) => line !== main && line.supervisor() !== undefined)
      .map(streamStatus),
    supernodes: role === 'supernode' ? [] : member.supernodes().flatMap(known),
    problems: [
      ...problems(role, link.state === 'up' ? undefined : link.lastError?.message, member.udp()),
      ...withheld(member.revocations.behind),
    ],
  };
}

function streamStatus({ upstream }: Line) {
  const link = upstream.status();
  const expect = link.supervisor?.expect;
  return {
    state: link.state,
    supervisorId: expect?.kind === 'supernode' ? expect.id : (expect?.kind ?? ''),
    address: link.supervisor === undefined ? '' : formatHostPort(link.supervisor.address),
    sinceMs: BigInt(link.since),
    latencyMs: link.latency ?? 0,
    lastError: link.lastError?.message ?? '',
  };
}

const known = ({ id, region, addresses, probePort }: SupernodeInfo): MessageInitShape<typeof KnownSupernodeSchema>[] =>
  addresses.map((address) => ({ peerId: id, region, address: formatHostPort(address), probePort: probePort ?? 0 }));

const withheld = (epoch: number | undefined): readonly string[] =>
  epoch === undefined
    ? []
    : [`base has signed a list of revocations (epoch ${epoch}) that nobody has passed on to this node yet`];

function problems(role: MemberRole, notUp: string | undefined, udp: 'through' | 'blocked' | undefined): string[] {
  const found = notUp === undefined ? [] : [notUp];
  if (udp === 'blocked') {
    const without =
      role === 'client' ? 'tunnels are carried inside the stream meanwhile, which is slower' : 'WireGuard needs it';
    found.push(`no UDP reaches the supernode: allow outgoing UDP (vpnd doctor); ${without}`);
  }
  return found;
}
