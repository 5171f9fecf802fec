import { request } from 'node:http';
import t from 'tap';
import type { Clock } from '../../src/core/ports/clock.js';
import type { Log, LogFields } from '../../src/core/ports/log.js';
import type { HostPort, Port } from '../../src/model/address.js';
import { VpndError } from '../../src/model/errors.js';
import { instantOf, ms } from '../../src/model/time.js';
import { parseCpu, parseNetDev, sampleHostLoad, uplinkNames } from '../../src/obs/host-load.js';
import { type Health, knownHost, serveHealth } from '../../src/obs/http.js';
import { type LogOptions, openLog } from '../../src/obs/log.js';
import { openMetrics } from '../../src/obs/metrics.js';
import { networkOf, scrubAddresses } from '../../src/obs/scrub.js';

type Line = Record<string, unknown>;

function capture(level: LogOptions['level'], privacy: LogOptions['privacy']) {
  const lines: string[] = [];
  const log = openLog({
    level,
    privacy,
    role: 'supernode',
    region: 'eu',
    destination: { write: (s) => void lines.push(s) },
  });
  return { log, lines, parsed: (): Line[] => lines.map((line) => JSON.parse(line) as Line) };
}

t.test('a line is JSON with the declared fields and an ISO time', async (t) => {
  const { log, lines, parsed } = capture('info', 'partial');
  log
    .child({ peer_id: 'abc', session_id: 's1' })
    .info('a session is up', { command_id: 'c1', took_ms: 12, role: 'exit' });
  log.debug('not at this level');
  const [line, ...rest] = parsed();
  t.same(rest, []);
  t.equal(lines[0]?.match(/"role"/g)?.length, 1, 'no field twice');
  t.match(line, {
    time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/,
    level: 'info',
    daemon: 'supernode',
    role: 'exit',
    region: 'eu',
    peer_id: 'abc',
    session_id: 's1',
    command_id: 'c1',
    took_ms: 12,
    msg: 'a session is up',
  });
});

const CANARIES = {
  base64: 'QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=',
  hex: 'c0ffee'.repeat(10).concat('c0ff'),
  token: `vpnd1${'canary234567'.repeat(6)}`,
  pem: '-----BEGIN PRIVATE KEY-----\nMIGHAgEAcanary\n-----END PRIVATE KEY-----',
  v4: '198.51.100.77',
  v6: '2001:db8:aa:bb::77',
};

function sayEverything(log: Log, level: 'debug' | 'info' | 'warn' | 'error'): void {
  for (const canary of Object.values(CANARIES)) {
    log[level](`text ${canary}`);
    log[level](`[${canary}]:443, ${canary}: refused`);
    log[level]('fields', { reason: canary, unit: `peer/wg-exit/${canary}`, remote: canary, code: canary });
    log[level]('plain error', { err: new Error(`connect ECONNREFUSED ${canary}:443`, { cause: new Error(canary) }) });
    log[level]('refusal', {
      err: new VpndError('unreachable', canary, { details: { at: canary }, cause: new Error(canary) }),
    });
    log[level]('thrown text', { err: canary });
    log[level]('smuggled', { secret: canary } as LogFields);
    log.child({ remote: canary, reason: canary })[level]('child');
  }
}

t.test('no key, token or address is in a line above debug', async (t) => {
  for (const privacy of ['strict', 'partial', 'off'] as const) {
    for (const threshold of ['debug', 'info'] as const) {
      const { log, lines } = capture(threshold, privacy);
      for (const level of ['info', 'warn', 'error'] as const) sayEverything(log, level);
      t.ok(lines.length > 100);
      for (const [name, canary] of Object.entries(CANARIES)) {
        const told = lines.find((line) => line.includes(name === 'pem' ? 'MIGHAgEAcanary' : canary));
        t.equal(told, undefined, `${name}, --log-privacy ${privacy}, --log-level ${threshold}`);
      }
    }
  }
});

t.test('debug lines have addresses as --log-privacy says, and never keys or tokens', async (t) => {
  const said = (privacy: LogOptions['privacy']) => {
    const { log, lines } = capture('debug', privacy);
    sayEverything(log, 'debug');
    return lines.join('');
  };
  for (const privacy of ['strict', 'partial', 'off'] as const) {
    for (const secret of [CANARIES.base64, CANARIES.hex, CANARIES.token, 'MIGHAgEAcanary']) {
      t.notOk(said(privacy).includes(secret), `${secret} with ${privacy}`);
    }
  }
  t.notOk(said('strict').includes('198.51.100') || said('strict').includes('2001:db8:aa'));
  t.notOk(said('partial').includes(CANARIES.v4) || said('partial').includes(CANARIES.v6));
  t.ok(said('partial').includes('198.51.100.0/24') && said('partial').includes('2001:db8:aa::/48'));
  t.ok(said('off').includes(CANARIES.v4) && said('off').includes(CANARIES.v6));
});

const PEER = 'mzxw6ytboi4tqnrsgq2dknzvgi4tknjqgiydamjqgaytcmbqgeyq';
const SESSION = '0123456789abcdef0123456789abcdef';
const COMMAND = 'fedcba9876543210fedcba9876543210';

t.test('ids are whole, short, or in strict lines no session at all, in fields and in texts', async (t) => {
  const said = (privacy: LogOptions['privacy']) => {
    const { log, lines } = capture('debug', privacy);
    for (const level of ['debug', 'info', 'warn', 'error'] as const) {
      const fields = { peer_id: PEER, session_id: SESSION, command_id: COMMAND, supernode_id: PEER };
      log.child(fields)[level](`session ${SESSION} of ${PEER}`, {
        unit: `relay/${SESSION}`,
        err: new VpndError('no-session', `session ${SESSION} belongs to ${PEER}`, { cause: new Error(COMMAND) }),
      });
    }
    return lines.join('');
  };
  const strict = said('strict');
  for (const id of [SESSION, COMMAND])
    t.notOk(strict.includes(id.slice(0, 6)), 'no session, not even a part of its id');
  t.notOk(strict.includes(PEER));
  t.ok(strict.includes(PEER.slice(0, 10)));
  const partial = said('partial');
  for (const id of [SESSION, COMMAND, PEER]) {
    t.notOk(partial.includes(id.slice(0, 11)));
    t.ok(partial.includes(id.slice(0, 10)));
  }
  for (const id of [SESSION, COMMAND, PEER]) t.ok(said('off').includes(id));
});

t.test('long keys are cut as short ones are, and paths stay', async (t) => {
  const { log, lines } = capture('debug', 'off');
  const mlKem = Buffer.alloc(1184, 0xa7).toString('base64');
  const secret = Buffer.alloc(2400, 0x5b).toString('base64');
  log.debug(`${mlKem} and ${secret} in /usr/lib/node/modules/better/sqlite3/lib/methods/wrappers/index`);
  t.notMatch(lines[0], mlKem.slice(7, 30));
  t.notMatch(lines[0], secret.slice(7, 30));
  t.match(lines[0], '/usr/lib/node/modules/better/sqlite3/lib/methods/wrappers/index');
});

t.test('an error keeps its code and message; its stack is for debugging', async (t) => {
  const err = new VpndError('no-ports', 'all relay ports are taken', { cause: new Error('why') });
  const info = capture('info', 'partial');
  info.log.warn('refused', { err });
  t.same(info.parsed()[0]?.err, { code: 'no-ports', message: 'all relay ports are taken', cause: 'why' });
  const debug = capture('debug', 'partial');
  debug.log.warn('refused', { err });
  t.match(debug.parsed()[0], { err: { stack: /obs\./ } });
});

t.test('addresses are found in running text, and what is none stays', async (t) => {
  t.equal(
    scrubAddresses('from 203.0.113.9:4000 to [2001:db8::1]:443', 'none'),
    'from [address]:4000 to [[address]]:443',
  );
  t.equal(scrubAddresses('2001:db8::1: refused', 'none'), '[address]: refused');
  t.equal(
    scrubAddresses('at 12:34:56, version 1.2.3, on 127.0.0.1:9470', 'none'),
    'at 12:34:56, version 1.2.3, on 127.0.0.1:9470',
  );
  t.equal(scrubAddresses('::ffff:203.0.113.9', 'network'), '203.0.113.0/24');
  t.equal(networkOf('2001:db8::1'), '2001:db8::/48');
  t.equal(networkOf('nonsense'), '[address]');
});

const REQUIRED = [
  'active_streams_total',
  'stream_auth_failures_total',
  'peer_heartbeat_latency_ms',
  'command_latency_seconds',
  'command_success_total',
  'command_failure_total',
  'wg_peers_count',
  'relay_sessions_active',
  'supernode_cpu_pct',
  'supernode_net_tx_mbps',
  'supernode_net_rx_mbps',
];

t.test('every metric that dashboards rely on is there, with a help text and a unit', async (t) => {
  const { registry, metrics } = openMetrics();
  metrics.activeStreams.set(3, { role: 'exit' });
  metrics.commandFailure.inc({ kind: 'setup-exit', code: 'timeout' });
  metrics.commandFailure.inc({ kind: 'setup-exit', code: 'timeout' }, 2);
  metrics.heartbeatLatencyMs.observe(12);
  metrics.reconnects.inc();
  const text = await registry.metrics();
  for (const name of REQUIRED) t.match(text, new RegExp(`^# HELP ${name} .+\\(.+\\)\\.$`, 'm'), name);
  t.match(text, /^active_streams_total\{role="exit"\} 3$/m);
  t.match(text, /^command_failure_total\{kind="setup-exit",code="timeout"\} 3$/m);
  t.match(text, /^peer_heartbeat_latency_ms_count 1$/m);
  t.match(text, /^stream_reconnects_total 1$/m);
  t.match(text, /^process_cpu_seconds_total /m);
  t.notMatch(text, /peer_id/);
});

t.test('codes from other machines cannot make labels without end', async (t) => {
  const { registry, metrics } = openMetrics();
  for (let i = 0; i < 1000; i++) metrics.streamAuthFailures.inc({ code: `code-${i}` });
  metrics.streamAuthFailures.inc({ code: 'x"} 1\nforged_total 7' });
  const lines = (await registry.metrics()).split('\n').filter((line) => line.startsWith('stream_auth_failures_total{'));
  t.equal(lines.length, 65);
  t.ok(lines.includes('stream_auth_failures_total{code="other"} 937'));
});

function get(port: number, path: string, headers: Record<string, string> = {}, method = 'GET') {
  return new Promise<{ status: number; body: string; type: string }>((resolve, reject) => {
    const call = request({ host: '127.0.0.1', port, path, headers, method, agent: false }, (response) => {
      let body = '';
      response.on('data', (part: Buffer) => {
        body += part.toString();
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body, type: response.headers['content-type'] ?? '' }),
      );
    });
    call.on('error', reject);
    call.end();
  });
}

const free: HostPort = { host: '127.0.0.1', port: 0 as Port };

t.test('the health endpoint tells health and metrics, to those who name it by address', async (t) => {
  let health: Health = { ok: true, detail: 'one stream' };
  const { registry } = openMetrics();
  const server = await serveHealth({ listen: free, registry, health: () => health, names: ['Metrics.Example.org'] });
  t.teardown(() => server.close());
  const { port } = server.address;
  t.same(await get(port, '/healthz'), {
    status: 200,
    body: '{"ok":true,"detail":"one stream"}\n',
    type: 'application/json',
  });
  health = { ok: false, detail: 'no stream' };
  t.match(await get(port, '/healthz'), { status: 503, body: /no stream/ });
  t.match(await get(port, '/metrics'), { status: 200, body: /wg_peers_count/, type: /^text\/plain; version=/ });
  t.match(await get(port, '/metrics?x=1'), { status: 200 });
  t.match(await get(port, '/'), { status: 404 });
  t.match(await get(port, '/metrics/../secret'), { status: 404 });
  t.match(await get(port, '/metrics', {}, 'POST'), { status: 405 });
  for (const host of ['localhost:1', '127.0.0.1', '[::1]:9470', 'metrics.example.org', 'METRICS.example.org.:80']) {
    t.match(await get(port, '/healthz', { host }), { status: 503 }, host);
  }
  for (const host of ['evil.example', 'localhost.evil.example', '127.0.0.1.evil.example', 'evil.example:9470']) {
    const answer = await get(port, '/metrics', { host });
    t.match(answer, { status: 403 }, `a page that rebinds '${host}' reads nothing`);
    t.notMatch(answer.body, 'wg_peers_count');
  }
  await t.rejects(serveHealth({ listen: { host: '127.0.0.1', port }, registry, health: () => health }), {
    code: 'port-in-use',
  });
  await t.rejects(serveHealth({ listen: { host: '192.0.2.1', port }, registry, health: () => health }), {
    code: 'bad-config',
  });
  t.notOk(knownHost(undefined, new Set()));
  t.notOk(knownHost('', new Set()));
  t.notOk(knownHost('[evil]:80', new Set()));
});

t.test('load of the machine is what changed between two looks at /proc', async (t) => {
  const stats = ['cpu  100 0 100 800 0 0 0 0 50 0\n', 'cpu  150 0 150 1000 100 0 0 0 99 0\n'];
  const header = 'Inter-|   Receive  |  Transmit\n face |bytes packets |bytes packets\n';
  const devices = [
    `${header}  eth0: 1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n`,
    `${header}  eth0: 1251000 1 0 0 0 0 0 0 2502000 1 0 0 0 0 0 0\n    lo: 9999999 1 0 0 0 0 0 0 9999999 1 0 0 0 0 0 0\n`,
  ];
  let step = 0;
  let now = 0;
  let due = (): void => {};
  const clock: Clock = {
    now: () => instantOf(now),
    monotonic: () => ms(now),
    after: (delay, task) => {
      t.equal(delay, 5_000);
      due = task;
      return () => {
        due = () => {};
      };
    },
  };
  const { host, registry } = openMetrics();
  const read = (path: string): string => {
    if (path === '/proc/stat') return stats[step] ?? '';
    if (path === '/proc/net/dev') return devices[step] ?? '';
    throw new Error('no such file');
  };
  const sampler = sampleHostLoad({ clock, metrics: host, read });
  t.same(sampler.current(), { cpuPercent: 0, txMbps: 0, rxMbps: 0 });
  step = 1;
  now = 5_000;
  due();
  t.same(sampler.current(), { cpuPercent: 25, txMbps: 4, rxMbps: 2 });
  t.match(await registry.metrics(), /^supernode_net_tx_mbps 4$/m);
  sampler.close();
  t.same(parseCpu('garbage'), { busy: 0, total: 0 });
  t.same(parseNetDev(devices[0] ?? '', new Set(['eth1'])), { tx: 0, rx: 0 });
  const route4 =
    'Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\neth0\t00000000\t0101A8C0\t0003\t0\t0\t0\t00000000\nwg0\t0000C80A\t00000000\t0001\t0\t0\t0\t0000F8FF\n';
  const route6 = `${'0'.repeat(32)} 00 ${'0'.repeat(32)} 00 fe8000000000000000000000000000ff 00000400 00000001 00000000 00000003 eth1\n`;
  t.same([...uplinkNames(route4, route6)], ['eth0', 'eth1']);
});
