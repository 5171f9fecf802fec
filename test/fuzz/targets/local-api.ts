import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createConnectRouter } from '@connectrpc/connect';
import { Registry } from 'prom-client';
import { LocalBase, LocalClient, LocalNode, LocalSupernode } from '../../../src/gen/vpnd/v1/admin_pb.js';
import type { Port } from '../../../src/model/address.js';
import { knownHost, serveHealth } from '../../../src/obs/http.js';
import type { LocalHandlers } from '../../../src/transport/local-api.js';
import { localRoutes } from '../../../src/transport/local-api-routes.js';
import { serveLocalApi } from '../../../src/transport/local-api-server.js';
import { baseWorld } from '../../support/base-world.js';
import { testLog } from '../../support/test-log.js';
import { isMistake, must, Violation } from '../engine/oracle.js';
import { bytesOf, type Target, textOf } from '../engine/target.js';

const SERVICES = [LocalNode, LocalClient, LocalSupernode, LocalBase];
const PATHS = SERVICES.flatMap((service) => service.methods.map((method) => `/${service.typeName}/${method.name}`));
const BODIES = [
  { role: 'ROLE_EXIT', region: 'eu', ttlMs: '3600000', uses: 1, pool: 'blue', note: 'x', egress: false },
  { peer: 'a'.repeat(52), reason: 'lost', supernode: true },
  { tokenId: '1a2b3c4d', limit: 5 },
  { region: 'eu', exit: '', privacy: 'PRIVACY_AUTO', minMbps: 1.5, path: 'PATH_DIRECT', reason: 'x' },
  {},
];
/** Calls of the local API as base takes them: what anybody with access to the socket can send, by JSON. */
export const localApi: Target = {
  name: 'local-api',
  shape: 'json',
  words: [
    ...PATHS,
    'role',
    'region',
    'ttlMs',
    'uses',
    'peer',
    'supernode',
    'tokenId',
    'limit',
    'application/json',
    'application/connect+json',
    'ROLE_EXIT',
  ],
  mostBytes: 32 * 1024,
  mostGrowth: 48,
  open: async (seed) => {
    const world = await baseWorld({}, seed);
    const log = testLog();
    const closing = new AbortController();
    const router = createConnectRouter({ readMaxBytes: 64 * 1024, grpc: false, grpcWeb: false });
    localRoutes('base', world.running.local, log, closing.signal)(router);
    const handlers = new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
    return {
      make: (chance) =>
        bytesOf(JSON.stringify({ path: chance.of(PATHS), type: 'application/json', body: chance.of(BODIES) })),
      async run(input) {
        const asked = callIn(textOf(input));
        const handler = handlers.get(asked.path);
        if (handler === undefined) return;
        const giveUp = new AbortController();
        const answered = handler({
          httpVersion: '1.1',
          url: `http://localhost${asked.path}`,
          method: 'POST',
          header: new Headers({ 'content-type': asked.type }),
          body: once(asked.body),
          signal: giveUp.signal,
        });
        const response = await world.clock.run(answered);
        const text = await world.clock.run(firstOf(response.body));
        giveUp.abort();
        must(
          response.status !== 500 || !/\n\s+at |TypeError|RangeError/.test(text),
          'an answer shows the inside',
          text,
        );
        const broken = [...log.lines, ...world.log.lines].find(
          ({ fields, level }) => isMistake(fields.err) || level === 'error',
        );
        if (broken !== undefined)
          throw new Violation(`${broken.text}: ${String((broken.fields.err as Error)?.stack ?? '')}`);
        (log.lines as unknown[]).length = 0;
        (world.log.lines as unknown[]).length = 0;
      },
      async check() {
        // Whoever may open the socket may make tokens: what counts is that nothing else piles up.
        must(world.clock.pending < 200, 'timers pile up', world.clock.pending);
      },
      close: async () => {
        closing.abort();
        await world.clock.run(world.running.stop());
      },
    };
  },
};

/** Anything is a call: of the first method, where it says nothing else. */
function callIn(text: string): { readonly path: string; readonly type: string; readonly body: Uint8Array } {
  let asked: { path?: unknown; type?: unknown; body?: unknown };
  let body: string;
  try {
    asked = Object(JSON.parse(text)) as typeof asked;
    // A program of its own goes no deeper than its stack; what is deeper goes as it is.
    body = typeof asked.body === 'string' ? asked.body : (JSON.stringify(asked.body) ?? '');
  } catch {
    return { path: PATHS[text.length % PATHS.length] ?? '', type: 'application/json', body: bytesOf(text) };
  }
  const type = typeof asked.type === 'string' && /^[\x20-\x7e]*$/.test(asked.type) ? asked.type : 'application/json';
  const path = typeof asked.path === 'string' ? asked.path : '';
  return { path, type, body: bytesOf(body) };
}

async function* once(body: Uint8Array): AsyncGenerator<Uint8Array> {
  yield body;
}

/** Some answers never end. */
async function firstOf(body: AsyncIterable<Uint8Array> | undefined): Promise<string> {
  if (body !== undefined) for await (const part of body) return textOf(part);
  return '';
}

const REQUESTS = [
  ...PATHS.map(
    (path) =>
      `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}`,
  ),
  'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9470\r\n\r\n',
  'GET /healthz HTTP/1.1\r\nHost: [::1]:9470\r\nConnection: close\r\n\r\n',
  'GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n',
  'POST /vpnd.v1.LocalNode/GetStatus HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n',
];

/** Bytes on the socket of the local API and on the port of /metrics, as they come. */
export const http: Target = {
  name: 'http',
  shape: 'text',
  words: [
    '\r\n',
    '\r\n\r\n',
    'Host: ',
    'localhost',
    'evil.example',
    'Content-Length: ',
    'Transfer-Encoding: chunked',
    'HTTP/1.1',
    'GET ',
    'POST ',
    '/metrics',
    '/healthz',
    'Expect: 100-continue',
    'Upgrade: h2c',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  ],
  mostBytes: 16 * 1024,
  open: async () => {
    const dir = mkdtempSync(join(tmpdir(), 'vpnd-fuzz-http-'));
    const log = testLog();
    const handlers: LocalHandlers = { status: async () => ({ problems: ['secret-of-the-status'] }) };
    const socket = join(dir, 'vpnd.sock');
    const local = await serveLocalApi({ socket, role: 'client', handlers, log });
    const health = await serveHealth({
      listen: { host: '127.0.0.1', port: 0 as Port },
      registry: new Registry(),
      health: () => ({ ok: true, detail: 'secret-of-the-health' }),
    });
    const names = new Set(['localhost']);
    return {
      make: (chance) => bytesOf(chance.of(REQUESTS)),
      async run(input) {
        const text = textOf(input);
        const [told] = await Promise.all([
          answerTo(connect(health.address.port, '127.0.0.1'), input),
          answerTo(connect(socket), input),
        ]);
        must(!/^HTTP\/1\.1 500/.test(told), 'a request breaks what answers it', told);
        const host = /^[^\r\n]*\r\nHost: ([^\r\n]*)\r\n/.exec(text)?.[1];
        if (told.includes('secret-of-the-health') && host !== undefined)
          must(knownHost(host.trim(), names), 'a foreign name is answered', host);
        if (host !== undefined && knownHost(host, names))
          must(
            /^(?:localhost|\[[0-9a-f:.]+\]|[\d.]+)\.?(?::\d*)?$/i.test(host),
            'a name passes for this machine',
            host,
          );
        const broken = log.lines.find(({ level }) => level === 'error');
        must(broken === undefined, 'the local API broke inside', broken?.text);
        (log.lines as unknown[]).length = 0;
      },
      async close() {
        await Promise.all([local.close(), health.close()]);
        rmSync(dir, { recursive: true, force: true });
      },
    };
  },
};

/** What comes back within a moment; the other side may wait for more, so this one ends first. */
function answerTo(socket: Socket, input: Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      if (answer.length < 4_096) answer += text;
    });
    socket.once('error', () => resolve(answer));
    socket.once('close', () => resolve(answer));
    socket.end(input);
  });
}
