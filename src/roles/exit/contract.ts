import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ExitConfig } from '../../config/types.js';
import type { ExitContractSchema } from '../../gen/vpnd/v1/admin_pb.js';
import type { EgressObservation } from '../../model/dataplane.js';
import type { Account } from './account.js';
import type { Doors } from './doors.js';

/** What `vpnd exit status` shows of what the owner lends. */
export function contractStatus(
  config: ExitConfig,
  timeZone: string,
  ipv6: boolean,
  doors: Pick<Doors, 'closed' | 'changesAt'>,
  { today }: Pick<Account, 'today'>,
  seen: EgressObservation,
): MessageInitShape<typeof ExitContractSchema> {
  const { closed } = doors;
  return {
    maxMbps: config.maxMbps,
    maxSessionMbps: config.maxSessionMbps,
    sessionCapacity: config.sessionCapacity,
    maxConnections: config.maxConnections,
    maxNewConnections: config.maxNewConnections,
    maxNewConnectionsInAll: config.maxNewConnectionsInAll,
    hours: config.hours?.text ?? '',
    timeZone,
    open: closed === undefined,
    closedReason: closed ?? '',
    changesMs: BigInt(doors.changesAt ?? 0),
    specialNetworks: [...seen.special],
    ownNetworks: [...seen.onLink],
    forbiddenNetworks: [...config.forbid],
    refused: Object.fromEntries(Object.entries(seen.refused).map(([kind, packets]) => [kind, BigInt(packets)])),
    fromClientsToday: BigInt(today.fromClients),
    toClientsToday: BigInt(today.toClients),
    ipv6,
  };
}
