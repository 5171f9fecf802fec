import type { MessageInitShape } from '@bufbuild/protobuf';
import type {
  CreateTokenRequest,
  CreateTokenResponseSchema,
  DownResponseSchema,
  DrainProgressSchema,
  DrainRequest,
  ListExitsRequest,
  ListExitsResponseSchema,
  ListMembersRequest,
  ListMembersResponseSchema,
  ListTokensResponseSchema,
  NodeStatusSchema,
  PauseRequest,
  RevokeMemberRequest,
  RevokeMemberResponseSchema,
  RevokeTokenRequest,
  RotateKeyRequest,
  RotateKeyResponseSchema,
  RotateRequest,
  SetPathRequest,
  SetPortalResponseSchema,
  UnrevokeMemberRequest,
  UpRequest,
} from '../gen/vpnd/v1/admin_pb.js';
import type { NodeEvent } from '../model/event.js';

/** What a role answers on the local API; calls it does not have are refused with `not-supported`. */
export interface LocalHandlers {
  status(): Promise<MessageInitShape<typeof NodeStatusSchema>>;
  /** Resolves when something a person would see in the status has changed since the last call. */
  statusChanged?(signal: AbortSignal): Promise<void>;
  /** The newest events, oldest first, at most so many. */
  events?(limit: number): readonly NodeEvent[];
  /** Resolves at the next event, or when the signal aborts. */
  nextEvent?(signal: AbortSignal): Promise<void>;
  up?(request: UpRequest, signal: AbortSignal): Promise<MessageInitShape<typeof NodeStatusSchema>>;
  down?(): Promise<MessageInitShape<typeof DownResponseSchema>>;
  /** Goes over to another exit; answers when it carries the traffic. */
  rotate?(request: RotateRequest, signal: AbortSignal): Promise<MessageInitShape<typeof NodeStatusSchema>>;
  /** Has the present session take another path; answers when it does, or with why it cannot. */
  setPath?(request: SetPathRequest, signal: AbortSignal): Promise<MessageInitShape<typeof NodeStatusSchema>>;
  /** Answers when lockdown is in force, or over. */
  setLockdown?(on: boolean): Promise<MessageInitShape<typeof NodeStatusSchema>>;
  /** Lets the programs of `vpnd portal` log in, for so many milliseconds; 0 closes it. */
  setPortal?(forMs: number): Promise<MessageInitShape<typeof SetPortalResponseSchema>>;
  /** Has everybody go elsewhere. Who stops listening (the signal aborts) does not end the drain. */
  drain?(request: DrainRequest, signal: AbortSignal): AsyncIterable<MessageInitShape<typeof DrainProgressSchema>>;
  /** Has a key of this node replaced, with no session lost; answers when the new one is in use. */
  rotateKey?(request: RotateKeyRequest): Promise<MessageInitShape<typeof RotateKeyResponseSchema>>;
  /** Closes an exit; answers at once, while clients are still leaving. */
  pause?(request: PauseRequest): Promise<MessageInitShape<typeof NodeStatusSchema>>;
  resume?(): Promise<MessageInitShape<typeof NodeStatusSchema>>;
  listExits?(request: ListExitsRequest): Promise<MessageInitShape<typeof ListExitsResponseSchema>>;
  createToken?(request: CreateTokenRequest): Promise<MessageInitShape<typeof CreateTokenResponseSchema>>;
  listTokens?(): Promise<MessageInitShape<typeof ListTokensResponseSchema>>;
  revokeToken?(request: RevokeTokenRequest): Promise<void>;
  listMembers?(request: ListMembersRequest): Promise<MessageInitShape<typeof ListMembersResponseSchema>>;
  revokeMember?(request: RevokeMemberRequest): Promise<MessageInitShape<typeof RevokeMemberResponseSchema>>;
  unrevokeMember?(request: UnrevokeMemberRequest): Promise<MessageInitShape<typeof RevokeMemberResponseSchema>>;
}
