import type { MessageInitShape } from '@bufbuild/protobuf';
import { createClient } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import {
  type CreateTokenRequestSchema,
  type CreateTokenResponse,
  type DownResponse,
  type DrainProgress,
  type DrainRequestSchema,
  type ExitSummary,
  type ListExitsRequestSchema,
  type ListMembersResponse,
  LocalBase,
  LocalClient,
  LocalExit,
  LocalKeys,
  LocalNode,
  LocalSupernode,
  type NodeEvent,
  type NodeStatus,
  type RevokeMemberRequestSchema,
  type RevokeMemberResponse,
  type RotateKeyRequestSchema,
  type RotateKeyResponse,
  type RotateRequestSchema,
  type SetPathRequestSchema,
  type SetPortalResponse,
  type TokenSummary,
  type UnrevokeMemberRequestSchema,
  type UpRequestSchema,
} from '../gen/vpnd/v1/admin_pb.js';
import { fromConnectError } from './local-api-errors.js';

/**
 * The daemon behind a unix socket. Every call rejects with VpndError: what the daemon refused, with its code and
 * details, or `daemon-not-running`, `no-root`, `timeout`, `closed`.
 */
export interface LocalApi {
  status(): Promise<NodeStatus>;
  /** The status now and after every change, until the signal aborts or the daemon ends. */
  watch(signal: AbortSignal): AsyncGenerator<NodeStatus, void, undefined>;
  /** The newest events, oldest first; 0 for all that are kept. */
  events(limit: number): Promise<readonly NodeEvent[]>;
  /** The newest events, then each as it happens, until the signal aborts or the daemon ends. */
  watchEvents(limit: number, signal: AbortSignal): AsyncGenerator<NodeEvent, void, undefined>;
  up(request: MessageInitShape<typeof UpRequestSchema>, signal: AbortSignal): Promise<NodeStatus>;
  down(): Promise<DownResponse>;
  rotate(request: MessageInitShape<typeof RotateRequestSchema>, signal: AbortSignal): Promise<NodeStatus>;
  rotateKey(request: MessageInitShape<typeof RotateKeyRequestSchema>): Promise<RotateKeyResponse>;
  setPath(request: MessageInitShape<typeof SetPathRequestSchema>, signal: AbortSignal): Promise<NodeStatus>;
  setLockdown(on: boolean): Promise<NodeStatus>;
  /** Milliseconds; 0 closes it. */
  setPortal(forMs: number): Promise<SetPortalResponse>;
  /** Progress of a drain, until it is done; one goes on when the signal aborts, with nobody listening. */
  drain(
    request: MessageInitShape<typeof DrainRequestSchema>,
    signal: AbortSignal,
  ): AsyncGenerator<DrainProgress, void, undefined>;
  /** Milliseconds; 0 for until it is resumed. */
  pause(forMs: number): Promise<NodeStatus>;
  resume(): Promise<NodeStatus>;
  listExits(request: MessageInitShape<typeof ListExitsRequestSchema>): Promise<readonly ExitSummary[]>;
  createToken(request: MessageInitShape<typeof CreateTokenRequestSchema>): Promise<CreateTokenResponse>;
  listTokens(): Promise<readonly TokenSummary[]>;
  revokeToken(tokenId: string): Promise<void>;
  /** All of them, in no order; asked for in parts. */
  listMembers(): Promise<ListMembersResponse>;
  revokeMember(request: MessageInitShape<typeof RevokeMemberRequestSchema>): Promise<RevokeMemberResponse>;
  unrevokeMember(request: MessageInitShape<typeof UnrevokeMemberRequestSchema>): Promise<RevokeMemberResponse>;
}

/** Longer than any answer that does not wait for the network. */
const ANSWER_MS = 15_000;

export function localClient(socket: string): LocalApi {
  const transport = createConnectTransport({
    baseUrl: 'http://localhost',
    httpVersion: '1.1',
    nodeOptions: { socketPath: socket },
  });
  const node = createClient(LocalNode, transport);
  const client = createClient(LocalClient, transport);
  const supernode = createClient(LocalSupernode, transport);
  const exit = createClient(LocalExit, transport);
  const base = createClient(LocalBase, transport);
  const keys = createClient(LocalKeys, transport);
  const asVpnd = async <T>(call: Promise<T>): Promise<T> => {
    try {
      return await call;
    } catch (thrown) {
      throw fromConnectError(thrown, socket);
    }
  };
  /** Ends quietly when the signal aborts. */
  async function* following<T>(answers: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, void, undefined> {
    try {
      yield* answers;
    } catch (thrown) {
      if (!signal.aborted) throw fromConnectError(thrown, socket);
    }
  }
  const soon = { timeoutMs: ANSWER_MS };
  return {
    status: () => asVpnd(node.getStatus({}, soon)),
    watch: (signal) => following(node.watchStatus({}, { signal }), signal),
    events: async (limit) => (await asVpnd(node.listEvents({ limit }, soon))).events,
    watchEvents: (limit, signal) => following(node.watchEvents({ limit }, { signal }), signal),
    up: (request, signal) => asVpnd(client.up(request, { signal })),
    down: () => asVpnd(client.down({}, soon)),
    rotate: (request, signal) => asVpnd(client.rotate(request, { signal })),
    setPath: (request, signal) => asVpnd(client.setPath(request, { signal })),
    setLockdown: (on) => asVpnd(client.setLockdown({ on }, soon)),
    setPortal: (forMs) => asVpnd(client.setPortal({ forMs: BigInt(forMs) }, soon)),
    rotateKey: (request) => asVpnd(keys.rotateKey(request, soon)),
    drain: (request, signal) => following(supernode.drain(request, { signal }), signal),
    pause: (forMs) => asVpnd(exit.pause({ forMs: BigInt(forMs) }, soon)),
    resume: () => asVpnd(exit.resume({}, soon)),
    listExits: async (request) => (await asVpnd(client.listExits(request, soon))).exits,
    createToken: (request) => asVpnd(base.createToken(request, soon)),
    listTokens: async () => (await asVpnd(base.listTokens({}, soon))).tokens,
    revokeToken: async (tokenId) => {
      await asVpnd(base.revokeToken({ tokenId }, soon));
    },
    listMembers: () => asVpnd(everyMember((after) => base.listMembers({ after }, soon))),
    revokeMember: (request) => asVpnd(base.revokeMember(request, soon)),
    unrevokeMember: (request) => asVpnd(base.unrevokeMember(request, soon)),
  };
}

/** One part after the other. */
async function everyMember(part: (after: string) => Promise<ListMembersResponse>): Promise<ListMembersResponse> {
  const first = await part('');
  const members = [...first.members];
  for (let { next } = first; next !== ''; ) {
    const more = await part(next);
    for (const one of more.members) members.push(one);
    next = more.next;
  }
  return { ...first, next: '', members };
}
