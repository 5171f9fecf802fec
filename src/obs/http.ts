import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type AddressInfo, isIP } from 'node:net';
import type { Registry } from 'prom-client';
import { type Endpoint, formatHostPort, type HostPort, type IpAddress, type Port } from '../model/address.js';
import { VpndError } from '../model/errors.js';

export interface Health {
  readonly ok: boolean;
  readonly detail: string;
}

export interface HealthServerOptions {
  readonly listen: HostPort;
  readonly registry: Registry;
  readonly health: () => Health;
  /** Names besides `localhost` and IP literals that a Host header may carry. */
  readonly names?: readonly string[];
}

export interface HealthServer {
  readonly address: Endpoint;
  close(): Promise<void>;
}

/**
 * `/metrics` (Prometheus text) and `/healthz` (JSON, 200 or 503), GET only. A request whose Host header is a foreign
 * name is refused: a web page that rebinds its own name to this address must not be able to read anything.
 *
 * Rejects with VpndError `port-in-use` or `bad-config`.
 */
export async function serveHealth(options: HealthServerOptions): Promise<HealthServer> {
  const names = new Set(['localhost', ...(options.names ?? []).map((name) => name.toLowerCase())]);
  const server = createServer(
    { maxHeaderSize: 8 * 1024, requestTimeout: 10_000, headersTimeout: 5_000, keepAliveTimeout: 5_000 },
    (request, response) => {
      answer(request, names, options).then(
        (reply) => send(response, reply),
        () => send(response, { status: 500, body: 'failed\n' }),
      );
    },
  );
  server.maxConnections = 64;
  await listening(server, options.listen);
  const bound = server.address() as AddressInfo;
  return {
    address: { ip: bound.address as IpAddress, port: bound.port as Port },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

interface Reply {
  readonly status: number;
  readonly body: string;
  readonly type?: string;
  readonly allow?: string;
}

async function answer(
  request: IncomingMessage,
  names: ReadonlySet<string>,
  { registry, health }: HealthServerOptions,
): Promise<Reply> {
  if (!knownHost(request.headers.host, names)) {
    return { status: 403, body: 'The Host header must be an IP address, localhost or a configured name.\n' };
  }
  const path = (request.url ?? '').split('?', 1)[0];
  if (path !== '/metrics' && path !== '/healthz') return { status: 404, body: 'not found\n' };
  if (request.method !== 'GET') return { status: 405, body: 'GET only\n', allow: 'GET' };
  if (path === '/metrics') return { status: 200, body: await registry.metrics(), type: registry.contentType };
  const state = health();
  return { status: state.ok ? 200 : 503, body: `${JSON.stringify(state)}\n`, type: 'application/json' };
}

/** Whether a Host header names this server as somebody who really means it would. */
export function knownHost(header: string | undefined, names: ReadonlySet<string>): boolean {
  if (header === undefined) return false;
  const parts = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(header);
  if (!parts) return false;
  const [, bracketed, plain] = parts;
  if (bracketed !== undefined) return isIP(bracketed) === 6;
  const host = (plain ?? '').toLowerCase().replace(/\.$/, '');
  return isIP(host) === 4 || names.has(host);
}

function send(response: ServerResponse, reply: Reply): void {
  response.writeHead(reply.status, {
    'content-type': reply.type ?? 'text/plain; charset=utf-8',
    'content-length': Buffer.byteLength(reply.body),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    ...(reply.allow === undefined ? {} : { allow: reply.allow }),
  });
  response.end(reply.body);
}

function listening(server: Server, at: HostPort): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const where = formatHostPort(at);
      reject(
        cause.code === 'EADDRINUSE'
          ? new VpndError(
              'port-in-use',
              `metrics: ${where} is in use; choose another with --metrics, or --metrics off for none`,
              {
                cause,
              },
            )
          : new VpndError('bad-config', `metrics: cannot listen on ${where}: ${cause.message}`, { cause }),
      );
    });
    server.listen(at.port, at.host, () => resolve());
  });
}
