import type { MessageInitShape } from '@bufbuild/protobuf';
import type { BaseConfig } from '../../config/types.js';
import type { BaseStore, MemberCount, TokenRecord } from '../../core/ports/store.js';
import type { NodeStatusSchema } from '../../gen/vpnd/v1/admin_pb.js';
import { Role } from '../../gen/vpnd/v1/types_pb.js';
import { type Endpoint, formatHostPort } from '../../model/address.js';
import { toHex } from '../../model/bytes.js';
import type { Region } from '../../model/role.js';
import type { Instant } from '../../model/time.js';
import type { ConnectedPeer } from '../../transport/stream-manager.js';
import type { RolePorts } from '../ports.js';
import type { BaseAnchors } from './anchors.js';
import type { BaseKeys } from './keys.js';
import type { BaseRevocations } from './revocations.js';

/** What the status is put together from. */
export interface StatusSources {
  readonly config: BaseConfig;
  readonly keys: Pick<BaseKeys, 'identity'>;
  readonly anchors: Pick<BaseAnchors, 'authority' | 'underWay'>;
  readonly ports: RolePorts<BaseStore>;
  readonly startedAt: Instant;
  readonly address: Endpoint;
  readonly connected: readonly ConnectedPeer[];
  /** Regions that have a published supernode. */
  readonly regions: readonly Region[];
  /** Supernodes that were leased fewer address blocks than they need. */
  readonly shortOfBlocks: number;
  readonly revocations: Pick<BaseRevocations, 'epoch' | 'count' | 'problem'>;
}

export async function baseStatus(sources: StatusSources): Promise<MessageInitShape<typeof NodeStatusSchema>> {
  const { config, keys, ports, connected } = sources;
  const { directory } = ports.store;
  const [tokens, census] = await Promise.all([directory.tokens(), directory.census()]);
  const supernodes = census.filter(({ roles }) => roles.includes('supernode'));
  // Supernodes that may be exits too are counted once, as supernodes.
  const exits = census.filter(({ roles }) => roles.includes('exit') && !roles.includes('supernode'));
  const clients = census.filter(({ roles }) => roles.includes('client'));
  const now = ports.clock.now();
  const usable = tokens.filter((token) => !token.revoked && token.usesLeft > 0 && now < token.expiresAt);
  return {
    role: Role.BASE,
    peerId: keys.identity.id,
    version: ports.version,
    startedMs: BigInt(Math.round(sources.startedAt)),
    stateDirectory: config.stateDir,
    peers: connected.map((peer) => ({
      peerId: peer.id,
      role: Role.SUPERNODE,
      region: peer.region,
      sinceMs: BigInt(Math.round(peer.since)),
      latencyMs: peer.latency ?? 0,
    })),
    problems: [
      ...problemsOf(sources.regions, supernodes, [...exits, ...clients], usable),
      ...[ports.audit.problem() ?? []].flat(),
      ...(config.advertise.length === 0
        ? ['no join token can be made: base does not know its address; start it with --advertise <host:port>']
        : []),
      ...(sources.revocations.problem === undefined ? [] : [sources.revocations.problem]),
      ...(sources.shortOfBlocks > 0
        ? [
            `the address pools are used up: ${sources.shortOfBlocks} supernodes have fewer inner addresses than sessions`,
          ]
        : []),
    ],
    facts: {
      listen: formatHostPort(sources.address),
      advertise: config.advertise.map(formatHostPort).join(', '),
      ca_key_hash: toHex(sources.anchors.authority.keyHash),
      ...(sources.anchors.underWay !== undefined && { replacing: sources.anchors.underWay }),
      pool_ipv4: config.poolIpv4,
      pool_ipv6: config.poolIpv6,
      members: String(total(census)),
      revoked: String(sources.revocations.count),
      revocation_epoch: String(sources.revocations.epoch),
      supernodes: String(total(supernodes)),
      exits: String(total(exits)),
      clients: String(total(clients)),
      supernodes_connected: String(connected.length),
      tokens_usable: String(usable.length),
    },
  };
}

const total = (counts: readonly MemberCount[]): number => counts.reduce((sum, { members }) => sum + members, 0);

/** Regions where somebody is, or is invited, and no supernode would serve them. Pure. */
export function problemsOf(
  served: readonly Region[],
  supernodes: readonly Pick<MemberCount, 'region'>[],
  peers: readonly Pick<MemberCount, 'region'>[],
  usableTokens: readonly TokenRecord[],
): readonly string[] {
  const enrolled = new Set(supernodes.map(({ region }) => region));
  const wanted = new Set([
    ...peers.map(({ region }) => region),
    ...usableTokens.filter(({ role }) => role !== 'supernode').map(({ region }) => region),
  ]);
  const problems: string[] = [];
  for (const region of [...new Set([...wanted, ...enrolled])].sort()) {
    if (served.includes(region)) continue;
    problems.push(
      enrolled.has(region)
        ? `region ${region}: no supernode has been connected for a day`
        : `region ${region}: exits or clients are invited, but no supernode is enrolled there (vpnd token create --role supernode --region ${region})`,
    );
  }
  return problems;
}
