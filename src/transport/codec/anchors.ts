import type { MessageInitShape } from '@bufbuild/protobuf';
import type { AnchorChainSchema, AnchorChain as WireChain } from '../../gen/vpnd/v1/types_pb.js';
import type { Signed } from '../../model/membership.js';
import { signedToWire } from './common.js';
import { bytes, list } from './fields.js';
import { MAX_ANCHOR_CHAIN, MAX_ANCHORS_BYTES, SIGNATURE_BYTES } from './limits.js';

export const chainToWire = (chain: readonly Signed[]): MessageInitShape<typeof AnchorChainSchema> => ({
  statements: chain.slice(-MAX_ANCHOR_CHAIN).map(signedToWire),
});

export const chainFromWire = (wire: WireChain): readonly Signed[] =>
  list(wire.statements, 'statements', MAX_ANCHOR_CHAIN, ({ body, signature }) => ({
    body: bytes(body, 'statement', 1, MAX_ANCHORS_BYTES),
    signature: bytes(signature, 'statement.signature', SIGNATURE_BYTES),
  }));
