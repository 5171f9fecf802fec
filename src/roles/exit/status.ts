import type { MessageInitShape } from '@bufbuild/protobuf';
import type { SessionRecord } from '../../core/ports/store.js';
import type { SessionStatusSchema } from '../../gen/vpnd/v1/admin_pb.js';
import type { PeerObservation } from '../../model/dataplane.js';

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
          ...(desired.endpoint === undefined ? {} : { endpoint: desired.endpoint }),
        },
      ];
    }),
  );
}
