import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ConnectRouter } from '@connectrpc/connect';
import { type Audit, type AuditActor, NO_AUDIT } from '../core/ports/audit.js';
import type { Log } from '../core/ports/log.js';
import {
  LocalBase,
  LocalClient,
  LocalExit,
  LocalKeys,
  LocalNode,
  LocalSupernode,
  type NodeEventSchema,
  type NodeStatusSchema,
} from '../gen/vpnd/v1/admin_pb.js';
import { toVpndError, VpndError } from '../model/errors.js';
import type { NodeEvent } from '../model/event.js';
import type { Role } from '../model/role.js';
import type { LocalHandlers } from './local-api.js';
import { toConnectError } from './local-api-errors.js';

/**
 * The local API over a role's handlers: a call that the role does not have is refused, and what a handler throws travels
 * with its code. `closing` ends the calls that are under way.
 */
export function localRoutes(
  role: Role,
  h: LocalHandlers,
  log: Log,
  closing: AbortSignal,
  audited: AuditedCalls = { audit: NO_AUDIT, caller: () => 'operator' },
): (router: ConnectRouter) => void {
  const failure = (call: string, thrown: unknown): unknown => {
    if (toVpndError(thrown).code === 'internal') log.error(`local API: ${call} failed`, { err: thrown });
    return toConnectError(thrown);
  };
  /** On disk before the call is carried out; where that cannot be, it is not. */
  const recordCall = async (call: string): Promise<void> => {
    const event = { code: 'admin-call', by: audited.caller(), on: `call:${call}` } as const;
    if (LISTS.has(call)) audited.audit.note(event);
    else if (!LOOKS.has(call)) await audited.audit.record(event);
  };
  const recordRefusal = (call: string, thrown: unknown): void => {
    if (LOOKS.has(call)) return;
    const detail = { refused: toVpndError(thrown).code };
    audited.audit.note({ code: 'admin-call', by: audited.caller(), on: `call:${call}`, detail });
  };
  /** Runs the role's method if it has one. */
  const answer = async <M, T>(
    call: string,
    forRole: Role,
    method: M | undefined,
    run: (m: M) => Promise<T> | T,
    signal?: AbortSignal,
  ): Promise<T> => {
    try {
      if (method === undefined) throw notFor(call, role, forRole);
      await recordCall(call);
      return await run(method);
    } catch (thrown) {
      recordRefusal(call, thrown);
      // Whoever gave up gets no answer; that is nothing broken.
      if (signal?.aborted) throw toConnectError(new VpndError('closed', 'the request was given up', { cause: thrown }));
      throw failure(call, thrown);
    }
  };
  /** The same for a method with many answers; it ends when the caller goes away, or the daemon. */
  async function* stream<M, T>(
    call: string,
    forRole: Role,
    method: M | undefined,
    run: (m: M, signal: AbortSignal) => AsyncIterable<T>,
    caller: AbortSignal,
  ): AsyncGenerator<T> {
    const signal = AbortSignal.any([caller, closing]);
    try {
      if (method === undefined) throw notFor(call, role, forRole);
      await recordCall(call);
      yield* run(method, signal);
    } catch (thrown) {
      if (signal.aborted) return;
      recordRefusal(call, thrown);
      throw failure(call, thrown);
    }
  }
  const until = (caller: AbortSignal): AbortSignal => AbortSignal.any([caller, closing]);

  return (router) => {
    router.service(LocalNode, {
      getStatus: () => answer('status', role, h.status.bind(h), (status) => status()),
      watchStatus: (_, { signal }) => stream('status', role, h, watchStatus, signal),
      listEvents: ({ limit }) =>
        answer('events', role, h.events?.bind(h), (events) => ({ events: events(atMost(limit)).map(wireEvent) })),
      watchEvents: ({ limit }, { signal }) =>
        stream('events', role, withEvents(h), (events, ended) => watchEvents(events, atMost(limit), ended), signal),
    });
    router.service(LocalClient, {
      up: (request, { signal }) => {
        const ended = until(signal);
        return answer('up', 'client', h.up?.bind(h), (up) => up(request, ended), ended);
      },
      down: () => answer('down', 'client', h.down?.bind(h), (down) => down()),
      rotate: (request, { signal }) => {
        const ended = until(signal);
        return answer('rotate', 'client', h.rotate?.bind(h), (rotate) => rotate(request, ended), ended);
      },
      setPath: (request, { signal }) => {
        const ended = until(signal);
        return answer('path', 'client', h.setPath?.bind(h), (setPath) => setPath(request, ended), ended);
      },
      setLockdown: ({ on }) => answer('lockdown', 'client', h.setLockdown?.bind(h), (setLockdown) => setLockdown(on)),
      setPortal: ({ forMs }) =>
        answer('portal', 'client', h.setPortal?.bind(h), (setPortal) => setPortal(Number(forMs))),
      listExits: (request) => answer('exits', 'client', h.listExits?.bind(h), (list) => list(request)),
    });
    router.service(LocalSupernode, {
      drain: (request, { signal }) =>
        stream('supernode drain', 'supernode', h.drain?.bind(h), (drain, ended) => drain(request, ended), signal),
    });
    router.service(LocalKeys, {
      rotateKey: (request) =>
        answer('keys rotate', KEY_OF[request.what] ?? role, h.rotateKey?.bind(h), (rotate) => rotate(request)),
    });
    router.service(LocalExit, {
      pause: (request) => answer('exit pause', 'exit', h.pause?.bind(h), (pause) => pause(request)),
      resume: () => answer('exit resume', 'exit', h.resume?.bind(h), (resume) => resume()),
    });
    router.service(LocalBase, {
      createToken: (request) => answer('token create', 'base', h.createToken?.bind(h), (make) => make(request)),
      listTokens: () => answer('token list', 'base', h.listTokens?.bind(h), (list) => list()),
      revokeToken: (request) =>
        answer('token revoke', 'base', h.revokeToken?.bind(h), async (revoke) => {
          await revoke(request);
          return {};
        }),
      listMembers: (request) => answer('members', 'base', h.listMembers?.bind(h), (list) => list(request)),
      revokeMember: (request) =>
        answer(request.supernode ? 'supernode ban' : 'revoke', 'base', h.revokeMember?.bind(h), (revoke) =>
          revoke(request),
        ),
      unrevokeMember: (request) =>
        answer(request.supernode ? 'supernode unban' : 'unrevoke', 'base', h.unrevokeMember?.bind(h), (unrevoke) =>
          unrevoke(request),
        ),
    });
  };
}

/** Who uses the local API is written down by these. */
export interface AuditedCalls {
  readonly audit: Audit;
  caller(): AuditActor;
}

/** Asked by monitoring every few seconds, and telling nothing that a log does not: no entries. */
const LOOKS: ReadonlySet<string> = new Set(['status', 'events']);
/** They change nothing, so that a full disk does not refuse them. */
const LISTS: ReadonlySet<string> = new Set(['token list', 'members', 'exits']);

/** Whose a key is, for who asks another daemon for it. */
const KEY_OF: Readonly<Record<string, Role>> = { wireguard: 'exit', ca: 'base', base: 'base' };

const NAMES: Record<Role, string> = { base: 'base', supernode: 'a supernode', exit: 'an exit', client: 'a client' };
const notFor = (call: string, role: Role, forRole: Role): VpndError =>
  new VpndError(
    'not-supported',
    role === forRole
      ? `this ${forRole} does not know \`vpnd ${call}\` yet`
      : `this is ${NAMES[role]}; \`vpnd ${call}\` is for ${NAMES[forRole]}`,
  );

/** The status now, and again whenever it changes; a role that cannot tell is answered once. */
async function* watchStatus(
  handlers: LocalHandlers,
  signal: AbortSignal,
): AsyncGenerator<MessageInitShape<typeof NodeStatusSchema>> {
  for (;;) {
    // Listening before asking: what changes while the status is put together is not missed.
    const changed = handlers.statusChanged?.(signal);
    changed?.catch(() => {});
    yield await handlers.status();
    if (changed === undefined) return;
    await changed;
    if (signal.aborted) return;
  }
}

type WireEvent = MessageInitShape<typeof NodeEventSchema>;

const wireEvent = ({ at, code, text, session }: NodeEvent): WireEvent => ({
  atMs: BigInt(at),
  code,
  text,
  sessionId: session ?? '',
});

/** On the wire 0 is no limit. */
const atMost = (limit: number): number => (limit === 0 ? Number.POSITIVE_INFINITY : limit);

interface Events {
  list(limit: number): readonly NodeEvent[];
  next(signal: AbortSignal): Promise<void>;
}

function withEvents(h: LocalHandlers): Events | undefined {
  const [list, next] = [h.events?.bind(h), h.nextEvent?.bind(h)];
  return list === undefined || next === undefined ? undefined : { list, next };
}

/** The newest events, then each as it happens, none lost and none twice, however slowly they are read. */
async function* watchEvents(events: Events, limit: number, signal: AbortSignal): AsyncGenerator<WireEvent> {
  let seen = -1;
  for (let most = limit; ; most = Number.POSITIVE_INFINITY) {
    const next = events.next(signal);
    next.catch(() => {});
    // Those that a first, limited look leaves out have been seen to, so that the next one does not bring them.
    const found = events.list(most).filter(({ sequence }) => sequence > seen);
    seen = found.at(-1)?.sequence ?? seen;
    for (const event of found) yield wireEvent(event);
    await next;
    if (signal.aborted) return;
  }
}
