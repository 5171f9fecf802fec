import type { MessageInitShape } from '@bufbuild/protobuf';
import type { RevocationsSchema, Revocations as WireRevocations } from '../../gen/vpnd/v1/control_pb.js';
import { RevocationKind as WireKind, type Revocation as WireRevocation } from '../../gen/vpnd/v1/types_pb.js';
import { keyOf } from '../../model/ids.js';
import {
  MAX_REVOCATIONS,
  MAX_REVOCATIONS_PER_PART,
  type Revocation,
  type RevocationChange,
} from '../../model/revocation.js';
import { signedFromWire, signedToWire } from './common.js';
import { instant, list, malformed, peer, safeInteger } from './fields.js';

const MAX_PARTS = Math.ceil((2 * MAX_REVOCATIONS) / MAX_REVOCATIONS_PER_PART);

export const revocationsToWire = (change: RevocationChange): MessageInitShape<typeof RevocationsSchema> => ({
  head: signedToWire(change.head),
  fromEpoch: BigInt(change.from),
  added: change.added.map(({ peer, kind, at }) => ({
    peerKey: keyOf(peer),
    kind: kind === 'supernode' ? WireKind.SUPERNODE : WireKind.PEER,
    revokedMs: BigInt(at),
  })),
  removed: change.removed.map(keyOf),
  part: change.part,
  parts: change.parts,
});

export function revocationsFromWire(wire: WireRevocations): RevocationChange {
  const { part, parts } = wire;
  if (parts < 1 || parts > MAX_PARTS) malformed('parts');
  if (part >= parts) malformed('part');
  const change = {
    head: signedFromWire(wire.head, 'head'),
    from: safeInteger(wire.fromEpoch, 'from_epoch'),
    added: list(wire.added, 'added', MAX_REVOCATIONS_PER_PART, revocationFromWire),
    removed: list(wire.removed, 'removed', MAX_REVOCATIONS_PER_PART, (key) => peer(key, 'removed')),
    part,
    parts,
  };
  return change.added.length + change.removed.length <= MAX_REVOCATIONS_PER_PART ? change : malformed('added');
}

const revocationFromWire = (wire: WireRevocation): Revocation => ({
  peer: peer(wire.peerKey, 'revocation.peer_key'),
  kind:
    wire.kind === WireKind.SUPERNODE
      ? 'supernode'
      : wire.kind === WireKind.PEER
        ? 'peer'
        : malformed('revocation.kind'),
  at: instant(wire.revokedMs, 'revocation.revoked_ms'),
});
