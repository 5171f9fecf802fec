import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { connect } from 'node:net';
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { ConnectRouter, HandlerContext } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import type { Log } from '../core/ports/log.js';
import { LocalBase, LocalClient, LocalNode, type NodeStatusSchema } from '../gen/vpnd/v1/admin_pb.js';
import { toVpndError, VpndError } from '../model/errors.js';
import type { Role } from '../model/role.js';
import type { LocalHandlers } from './local-api.js';
import { toConnectError } from './local-api-errors.js';

export interface LocalApiOptions {
  /** Absolute path of the unix socket. */
  readonly socket: string;
  readonly role: Role;
  readonly handlers: LocalHandlers;
  readonly log: Log;
}

export interface LocalApiServer {
  /** Ends running calls and removes the socket. */
  close(): Promise<void>;
}

/** sockaddr_un holds 108 bytes with the final NUL (unix(7)). */
const PATH_LIMIT = 107;
const REQUEST_LIMIT_BYTES = 64 * 1024;

/**
 * Serves the local API on a unix socket of mode 0600, and nowhere else. A socket that a crash left behind is replaced.
 *
 * Rejects with VpndError: `bad-config` (path too long, or something else lives there), `state-locked` (a daemon answers
 * there already).
 */
export async function serveLocalApi(options: LocalApiOptions): Promise<LocalApiServer> {
  const { socket, role, handlers, log } = options;
  await clearStaleSocket(socket);
  const closing = new AbortController();
  const server = createServer(
    connectNodeAdapter({
      routes: (router) => routes(router, role, handlers, log, closing.signal),
      readMaxBytes: REQUEST_LIMIT_BYTES,
      // Browsers and other vpnd-unaware tools have no business here; one protocol is enough.
      grpc: false,
      grpcWeb: false,
    }),
  );
  await listenOn(server, socket);
  return {
    close: () =>
      new Promise((resolve) => {
        closing.abort(new VpndError('closed', 'the daemon is stopping'));
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function routes(
  router: ConnectRouter,
  role: Role,
  handlers: LocalHandlers,
  log: Log,
  closing: AbortSignal,
): ConnectRouter {
  /** Runs the role's method if it has one; what it throws travels with its code. */
  const answer = async <M, T>(
    call: string,
    forRole: Role,
    method: M | undefined,
    run: (m: M) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> => {
    try {
      if (method === undefined) throw notFor(call, role, forRole);
      return await run(method);
    } catch (thrown) {
      // Whoever gave up gets no answer; that is nothing broken.
      if (signal?.aborted) throw toConnectError(new VpndError('closed', 'the request was given up', { cause: thrown }));
      if (toVpndError(thrown).code === 'internal') log.error(`local API: ${call} failed`, { err: thrown });
      throw toConnectError(thrown);
    }
  };
  const h = handlers;
  router.service(LocalNode, {
    getStatus: () => answer('status', role, h.status.bind(h), (status) => status()),
    watchStatus: (_, context) => watch(h, context, closing),
  });
  router.service(LocalClient, {
    up: (request, context) => {
      const signal = AbortSignal.any([context.signal, closing]);
      return answer('up', 'client', h.up?.bind(h), (up) => up(request, signal), signal);
    },
    down: () => answer('down', 'client', h.down?.bind(h), (down) => down()),
    listExits: (request) => answer('exits', 'client', h.listExits?.bind(h), (list) => list(request)),
  });
  router.service(LocalBase, {
    createToken: (request) => answer('token create', 'base', h.createToken?.bind(h), (make) => make(request)),
    listTokens: () => answer('token list', 'base', h.listTokens?.bind(h), (list) => list()),
    revokeToken: (request) =>
      answer('token revoke', 'base', h.revokeToken?.bind(h), async (revoke) => {
        await revoke(request);
        return {};
      }),
  });
  return router;
}

const NAMES: Record<Role, string> = { base: 'base', supernode: 'a supernode', exit: 'an exit', client: 'a client' };
const notFor = (call: string, role: Role, forRole: Role): VpndError =>
  new VpndError(
    'not-supported',
    role === forRole
      ? `this ${forRole} does not know \`vpnd ${call}\` yet`
      : `this is ${NAMES[role]}; \`vpnd ${call}\` is for ${NAMES[forRole]}`,
  );

/** The status now, and again whenever it changes; a role that cannot tell is answered once. */
async function* watch(
  handlers: LocalHandlers,
  context: HandlerContext,
  closing: AbortSignal,
): AsyncGenerator<MessageInitShape<typeof NodeStatusSchema>> {
  const signal = AbortSignal.any([context.signal, closing]);
  try {
    for (;;) {
      // Listening before asking: what changes while the status is put together is not missed.
      const changed = handlers.statusChanged?.(signal);
      changed?.catch(() => {});
      yield await handlers.status();
      if (changed === undefined) return;
      await changed;
      if (signal.aborted) return;
    }
  } catch (thrown) {
    if (signal.aborted) return;
    throw toConnectError(thrown);
  }
}

async function clearStaleSocket(socket: string): Promise<void> {
  const bytes = Buffer.byteLength(socket);
  if (bytes > PATH_LIMIT) {
    throw new VpndError(
      'bad-config',
      `'${socket}' is too long for a unix socket (${bytes} bytes, at most ${PATH_LIMIT}); choose a shorter --socket`,
    );
  }
  const stat = lstatSync(socket, { throwIfNoEntry: false });
  if (stat === undefined) return;
  if (!stat.isSocket()) {
    throw new VpndError('bad-config', `'${socket}' is not a socket; move it away or choose another --socket`);
  }
  if (await answers(socket)) {
    throw new VpndError('state-locked', `another vpnd answers at '${socket}'; stop it or choose another --socket`);
  }
  unlinkSync(socket);
}

const answers = (socket: string): Promise<boolean> =>
  new Promise((resolve) => {
    const probe = connect(socket);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => resolve(false));
  });

async function listenOn(server: Server, socket: string): Promise<void> {
  // bind(2) makes the file, with the mode that the umask leaves: nobody may connect between it and a chmod.
  const umask = process.umask(0o177);
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', (cause: NodeJS.ErrnoException) =>
        reject(new VpndError('bad-config', `cannot listen on '${socket}': ${cause.code ?? cause.message}`, { cause })),
      );
      server.listen(socket, () => resolve());
      process.umask(umask);
    });
  } finally {
    process.umask(umask);
  }
  chmodSync(socket, 0o600);
}
