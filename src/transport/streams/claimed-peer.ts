import { fromBinary } from '@bufbuild/protobuf';
import { MembershipSchema } from '../../gen/vpnd/v1/types_pb.js';
import { type PeerId, peerIdOf } from '../../model/ids.js';
import type { Signed } from '../../model/membership.js';

/**
 * Whose membership this claims to be. Nothing is checked: only good for counting attempts before signatures are looked at.
 */
export function claimedPeer(membership: Signed): PeerId | undefined {
  try {
    const peer = peerIdOf(fromBinary(MembershipSchema, membership.body).peerKey);
    return peer.ok ? peer.value : undefined;
  } catch {
    return undefined;
  }
}
