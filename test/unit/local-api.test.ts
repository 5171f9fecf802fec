import { chmodSync, existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import type { Log, LogFields } from '../../src/core/ports/log.js';
import { Path, Role as WireRole } from '../../src/gen/vpnd/v1/types_pb.js';
import { VpndError } from '../../src/model/errors.js';
import type { NodeEvent } from '../../src/model/event.js';
import type { SessionId } from '../../src/model/ids.js';
import type { Role } from '../../src/model/role.js';
import { instantOf } from '../../src/model/time.js';
import { Changes } from '../../src/roles/common/changes.js';
import type { LocalHandlers } from '../../src/transport/local-api.js';
import { localClient } from '../../src/transport/local-api-client.js';
import { serveLocalApi } from '../../src/transport/local-api-server.js';

const dir = mkdtempSync(join(tmpdir(), 'vpnd-local-'));
t.teardown(() => rmSync(dir, { recursive: true }));
let count = 0;
const newSocket = (): string => join(dir, `${++count}.sock`);

function logInto(lines: string[]): Log {
  const write = (text: string, _fields?: LogFields): void => void lines.push(text);
  const log: Log = { debug: write, info: write, warn: write, error: write, child: () => log };
  return log;
}

async function serve(test: Test, handlers: LocalHandlers, role: Role = 'client') {
  const socket = newSocket();
  const errors: string[] = [];
  const server = await serveLocalApi({ socket, role, handlers, log: logInto(errors) });
  test.teardown(() => server.close());
  return { socket, server, errors, api: localClient(socket) };
}

const never = new AbortController().signal;

t.test('a status comes through whole', async (t) => {
  const { api, socket } = await serve(t, {
    status: async () => ({
      role: WireRole.CLIENT,
      peerId: 'abc',
      startedMs: 1_700_000_000_000n,
      sessions: [{ sessionId: 's', path: Path.RELAY2, via: ['a', 'b'], rxBytes: 2n ** 40n }],
      problems: ['clock is off'],
      facts: { tokens: '3' },
    }),
  });
  const status = await api.status();
  t.equal(status.role, WireRole.CLIENT);
  t.equal(status.startedMs, 1_700_000_000_000n);
  t.equal(status.sessions[0]?.rxBytes, 2n ** 40n);
  t.same(status.sessions[0]?.via, ['a', 'b']);
  t.same({ ...status.facts }, { tokens: '3' });
  t.equal(statSync(socket).mode & 0o777, 0o600, 'nobody else may talk to the daemon');
});

t.test('a refusal keeps its code, message, details and whether to try again', async (t) => {
  const { api, errors } = await serve(t, {
    status: async () => ({}),
    up: async (request) => {
      throw new VpndError('no-exit', `no exit in ${request.region}`, {
        details: { region: request.region },
        retryable: true,
      });
    },
    down: async () => {
      throw new TypeError('cannot read x of undefined');
    },
  });
  await t.rejects(api.up({ region: 'eu' }, never), {
    name: 'VpndError',
    code: 'no-exit',
    message: 'no exit in eu',
    details: { region: 'eu' },
    retryable: true,
  });
  await t.rejects(api.down(), { name: 'VpndError', code: 'internal', message: 'cannot read x of undefined' });
  t.same(errors, ['local API: down failed'], 'what is broken is in the log, what is refused is not');
});

t.test('a role says what it is when it is asked for what it cannot do', async (t) => {
  const { api } = await serve(t, { status: async () => ({}) }, 'exit');
  await t.rejects(api.up({}, never), { code: 'not-supported', message: 'this is an exit; `vpnd up` is for a client' });
  await t.rejects(api.listTokens(), {
    code: 'not-supported',
    message: 'this is an exit; `vpnd token list` is for base',
  });
});

t.test('methods of a class keep their object', async (t) => {
  class Handlers implements LocalHandlers {
    readonly #secret = 'kept';
    status = async () => ({ peerId: this.#secret });
    async down() {
      return { wasUp: this.#secret === 'kept' };
    }
  }
  const { api } = await serve(t, new Handlers());
  t.equal((await api.down()).wasUp, true);
});

t.test('watching tells the status now and after every change, until the daemon ends', async (t) => {
  let version = 1;
  const waiting: (() => void)[] = [];
  const { api, server } = await serve(t, {
    status: async () => ({ version: String(version) }),
    statusChanged: () => new Promise((resolve) => waiting.push(resolve)),
  });
  const seen = api.watch(never);
  t.equal((await seen.next()).value?.version, '1');
  version = 2;
  const next = seen.next();
  for (const resolve of waiting.splice(0)) resolve();
  t.equal((await next).value?.version, '2');
  const last = seen.next().then(
    (end) => end.done === true,
    (error: VpndError) => error.code === 'closed',
  );
  await server.close();
  t.equal(await last, true);
});

t.test('whoever stops watching is forgotten', async (t) => {
  let aborted: (() => void) | undefined;
  const gone = new Promise<void>((resolve) => {
    aborted = resolve;
  });
  const { api } = await serve(t, {
    status: async () => ({}),
    statusChanged: (signal) =>
      new Promise((_, reject) =>
        signal.addEventListener('abort', () => {
          aborted?.();
          reject(signal.reason);
        }),
      ),
  });
  const stop = new AbortController();
  const seen = api.watch(stop.signal);
  await seen.next();
  const end = seen.next();
  stop.abort();
  t.equal((await end).done, true);
  await gone;
});

t.test('a caller who gives up aborts what the daemon does for him', async (t) => {
  const stop = new AbortController();
  let noticed: (() => void) | undefined;
  const gone = new Promise<void>((resolve) => {
    noticed = resolve;
  });
  const { api, errors } = await serve(t, {
    status: async () => ({}),
    up: (_, signal) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          noticed?.();
          reject(signal.reason);
        });
        stop.abort();
      }),
  });
  await t.rejects(api.up({}, stop.signal), { code: 'closed' });
  await gone;
  await api.status();
  t.same(errors, [], 'giving up is no error of the daemon');
});

t.test('where no daemon listens, the caller is told so', async (t) => {
  await t.rejects(localClient(join(dir, 'absent.sock')).status(), {
    code: 'daemon-not-running',
    message: /start it with/,
  });
  const { socket, server } = await serve(t, { status: async () => ({}) });
  await server.close();
  t.notOk(existsSync(socket), 'a clean end leaves no socket');
  await t.rejects(localClient(socket).status(), { code: 'daemon-not-running' });
});

t.test('a socket that a crash left is replaced; one in use, and anything else, is not', async (t) => {
  const stale = newSocket();
  const { execFileSync } = await import('node:child_process');
  const crash = `require('node:net').createServer().listen(${JSON.stringify(stale)}, () => process.kill(process.pid, 'SIGKILL'))`;
  t.throws(() => execFileSync(process.execPath, ['-e', crash], { stdio: 'ignore' }));
  t.ok(existsSync(stale), 'a killed daemon leaves its socket');
  const options = { role: 'client' as const, handlers: { status: async () => ({}) }, log: logInto([]) };
  const server = await serveLocalApi({ ...options, socket: stale });
  t.ok(await localClient(stale).status());
  await t.rejects(serveLocalApi({ ...options, socket: stale }), { code: 'state-locked' });
  await server.close();

  const file = join(dir, 'file');
  writeFileSync(file, 'precious');
  await t.rejects(serveLocalApi({ ...options, socket: file }), { code: 'bad-config' });
  t.equal(statSync(file).size, 8);
  await t.rejects(serveLocalApi({ ...options, socket: join(dir, 'x'.repeat(108)) }), {
    code: 'bad-config',
    message: /too long/,
  });
  await t.rejects(serveLocalApi({ ...options, socket: join(dir, 'no', 'such.sock') }), { code: 'bad-config' });
});

t.test('something else that listens there is no daemon', async (t) => {
  const socket = newSocket();
  const server = createServer((connection) => connection.end('220 mail.example.org ESMTP\r\n'));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  t.teardown(() => server.close());
  chmodSync(socket, 0o600);
  await t.rejects(localClient(socket).status(), { name: 'VpndError' });
});

/** Events that a test makes happen. */
function eventSource() {
  const changes = new Changes();
  const all: NodeEvent[] = [];
  return {
    happen: (...texts: readonly string[]) => {
      for (const text of texts) {
        all.push({
          sequence: all.length,
          at: instantOf(1_000 + all.length),
          code: 'repaired',
          text,
          session: undefined,
        });
      }
      changes.notify();
    },
    handlers: {
      status: async () => ({}),
      events: (limit) => all.slice(-limit),
      nextEvent: (signal) => changes.next(signal),
    } satisfies LocalHandlers,
  };
}

t.test('events come oldest first, as many as are wanted', async (t) => {
  const { handlers, happen } = eventSource();
  const session = 'ab'.repeat(16) as SessionId;
  happen('one', 'two', 'three');
  const { api } = await serve(t, {
    ...handlers,
    events: (limit) => handlers.events(limit).map((event) => ({ ...event, session })),
  });
  t.match(await api.events(2), [
    { text: 'two', atMs: 1_001n, code: 'repaired', sessionId: session },
    { text: 'three' },
  ]);
  t.equal((await api.events(0)).length, 3, '0 is all of them');
});

t.test('a watcher gets each event once, those of before he came and those of while he was busy', async (t) => {
  const { handlers, happen } = eventSource();
  const { api, server } = await serve(t, handlers);
  happen('too old', 'one', 'two');
  const seen: string[] = [];
  for await (const { text } of api.watchEvents(2, never)) {
    seen.push(text);
    if (text === 'two') happen('three', 'four');
    if (text === 'three') happen('five');
    if (text === 'five') happen('six');
    if (text === 'six') break;
  }
  t.same(seen, ['one', 'two', 'three', 'four', 'five', 'six']);

  const ended = (async () => {
    for await (const _ of api.watchEvents(0, never)) setImmediate(() => void server.close());
  })();
  await ended.catch((thrown: unknown) => t.match(thrown, { code: 'closed' }, 'a daemon that stops is said so'));
  t.pass('nobody waits for a daemon that has gone');
});

t.test('whoever watches before anything happened gets the first event too', async (t) => {
  const { handlers, happen } = eventSource();
  const { api } = await serve(t, handlers);
  const watching = api.watchEvents(0, never)[Symbol.asyncIterator]();
  const first = watching.next();
  await api.status();
  happen('the first');
  t.match(await first, { value: { text: 'the first' } });
  await watching.return(undefined);
});

t.test('what a client is asked to do reaches it, and its refusals come back', async (t) => {
  const asked: unknown[] = [];
  const { api } = await serve(t, {
    status: async () => ({}),
    rotate: async ({ reason }) => {
      asked.push(reason);
      return { sessions: [{ exitId: 'other' }] };
    },
    setPath: async ({ path }) => {
      asked.push(path);
      throw new VpndError('no-direct', 'nothing came back that way');
    },
  });
  t.equal((await api.rotate({ reason: 'a film' }, never)).sessions[0]?.exitId, 'other');
  await t.rejects(api.setPath({ path: Path.DIRECT }, never), {
    code: 'no-direct',
    message: 'nothing came back that way',
  });
  t.same(asked, ['a film', Path.DIRECT]);
});

t.test('a drain is told step by step, and goes on when nobody listens any more', async (t) => {
  const steps = new Changes();
  let ended = false;
  const { api } = await serve(
    t,
    {
      status: async () => ({}),
      async *drain({ timeoutMs }, signal) {
        yield { sessions: Number(timeoutMs), streams: 2 };
        await steps.next(signal);
        if (signal.aborted) return;
        yield { done: true };
        ended = true;
      },
    },
    'supernode',
  );
  const progress: unknown[] = [];
  for await (const { sessions, done } of api.drain({ timeoutMs: 3n }, never)) {
    progress.push([sessions, done]);
    steps.notify();
  }
  t.same(progress, [
    [3, false],
    [0, true],
  ]);
  t.ok(ended);

  const stop = new AbortController();
  let lines = 0;
  for await (const _ of api.drain({}, stop.signal)) {
    lines++;
    stop.abort();
  }
  t.equal(lines, 1, 'giving up is no error');
});

t.test('each of the new calls says whom it is for', async (t) => {
  const { api } = await serve(t, { status: async () => ({}) }, 'exit');
  const drain = async (): Promise<void> => {
    for await (const _ of api.drain({}, never)) t.fail('an exit does not drain');
  };
  const watch = async (): Promise<void> => {
    for await (const _ of api.watchEvents(0, never)) t.fail('it has none');
  };
  await t.rejects(api.rotate({}, never), {
    code: 'not-supported',
    message: 'this is an exit; `vpnd rotate` is for a client',
  });
  await t.rejects(api.setPath({}, never), { message: 'this is an exit; `vpnd path` is for a client' });
  await t.rejects(drain(), { message: 'this is an exit; `vpnd supernode drain` is for a supernode' });
  await t.rejects(api.events(0), { message: 'this exit does not know `vpnd events` yet' });
  await t.rejects(watch(), { message: 'this exit does not know `vpnd events` yet' });
});
