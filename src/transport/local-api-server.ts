import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { connect } from 'node:net';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { type Audit, type AuditActor, NO_AUDIT } from '../core/ports/audit.js';
import type { Log } from '../core/ports/log.js';
import { VpndError } from '../model/errors.js';
import type { Role } from '../model/role.js';
import type { LocalHandlers } from './local-api.js';
import { localRoutes } from './local-api-routes.js';

export interface LocalApiOptions {
  /** Absolute path of the unix socket. */
  readonly socket: string;
  readonly role: Role;
  readonly handlers: LocalHandlers;
  readonly log: Log;
  /** Where calls are written down; nowhere unless given. */
  readonly audit?: Audit;
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
  const { socket, role, handlers, log, audit = NO_AUDIT } = options;
  await clearStaleSocket(socket);
  const closing = new AbortController();
  const answer = connectNodeAdapter({
    routes: localRoutes(role, handlers, log, closing.signal, { audit, caller: () => whoMayConnect(socket) }),
    readMaxBytes: REQUEST_LIMIT_BYTES,
    // Browsers and other vpnd-unaware tools have no business here; one protocol is enough.
    grpc: false,
    grpcWeb: false,
  });
  const server = createServer((request, response) => {
    try {
      answer(request, response);
    } catch {
      // It makes a URL of path and Host before anything else, and throws where they make none: nobody else would catch it.
      response.writeHead(400).end();
    }
  });
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

/**
 * Node cannot ask the kernel who is at the other end (SO_PEERCRED), so this says who can be: the socket's owner, its group
 * where that may write, and root, who always can. `local:uid=0`, `local:uid=997|0`, `local:uid=997|0,gid=27`.
 */
export function whoMayConnect(socket: string): AuditActor {
  const stat = lstatSync(socket, { throwIfNoEntry: false });
  if (stat === undefined) return 'local:?';
  const users = stat.uid === 0 ? '0' : `${stat.uid}|0`;
  return `local:uid=${users}${(stat.mode & 0o020) === 0 ? '' : `,gid=${stat.gid}`}`;
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
