import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { request as httpRequest, type IncomingHttpHeaders, type RequestOptions } from 'node:http';
import { connect as connectHttp2 } from 'node:http2';
import { request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { LocalBase, LocalClient, LocalNode, LocalSupernode } from '../../src/gen/vpnd/v1/admin_pb.js';
import { Base } from '../../src/gen/vpnd/v1/base_pb.js';
import { Control } from '../../src/gen/vpnd/v1/control_pb.js';
import { fromBase64, toBase32, toHex } from '../../src/model/bytes.js';
import { freePorts } from '../support/free-ports.js';

/** A real daemon on real sockets: what of it can be reached, by whom, and what it tells. */
const BIN = fileURLToPath(new URL('../../bin/vpnd.js', import.meta.url));
const CANARY = 'canary-7Yq2vN5sX8';
const ATTACKER = 'rebound.example';

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** base as an operator starts it, with a secret of somebody else's in its environment. */
async function startBase() {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-listening-'));
  const [control, metrics] = await freePorts();
  const args = ['base', '--state-dir', dir, '--listen', `127.0.0.1:${control}`, '--metrics', `127.0.0.1:${metrics}`];
  const child = spawn(process.execPath, [BIN, ...args, ...(process.geteuid?.() === 0 ? ['--user', 'root'] : [])], {
    env: { PATH: '/usr/bin:/bin', DEPLOY_PASSWORD: CANARY, SSH_AUTH_SOCK: `/run/${CANARY}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  const started = new Promise<void>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        log += text;
        if (log.includes('vpnd base ready')) resolve();
      });
    child.once('exit', () => reject(new Error(`base ended: ${log}`)));
  });
  const close = async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
    rmSync(dir, { recursive: true, force: true });
  };
  await started.catch(async (thrown: unknown) => {
    await close();
    throw thrown;
  });
  return { dir, control, metrics, socket: join(dir, 'vpnd.sock'), child, log: () => log, close };
}

function ask(options: RequestOptions, body = '', secure = false): Promise<Answer> {
  return new Promise((resolve) => {
    const asking = (secure ? httpsRequest : httpRequest)({ timeout: 3_000, ...options }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: headersText(response.headers) + text }),
      );
    });
    asking.on('timeout', () => asking.destroy());
    asking.on('error', (error) => resolve({ status: 0, text: error.message }));
    asking.end(body);
  });
}

const headersText = (headers: IncomingHttpHeaders): string => `${JSON.stringify(headers)}\n`;

/** One request over TLS and HTTP/2, by whatever name. */
function askHttp2(port: number, headers: Record<string, string>, body?: Buffer): Promise<Answer> {
  return new Promise((resolve) => {
    const session = connectHttp2(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
    const stream = session.request({ ':authority': '127.0.0.1', ...headers });
    let [status, text] = [0, ''];
    const done = () => {
      session.destroy();
      resolve({ status, text });
    };
    session.on('error', done);
    stream.setTimeout(3_000, done);
    stream.on('error', done);
    stream.on('response', (answer) => {
      status = Number(answer[':status']);
      text += JSON.stringify(answer);
    });
    stream.on('trailers', (answer) => {
      text += JSON.stringify(answer);
    });
    stream.on('data', (part: Buffer) => {
      text += part.toString('latin1');
    });
    stream.on('close', done);
    stream.end(body);
  });
}

/** The TCP ports that a process listens on. */
function listensOn({ pid }: ChildProcess): readonly number[] {
  const own = new Set(
    readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
      try {
        return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1] ?? [];
      } catch {
        return [];
      }
    }),
  );
  return ['tcp', 'tcp6']
    .flatMap((table) => readFileSync(`/proc/${pid}/net/${table}`, 'utf8').split('\n').slice(1))
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , state, , , , , , inode]) => state === '0A' && own.has(inode ?? ''))
    .map(([, local]) => Number.parseInt(local?.split(':').at(-1) ?? '', 16));
}

t.test('a web page that gives its own name to this machine reads nothing on any port', async (t) => {
  const base = await startBase();
  t.teardown(base.close);
  const ports = listensOn(base.child);
  t.same([...ports].sort(), [base.control, base.metrics].sort(), 'and no port but those two is open');
  for (const port of ports) {
    const web = {
      host: '127.0.0.1',
      port,
      headers: { host: `${ATTACKER}:${port}`, 'content-type': 'application/json' },
    };
    for (const path of ['/', '/metrics', '/healthz', '/vpnd.v1.LocalNode/GetStatus']) {
      for (const method of ['GET', 'POST', 'OPTIONS']) {
        const answers = [
          await ask({ ...web, path, method }, method === 'POST' ? '{}' : ''),
          await ask({ ...web, path, method, rejectUnauthorized: false } as RequestOptions, '', true),
        ];
        const h2 = { ':authority': ATTACKER, ':path': path, ':method': method, 'content-type': 'application/json' };
        if (port === base.control) answers.push(await askHttp2(port, h2));
        for (const { status, text } of answers) {
          t.ok(status === 0 || status >= 400, `${method} ${path} on ${port}: ${status}`);
          t.notMatch(text, /access-control-allow/i);
          t.notMatch(text, /peerId|vpnd_|"ok":/, 'nothing of what is there to be read');
        }
      }
    }
  }
  t.match(await ask({ host: '127.0.0.1', port: base.metrics, path: '/healthz' }), { status: 200 }, 'while it is there');
  t.match(
    await ask(
      {
        socketPath: base.socket,
        path: '/vpnd.v1.LocalNode/GetStatus',
        method: 'POST',
        headers: { 'content-type': 'application/json' },
      },
      '{}',
    ),
    { status: 200, text: /peerId/ },
  );
});

/** Everything that can be asked of base by anybody, on whatever it listens. */
async function allAnswers(
  base: Awaited<ReturnType<typeof startBase>>,
): Promise<readonly (Answer & { what: string })[]> {
  const answers: (Answer & { what: string })[] = [];
  const json = { 'content-type': 'application/json' };
  for (const service of [LocalNode, LocalBase, LocalClient, LocalSupernode]) {
    for (const { methodKind, name } of service.methods) {
      const path = `/${service.typeName}/${name}`;
      if (methodKind !== 'unary') continue;
      const asked = name === 'CreateToken' ? { role: 'ROLE_EXIT', region: 'eu', ttlMs: '60000', uses: 1 } : {};
      const options = { socketPath: base.socket, path, method: 'POST', headers: json };
      answers.push({ what: path, ...(await ask(options, JSON.stringify(asked))) });
      answers.push({ what: `${path}, garbage`, ...(await ask(options, '{"x":')) });
    }
  }
  for (const path of ['/metrics', '/healthz', '/', '/debug', '/env'])
    answers.push({ what: path, ...(await ask({ host: '127.0.0.1', port: base.metrics, path })) });
  const empty = Buffer.alloc(5);
  const garbage = Buffer.from([0, 0, 0, 0, 3, 255, 255, 255]);
  for (const service of [Base, Control]) {
    for (const { name } of service.methods) {
      const headers = {
        ':method': 'POST',
        ':path': `/${service.typeName}/${name}`,
        'content-type': 'application/grpc',
        te: 'trailers',
      };
      for (const body of [empty, garbage])
        answers.push({ what: String(headers[':path']), ...(await askHttp2(base.control, headers, body)) });
    }
  }
  return answers;
}

t.test('no answer of any call tells of the environment, or of a key', async (t) => {
  const base = await startBase();
  t.teardown(base.close);
  const answers = await allAnswers(base);
  t.ok(answers.filter(({ status }) => status === 200).length > 8, 'there are answers');
  const keys = ['identity.key', 'ca.key'].flatMap((name) => {
    const lines = readFileSync(join(base.dir, name), 'utf8')
      .split('\n')
      .filter((line) => /^[A-Za-z0-9+/=]{24,}$/.test(line));
    t.ok(lines.length > 0, name);
    return lines.flatMap((line) => {
      const bytes = fromBase64(line);
      return bytes === undefined ? [line] : [line.replace(/=+$/, ''), toHex(bytes), toBase32(bytes)];
    });
  });
  for (const secret of [CANARY, ...keys]) {
    t.same(
      answers.filter(({ text }) => text.includes(secret)).map(({ what }) => what),
      [],
      'in no answer',
    );
    t.notOk(base.log().includes(secret), 'nor in the log');
  }
  t.same(
    answers.filter(({ text }) => /node:internal|\.js:\d+:\d+/.test(text)).map(({ what }) => what),
    [],
    'no stack',
  );
});
