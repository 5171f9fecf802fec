import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  CreateTokenRequest,
  CreateTokenResponseSchema,
  DownResponseSchema,
  ListExitsRequest,
  ListExitsResponseSchema,
  ListTokensResponseSchema,
  NodeStatusSchema,
  RevokeTokenRequest,
  UpRequest,
} from '../gen/vpnd/v1/admin_pb.js';

/** What a role answers on the local API; calls it does not have are refused with `not-supported`. */
export interface LocalHandlers {
  status(): Promise<MessageInitShape<typeof NodeStatusSchema>>;
  /** Resolves when something a person would see in the status has changed since the last call. */
  statusChanged?(signal: AbortSignal): Promise<void>;
  up?(request: UpRequest, signal: AbortSignal): Promise<MessageInitShape<typeof NodeStatusSchema>>;
  down?(): Promise<MessageInitShape<typeof DownResponseSchema>>;
  listExits?(request: ListExitsRequest): Promise<MessageInitShape<typeof ListExitsResponseSchema>>;
  createToken?(request: CreateTokenRequest): Promise<MessageInitShape<typeof CreateTokenResponseSchema>>;
  listTokens?(): Promise<MessageInitShape<typeof ListTokensResponseSchema>>;
  revokeToken?(request: RevokeTokenRequest): Promise<void>;
}
