import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { create } from '@bufbuild/protobuf';
import t from 'tap';
import { findSocket } from '../../src/cli/find-daemon.js';
import { pathLine, statusText } from '../../src/cli/status-text.js';
import { age, bytes, plain, table } from '../../src/cli/text.js';
import { NodeStatusSchema, SessionStatusSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import { Path, Role as WireRole } from '../../src/gen/vpnd/v1/types_pb.js';
import type { Role } from '../../src/model/role.js';
import type { LocalHandlers } from '../../src/transport/local-api.js';
import { serveLocalApi } from '../../src/transport/local-api-server.js';
import { oneLine, type Ran, serveDaemon, stack, vpnd } from '../support/command-line.js';

const BIN = fileURLToPath(new URL('../../bin/vpnd.js', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'vpnd-cli-'));
t.teardown(() => rmSync(dir, { recursive: true }));

/** The compiled command as a user runs it. */
function spawned(args: readonly string[], env: Record<string, string> = {}): Promise<Ran> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [BIN, ...args], { env: { PATH: '/usr/bin:/bin', ...env }, cwd: dir });
    let out = '';
    let err = '';
    child.stdout.on('data', (part: Buffer) => {
      out += part.toString();
    });
    child.stderr.on('data', (part: Buffer) => {
      err += part.toString();
    });
    child.on('close', (status) => resolve({ status, out, err }));
  });
}

t.test('every command explains itself, with examples', async (t) => {
  const commands = [
    [],
    ['base'],
    ['supernode'],
    ['exit'],
    ['client'],
    ['up'],
    ['down'],
    ['status'],
    ['exits'],
    ['doctor'],
    ['clean'],
    ['events'],
    ['rotate'],
    ['path'],
    ['lockdown'],
    ['exclude'],
    ['supernode', 'drain'],
    ['token', 'create'],
    ['token', 'list'],
    ['token', 'revoke'],
  ];
  for (const words of commands) {
    const ran = await vpnd([...words, '--help']);
    t.match(ran, { status: 0, err: '' }, words.join(' '));
    t.match(ran.out, /^Usage: vpnd/);
    t.match(ran.out, /Examples?:\n {2}vpnd /);
  }
});

t.test('the command itself: its exit status, one line on standard error, never a stack trace', async (t) => {
  t.match(await spawned(['--version']), { status: 0, out: /^\d+\.\d+\.\d+\n$/, err: '' });
  t.match(await spawned(['exit', '--help']), { status: 0, out: /^Usage: vpnd exit/, err: '' });
  for (const [args, status] of [
    [['exit', '--lgo-level', 'debug'], 2],
    [['base', '--listen', '1'], 2],
    [['up', '--state-dir', join(dir, 'nobody')], 1],
  ] as const) {
    const ran = await spawned(args);
    t.equal(ran.status, status, args.join(' '));
    t.match(ran.err, oneLine);
    t.notMatch(ran.err, stack);
    t.equal(ran.out, '');
  }
  const debugged = await spawned(['status', '--state-dir', join(dir, 'nobody')], { VPND_LOG_LEVEL: 'debug' });
  t.match(debugged.err, stack, 'but where it was asked for');
});

t.test('wrong usage is one line, a hint and status 2', async (t) => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [
      ['exit', '--lgo-level', 'debug'],
      /unknown option '--lgo-level' \(did you mean --log-level\?\); see `vpnd exit --help`/,
    ],
    [['stauts'], /unknown command 'stauts' \(did you mean status\?\); see `vpnd --help`/],
    [[], /see `vpnd --help`/],
    [['token'], /see `vpnd token --help`/],
    [['up', 'eu'], /too many arguments/],
    [['up', '--timeout', 'soon'], /--timeout: 'soon' is not a duration/],
    [['up', '--privacy', 'much'], /--privacy: 'much' is not one of auto, direct, private/],
    [['status', '--role', 'boss'], /--role: 'boss' is not one of base, supernode, exit, client/],
    [['token', 'create', '--role', 'base', '--region', 'eu'], /--role: 'base' is not one of supernode, exit, client/],
    [['token', 'create', '--role', 'exit'], /--region/],
    [['token', 'revoke', 'vpnd1secret'], /8 hexadecimal digits/],
    [['clean', '--role', 'base'], /base leaves nothing in the kernel/],
    [['base'], /--advertise is needed/],
    [['base', '--listen', '1'], /--listen: '1' is not an address and port/],
    [['exit', '--config', '/no/such.toml'], /--config: '\/no\/such.toml' does not exist/],
    [['doctor', '--supernode', 'a b'], /--supernode: 'a b' is not a host/],
  ];
  for (const [args, expected] of cases) {
    const ran = await vpnd(args);
    t.equal(ran.status, 2, args.join(' '));
    t.match(ran.err, expected);
    t.match(ran.err, oneLine);
    t.notMatch(ran.err, stack);
    t.equal(ran.out, '');
  }
});

t.test('without a daemon a command says how to start one, with status 1', async (t) => {
  for (const args of [['up'], ['down'], ['status'], ['exits'], ['token', 'list'], ['status', '--watch']]) {
    const ran = await vpnd([...args, '--state-dir', join(dir, 'nobody')]);
    t.equal(ran.status, 1, args.join(' '));
    t.match(ran.err, /start it with `vpnd /);
    t.match(ran.err, oneLine);
    t.notMatch(ran.err, stack);
  }
});

t.test('configuration comes from flags, variables and a file, and --check tells whether it is good', async (t) => {
  const file = join(dir, 'base.toml');
  writeFileSync(file, 'advertise = ["base.example.org"]\n');
  t.match(await vpnd(['base', '--config', file, '--check']), { status: 0, out: /is good/ });
  t.match(await vpnd(['base', '--check'], { VPND_CONFIG: file }), { status: 0 });
  t.match(await vpnd(['base', '--check'], { VPND_CONFIG: file, VPND_POOL_IPV4: '10.0.0.0/33' }), {
    status: 2,
    err: "vpnd: --pool-ipv4 (from VPND_POOL_IPV4): '10.0.0.0/33' is not a CIDR like 10.200.0.0/13\n",
  });
  t.match(await vpnd(['base', '--check'], { VPND_CONFIG: file, VPND_ADVERTIZE: 'x' }), {
    status: 2,
    err: /did you mean VPND_ADVERTISE/,
  });
  t.match(
    await vpnd(['supernode', '--advertise', '203.0.113.7', '--advertise', 'sn.example.org', '--egress', '--check']),
    { status: 0 },
  );
});

const daemon = (handlers: LocalHandlers, role: Role = 'client') => serveDaemon(t, handlers, role);

const session = create(SessionStatusSchema, {
  sessionId: '0123456789abcdef0123456789abcdef',
  state: 'up',
  path: Path.RELAY2,
  exitId: `exit${'a'.repeat(48)}`,
  exitRegion: 'us',
  exitCountry: 'US',
  via: [`supa${'a'.repeat(48)}`, `supb${'b'.repeat(48)}`],
  innerIpv4: '10.200.0.2',
  lastHandshakeMs: BigInt(Date.now() - 2_000),
  rxBytes: 5_000_000n,
  txBytes: 1_000n,
  leaseUntilMs: BigInt(Date.now() + 3_000_000),
  firstPacketMs: 143,
});

t.test('up waits for traffic and tells the way it takes', async (t) => {
  const asked: string[] = [];
  const socket = await daemon({
    status: async () => ({ role: WireRole.CLIENT, peerId: 'me', sessions: [session], problems: ['the clock is off'] }),
    up: async (request) => {
      asked.push(`${request.region} ${request.privacy}`);
      if (request.region === 'nowhere') throw Object.assign(new Error('boom'));
      return { sessions: [session] };
    },
    down: async () => ({ wasUp: true, releasedEverywhere: true }),
  });
  const up = await vpnd(['up', '--region', 'us', '--privacy', 'private', '--socket', socket]);
  t.match(up, {
    status: 0,
    err: '',
    out: /^up: client ─ A supaaaaaaa ─ B supbbbbbbb ─ exit exitaaaaaa \(us, US\), first packet after 143 ms/,
  });
  t.same(asked, ['us 2']);
  const json = await vpnd(['up', '--json', '--socket', socket]);
  t.match(JSON.parse(json.out), { sessions: [{ state: 'up', path: 'PATH_RELAY2' }] });

  const status = await vpnd(['status', '--socket', socket]);
  t.match(status.out, /client ─ A supaaaaaaa ─ B supbbbbbbb ─ exit exitaaaaaa/);
  t.match(status.out, /handshake +\d+ s ago/);
  t.match(status.out, /4\.77 MiB received, 1000 B sent/);
  t.match(status.out, /problems\n {2}! the clock is off/);
  t.match(await vpnd(['down'], { VPND_SOCKET: socket }), { status: 0, out: 'down\n' });
  const failed = await vpnd(['up', '--region', 'nowhere', '--socket', socket]);
  t.equal(failed.status, 1);
  t.match(failed.err, oneLine);
  t.notMatch(failed.err, stack);
});

t.test('who is locked in is told how to get out', async (t) => {
  const asked: boolean[] = [];
  const socket = await daemon({
    status: async () => ({}),
    down: async () => ({ wasUp: true, releasedEverywhere: true, lockedDown: true }),
    setLockdown: async (on) => {
      asked.push(on);
      return {};
    },
  });
  const cli = (...words: readonly string[]) => vpnd([...words, '--socket', socket]);
  t.match(await cli('down'), { status: 0, out: /^down\nlockdown is on: nothing leaves.*vpnd lockdown off/ });
  t.match(await cli('lockdown', 'on'), { status: 0, out: /to let everything out again: vpnd lockdown off/ });
  t.match(await cli('lockdown', 'off'), { status: 0, out: /^lockdown is off/ });
  t.same(asked, [true, false]);
  const nobody = await vpnd(['lockdown', 'on', '--state-dir', '/nowhere']);
  t.match(nobody, { status: 1, err: /vpnd client --lockdown/ });
});

t.test('up gives up after its timeout', async (t) => {
  const socket = await daemon({
    status: async () => ({}),
    up: (_, signal) => new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason))),
  });
  const ran = await vpnd(['up', '--timeout', '200ms', '--socket', socket]);
  t.match(ran, { status: 1, err: /^vpnd: no exit within 200ms; `vpnd status` tells what is wrong\n$/ });
});

t.test('base makes, lists and revokes tokens', async (t) => {
  const summary = {
    tokenId: '1a2b3c4d',
    role: WireRole.EXIT,
    region: 'eu',
    expiresMs: 4_000_000_000_000n,
    uses: 2,
    usesLeft: 1,
    note: 'home\u001b[2J',
  };
  const socket = await daemon(
    {
      status: async () => ({}),
      createToken: async (request) => {
        t.match(request, { role: WireRole.EXIT, region: 'eu', ttlMs: 3_600_000n, uses: 2 });
        return { token: 'vpnd1secret', summary };
      },
      listTokens: async () => ({ tokens: [summary] }),
      revokeToken: async () => {},
    },
    'base',
  );
  const made = await vpnd([
    'token',
    'create',
    '--role',
    'exit',
    '--region',
    'eu',
    '--ttl',
    '1h',
    '--uses',
    '2',
    '--socket',
    socket,
  ]);
  t.match(made, { status: 0, out: 'vpnd1secret\n', err: /not shown again/ });
  const list = await vpnd(['token', 'list', '--socket', socket]);
  t.match(
    list.out,
    /^TOKEN +ROLE +REGION +POOL +STATE +USES +EXPIRES +NOTE\n1a2b3c4d +exit +eu +- +open +1\/2 +2096-10-02 07:06 UTC +home\?\[2J\n$/,
  );
  t.match(JSON.parse((await vpnd(['token', 'list', '--json', '--socket', socket])).out), [
    { tokenId: '1a2b3c4d', usesLeft: 1 },
  ]);
  t.match(await vpnd(['token', 'revoke', '1a2b3c4d', '--socket', socket]), {
    status: 0,
    out: 'token 1a2b3c4d is revoked\n',
  });
  t.match(await vpnd(['up', '--socket', socket]), {
    status: 1,
    err: 'vpnd: this is base; `vpnd up` is for a client\n',
  });
});

t.test('a token for supernodes that may be exits says so when it is made and in the list', async (t) => {
  const summary = { tokenId: '1a2b3c4d', role: WireRole.SUPERNODE, region: 'eu', egress: true, uses: 1, usesLeft: 1 };
  const asked: boolean[] = [];
  const socket = await daemon(
    {
      status: async () => ({}),
      createToken: async (request) => {
        asked.push(request.egress);
        return { token: 'vpnd1secret', summary };
      },
      listTokens: async () => ({ tokens: [summary, { ...summary, egress: false }] }),
    },
    'base',
  );
  const create = ['token', 'create', '--role', 'supernode', '--region', 'eu', '--socket', socket];
  t.match(await vpnd([...create, '--egress']), {
    status: 0,
    err: /for 1 supernode\(s\) in eu, which may be exits too/,
  });
  t.notMatch((await vpnd(create)).err, /exits/);
  t.same(asked, [true, false]);
  t.match(
    (await vpnd(['token', 'list', '--socket', socket])).out,
    /1a2b3c4d +supernode\+exit +eu.*\n1a2b3c4d +supernode +eu/,
  );
});

t.test('the doctor names what is wrong, what to do, and ends with status 1', async (t) => {
  const ran = await vpnd([
    'doctor',
    '--role',
    'base',
    '--supernode',
    '127.0.0.1:1',
    '--probe-port',
    'off',
    '--state-dir',
    dir,
  ]);
  t.equal(ran.status, 1);
  t.match(ran.out, /^ok {3}dns: 127\.0\.0\.1 needs no DNS$/m);
  t.match(ran.out, /^FAIL tcp: 127\.0\.0\.1:1 does not answer by TCP \(ECONNREFUSED\): nothing listens there/m);
  const json = await vpnd([
    'doctor',
    '--role',
    'base',
    '--supernode',
    '127.0.0.1:1',
    '--probe-port',
    'off',
    '--json',
    '--state-dir',
    dir,
  ]);
  const found = JSON.parse(json.out) as { name: string; result: string; todo?: string }[];
  t.match(
    found.find((check) => check.name === 'tcp'),
    { result: 'fail', todo: /start the supernode/ },
  );
});

t.test('the one daemon that runs is found', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'vpnd-find-'));
  t.teardown(() => rmSync(root, { recursive: true }));
  const start = async (role: 'client' | 'base') => {
    mkdirSync(join(root, role));
    const quiet = () => {};
    const log = { debug: quiet, info: quiet, warn: quiet, error: quiet, child: () => log };
    const socket = join(root, role, 'vpnd.sock');
    const server = await serveLocalApi({ socket, role, handlers: { status: async () => ({}) }, log });
    t.teardown(() => server.close());
    return socket;
  };
  await t.rejects(findSocket({}, 'client', {}, root), { code: 'daemon-not-running' });
  const base = await start('base');
  t.equal(await findSocket({}, undefined, {}, root), base);
  t.equal(await findSocket({}, 'client', {}, root), base, 'who then says that it is base');
  const client = await start('client');
  t.equal(await findSocket({}, 'client', {}, root), client);
  await t.rejects(findSocket({}, undefined, {}, root), {
    name: 'UsageError',
    message: /several daemons run here \(base, client\)/,
  });
  t.equal(await findSocket({ role: 'base' }, undefined, {}, root), base);
  t.equal(await findSocket({}, undefined, { VPND_STATE_DIR: join(root, 'base') }, root), base);
  t.equal(await findSocket({ socket: '/x' }, undefined, { VPND_SOCKET: '/y' }, root), '/x');
});

/** A TCP port of loopback that was free a moment ago. */
function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}

t.test('a daemon says when it is ready, answers, and ends in order at SIGTERM', async (t) => {
  const state = join(dir, 'base-state');
  const listen = `127.0.0.1:${await freePort()}`;
  const metrics = `127.0.0.1:${await freePort()}`;
  // Where root runs this, no user is made on this machine.
  const args = ['base', '--user', 'root', '--listen', listen, '--metrics', metrics, '--state-dir', state];
  const child = spawn(process.execPath, [BIN, ...args], { env: { PATH: '/usr/bin:/bin' } });
  t.teardown(() => child.kill('SIGKILL'));
  const ended = new Promise<number | null>((resolve) => child.on('close', (status) => resolve(status)));
  let said = '';
  await new Promise<void>((resolve) => {
    child.stdout.on('data', (part: Buffer) => {
      said += part.toString();
      if (said.includes('vpnd base ready')) resolve();
    });
    child.on('close', () => resolve());
  });
  t.match(said, /^vpnd base started: peer [a-z2-7]{10}, state in /);
  t.match(said, new RegExp(`^vpnd base ready: peer [a-z2-7]{10}, listening on ${listen}`, 'm'));

  t.match(await vpnd(['status', '--state-dir', state]), { status: 0, out: /^base [a-z2-7]{10}\n/ });
  const made = await vpnd(['token', 'create', '--role', 'exit', '--region', 'eu', '--state-dir', state]);
  t.match(made.out, /^vpnd1[a-z2-7]{60,}\n$/);
  const health = await fetch(`http://${metrics}/healthz`);
  t.equal(health.status, 200);
  const doctor = await vpnd([
    'doctor',
    '--role',
    'base',
    '--supernode',
    listen,
    '--probe-port',
    'off',
    '--state-dir',
    state,
  ]);
  t.match(doctor.out, /^ok {3}tls: .* speaks TLSv1\.3 and HTTP\/2$/m);

  const second = await spawned(args);
  t.match(second, { status: 1, err: /is in use by another vpnd \(pid \d+\)/ });
  t.match(second.err, oneLine);
  const others = ['--user', 'root', '--metrics', 'off', '--state-dir', join(dir, 'other')];
  const elsewhere = await spawned(['base', '--listen', listen, ...others]);
  t.match(elsewhere, { status: 1, err: oneLine });

  child.kill('SIGTERM');
  t.equal(await ended, 0);
  t.match(await vpnd(['status', '--state-dir', state]), { status: 1, err: /start it with/ });
});

t.test('text for people', async (t) => {
  t.equal(age(0), '0 s');
  t.equal(age(93_784_000), '1 d 2 h');
  t.equal(age(3_600_000), '1 h');
  t.equal(bytes(1023), '1023 B');
  t.equal(bytes(1536), '1.50 KiB');
  t.equal(
    table(
      ['A', 'LONG'],
      [
        ['xx', 'y'],
        ['z', ''],
      ],
    ),
    'A   LONG\nxx  y\nz\n',
  );
  t.equal(plain('a\u001b[31mb\u202e'), 'a?[31mb?');
  t.equal(pathLine(create(SessionStatusSchema, { exitId: 'e'.repeat(52) })), 'client ─ exit eeeeeeeeee');
  const empty = statusText(create(NodeStatusSchema, { role: WireRole.CLIENT, peerId: 'p' }), Date.now());
  t.match(empty, /no session: `vpnd up` asks for an exit/);
});
