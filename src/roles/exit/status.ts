import type { MessageInitShape } from '@bufbuild/protobuf';
import type { SessionRecord } from '../../core/ports/store.js';
import type { SessionStatusSchema } from '../../gen/vpnd/v1/admin_pb.js';
import type { PeerObservation } from '../../model/dataplane.js';
import { wirePath } from '../common/status.js';

/** An exit's sessions for `vpnd status`: what the ledger has, with what WireGuard has counted. */
export function exitSessions(
  records: readonly SessionRecord[],
  observed: readonly PeerObservation[],
): MessageInitShape<typeof SessionStatusSchema>[] {
  const byKey = new Map(observed.map((one) => [one.publicKey, one]));
  return records.flatMap((record) =>
    record.desired.flatMap((desired) => {
      if (desired.kind !== 'setup-exit') return [];
      const seen = byKey.get(desired.clientKey);
      const update = record.desired.find((one) => one.kind === 'relay-update');
      // A relay's; a client's own address is nobody's to read here.
      const endpoint = update?.path === 'direct' ? undefined : (update ?? desired).endpoint;
      return [
        {
          sessionId: record.session,
          state: seen?.lastHandshake === undefined ? 'connecting' : 'up',
          innerIpv4: desired.inner.ipv4,
          innerIpv6: desired.inner.ipv6,
          lastHandshakeMs: BigInt(seen?.lastHandshake ?? 0),
          rxBytes: BigInt(seen?.rxBytes ?? 0),
          txBytes: BigInt(seen?.txBytes ?? 0),
          leaseUntilMs: BigInt(record.leaseUntil),
          presharedKey: desired.preshared === undefined ? '' : 'ML-KEM-768',
          presharedSinceMs: BigInt(desired.preshared?.since ?? 0),
          ...(update === undefined ? {} : { path: wirePath(update.path) }),
          ...(endpoint === undefined ? {} : { endpoint }),
        },
      ];
    }),
  );
}
