import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import t, { type Test } from 'tap';
import { eventLine } from '../../src/cli/events.js';
import { statusText } from '../../src/cli/status-text.js';
import { NodeEventSchema, NodeStatusSchema, type SessionStatusSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import { Path, Privacy, Role as WireRole } from '../../src/gen/vpnd/v1/types_pb.js';
import { VpndError } from '../../src/model/errors.js';
import { EVENT_CODES } from '../../src/model/event.js';
import type { Role } from '../../src/model/role.js';
import { instantOf } from '../../src/model/time.js';
import { NAMES_OUTSIDE } from '../../src/roles/client/dns.js';
import { History } from '../../src/roles/common/history.js';
import { openMemoryStore } from '../../src/store/memory.js';
import type { LocalHandlers } from '../../src/transport/local-api.js';
import { oneLine, running, serveDaemon, stack, vpnd } from '../support/command-line.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

/** Commands that move sessions, and those that tell what became of them. */

type Session = MessageInitShape<typeof SessionStatusSchema>;
const id = (letters: string): string => letters.padEnd(52, 'a');
const ESCAPE = '\u001b';
const NOW = Date.UTC(2026, 2, 1, 12);

const active: Session = {
  use: 'active',
  sessionId: '0123456789abcdef0123456789abcdef',
  state: 'up',
  path: Path.RELAY,
  exitId: id('exitone'),
  exitRegion: 'eu',
  exitCountry: 'DE',
  via: [id('supera')],
  endpoint: { ip: '203.0.113.7', port: 40_001 },
  innerIpv4: '10.200.0.2',
  ipv6: true,
  device: 'wg-client',
  latencyMs: 23.4,
  lastHandshakeMs: BigInt(NOW - 12_000),
  sinceMs: BigInt(NOW - 3_600_000),
  rxBytes: 2n ** 20n,
  lastChange: 'failed over: exit exittwo fell silent',
};
const standby: Session = {
  use: 'standby',
  sessionId: 'aa'.repeat(16),
  state: 'up',
  path: Path.DIRECT,
  exitId: id('exittwo'),
  exitRegion: 'us',
  latencyMs: 88,
};
const retiring: Session = {
  use: 'retiring',
  sessionId: 'bb'.repeat(16),
  state: 'up',
  path: Path.RELAY,
  exitId: id('exitold'),
  closingMs: BigInt(NOW + 75_000),
};

const textOf = (sessions: readonly Session[], more: MessageInitShape<typeof NodeStatusSchema> = {}): string =>
  statusText(
    create(NodeStatusSchema, { role: WireRole.CLIENT, peerId: id('me'), sessions: [...sessions], ...more }),
    NOW,
  );

async function refused(t: Test, args: readonly string[], status: 1 | 2, says: RegExp): Promise<void> {
  const ran = await vpnd(args);
  t.equal(ran.status, status, args.join(' '));
  t.match(ran.err, oneLine);
  t.match(ran.err, says);
  t.notMatch(ran.err, stack);
  t.equal(ran.out, '');
}

t.test('the status shows the tunnel in use, and a line for each other one', async (t) => {
  const text = textOf([active, standby, retiring]);
  t.match(text, /^session 0123456789: up for 1 h$/m);
  t.match(text, /^ {2}path +client ─ A superaaaaa ─ exit exitoneaaa {2}\(relay\)$/m);
  t.match(text, /^ {2}exit +exitoneaaa \(region eu, DE\)$/m);
  t.match(text, /^ {2}interface +wg-client$/m);
  t.match(text, /^ {2}latency +23 ms$/m);
  t.match(text, /^ {2}handshake +12 s ago$/m);
  t.match(text, /^ {2}traffic +1\.00 MiB received, 0 B sent$/m);
  t.match(text, /^ {2}last change +failed over: exit exittwo fell silent$/m);
  t.match(text, /^ {2}standby +ready, exit exittwoaaa \(region us\), direct, 88 ms$/m);
  t.match(text, /^ {2}retiring +exit exitoldaaa, closing in 1 min 15 s$/m);
  t.equal(text.match(/^session /gm)?.length, 1, 'one of them carries the traffic');
  t.equal(textOf([retiring, standby, active]).match(/^session (\w+)/m)?.[1], '0123456789', 'whatever their order');
});

t.test('nothing is called up or ready that is not', async (t) => {
  for (const [state, says] of [
    ['silent', /^session 0123456789: silent: nothing comes back at present$/m],
    ['waiting', /^session 0123456789: waiting: there is no tunnel, and traffic is held until there is one$/m],
    ['connecting', /^session 0123456789: connecting$/m],
    ['requesting', /^session 0123456789: requesting an exit$/m],
  ] as const) {
    const text = textOf([
      { ...active, state },
      { ...standby, state },
    ]);
    t.match(text, says);
    t.notMatch(text, /\bup\b|ready|connected/, state);
  }
  const waiting = textOf([{ ...active, state: 'waiting' }]);
  t.match(waiting, /last exit +exitoneaaa/);
  t.notMatch(waiting, /client ─|handshake/, 'there is no way to show');
});

t.test('the status shows both streams', async (t) => {
  const upstream = { state: 'up', supervisorId: id('supera'), address: '203.0.113.7:443', latencyMs: 12 };
  const other = { state: 'dialing', supervisorId: id('superb'), address: '203.0.113.8:443', lastError: 'ECONNREFUSED' };
  const text = textOf([active], { upstream, otherUpstreams: [other] });
  t.match(text, /^ {2}upstream +up, superaaaaa at 203\.0\.113\.7:443, 12 ms$/m);
  t.match(text, /^ {2}also +dialing, superbaaaa at 203\.0\.113\.8:443, ECONNREFUSED$/m);
});

t.test('what other machines say cannot steer the terminal', async (t) => {
  const evil = `${ESCAPE}[2Jgone`;
  const text = textOf([
    { ...active, lastChange: evil, exitRegion: evil },
    { ...standby, exitRegion: evil },
  ]);
  t.notOk(text.includes(ESCAPE));
  t.notOk(eventLine(create(NodeEventSchema, { code: evil, text: evil })).includes(ESCAPE));
});

t.test('rotate goes over to another exit and tells which', async (t) => {
  const asked: string[] = [];
  const socket = await serveDaemon(t, {
    status: async () => ({}),
    rotate: async ({ reason }) => {
      asked.push(reason);
      return { sessions: [retiring, active] };
    },
  });
  t.match(await vpnd(['rotate', '--socket', socket]), {
    status: 0,
    err: '',
    out: 'rotated: client ─ A superaaaaa ─ exit exitoneaaa (eu, DE)\n',
  });
  const json = await vpnd(['rotate', '--reason', 'a slow film', '--json'], { VPND_SOCKET: socket });
  t.match(JSON.parse(json.out), { sessions: [{ use: 'retiring' }, { use: 'active' }] });
  t.same(asked, ['', 'a slow film']);
});

t.test('path asks for a path and tells which is taken', async (t) => {
  const asked: Path[] = [];
  const socket = await serveDaemon(t, {
    status: async () => ({}),
    setPath: async ({ path }) => {
      asked.push(path);
      return { sessions: [{ ...active, path: path === Path.DIRECT ? Path.DIRECT : Path.RELAY, via: [] }] };
    },
  });
  t.match(await vpnd(['path', 'direct', '--socket', socket]), {
    status: 0,
    err: '',
    out: 'path: direct, client ─ exit exitoneaaa (eu, DE)\n',
  });
  t.match(await vpnd(['path', 'relay', '--socket', socket]), { status: 0, out: /^path: relay, / });
  t.match(await vpnd(['path', 'auto', '--socket', socket]), { status: 0, out: /^path: relay, / });
  t.same(asked, [Path.DIRECT, Path.RELAY, Path.UNSPECIFIED]);
});

t.test('what the daemon refuses is one line, with status 1', async (t) => {
  const refusals: readonly VpndError[] = [
    new VpndError('no-session', 'no tunnel is up; `vpnd up` brings one up'),
    new VpndError('no-exit', 'there is no other exit in region eu'),
    new VpndError('no-direct', 'nothing came back on the direct path; the relay is in use as before'),
    new VpndError('closed', 'a rotation is under way already'),
  ];
  for (const refusal of refusals) {
    const refuse = async (): Promise<never> => {
      throw refusal;
    };
    const socket = await serveDaemon(t, { status: async () => ({}), rotate: refuse, setPath: refuse });
    for (const args of [['rotate'], ['path', 'direct']]) {
      t.match(await vpnd([...args, '--socket', socket]), { status: 1, out: '', err: `vpnd: ${refusal.message}\n` });
    }
  }
});

t.test('rotate and path give up after their time', async (t) => {
  const never = (_: unknown, signal: AbortSignal): Promise<never> =>
    new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const socket = await serveDaemon(t, { status: async () => ({}), rotate: never, setPath: never });
  const more = ['--timeout', '100ms', '--socket', socket];
  await refused(t, ['rotate', ...more], 1, /no other exit within 100ms/);
  await refused(t, ['path', 'relay', ...more], 1, /no answer about the path within 100ms/);
});

t.test('up asks for the privacy that is wished, and shows the tunnel that carries the traffic', async (t) => {
  const asked: Privacy[] = [];
  let session = active;
  let problems = ['no standby at present: there is one exit'];
  const socket = await serveDaemon(t, {
    status: async () => ({}),
    up: async ({ privacy }) => {
      asked.push(privacy);
      return { sessions: [standby, session], problems };
    },
  });
  t.match(await vpnd(['up', '--privacy', 'direct', '--socket', socket]), {
    status: 0,
    out: /^up: client ─ A superaaaaa ─ exit exitoneaaa \(eu, DE\)\n$/,
  });
  session = { ...active, state: 'silent' };
  t.match(await vpnd(['up', '--socket', socket]), { status: 0, out: /^silent: / });
  t.same(asked, [Privacy.DIRECT, Privacy.UNSPECIFIED]);
  session = active;
  problems = [...problems, `${NAMES_OUTSIDE}: /etc/resolv.conf cannot be changed: its file system is read-only`];
  t.match(await vpnd(['up', '--socket', socket]), {
    status: 0,
    out: /^up: [^\n]+\nnames are not asked through the tunnel: [^\n]+ read-only\n$/,
  });
});

function history() {
  const clock = new VirtualClock(instantOf(NOW));
  const kept = new History({ facts: openMemoryStore().facts, clock, log: testLog() });
  return { kept, handlers: { status: async () => ({}), ...kept.local } satisfies LocalHandlers };
}

t.test('events are shown oldest first, with when, what and why', async (t) => {
  const { kept, handlers } = history();
  const socket = await serveDaemon(t, handlers, 'exit');
  t.match(await vpnd(['events', '--socket', socket]), { status: 0, out: 'nothing has happened yet\n' });
  kept.record('connected', 'over exit exitone', 'ab'.repeat(16) as never);
  kept.record('supernode-changed', 'at supernode supera');
  t.equal(
    (await vpnd(['events', '--socket', socket])).out,
    '2026-03-01 12:00:00 UTC  connected          over exit exitone  (session ababababab)\n' +
      '2026-03-01 12:00:00 UTC  supernode-changed  at supernode supera\n',
  );
  t.match(await vpnd(['events', '--limit', '1', '--socket', socket]), { out: /^\S+ \S+ UTC {2}supernode-changed/ });
  t.same(JSON.parse((await vpnd(['events', '--json', '--socket', socket])).out), [
    { atMs: String(NOW), code: 'connected', text: 'over exit exitone', sessionId: 'ab'.repeat(16) },
    { atMs: String(NOW), code: 'supernode-changed', text: 'at supernode supera', sessionId: '' },
  ]);
  t.ok(
    EVENT_CODES.every((code) => code.length <= 'supernode-changed'.length),
    'the column is wide enough',
  );
});

t.test('events can be watched, until interrupted', async (t) => {
  const { kept, handlers } = history();
  const socket = await serveDaemon(t, handlers);
  kept.record('connected', 'one');
  const watching = running(['events', '--watch', '--socket', socket]);
  await watching.printed(/one/);
  kept.record('failed-over', 'two');
  kept.record('standby-ready', 'three');
  await watching.printed(/three/);
  watching.interrupt();
  const { status, out, err } = await watching.ended;
  t.equal(status, 0);
  t.equal(err, '');
  t.same(
    out
      .trim()
      .split('\n')
      .map((line) => line.split(/ {2,}/).at(-1)),
    ['one', 'two', 'three'],
  );

  const lines = running(['events', '--watch', '--json', '--limit', '1', '--socket', socket]);
  await lines.printed(/three/);
  lines.interrupt();
  t.match(JSON.parse((await lines.ended).out), { code: 'standby-ready', text: 'three' });
});

/** A supernode that says these steps, and then waits for whoever listens to give up. */
const drainOf = (steps: readonly { sessions: number; streams: number; done?: boolean; timedOut?: boolean }[]) => {
  const asked: bigint[] = [];
  const handlers: LocalHandlers = {
    status: async () => ({}),
    async *drain({ timeoutMs }, signal) {
      asked.push(timeoutMs);
      yield* steps;
      const last = steps.at(-1);
      if (last?.done || last?.timedOut) return;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    },
  };
  return { asked, handlers };
};

t.test('a drain tells who is left, and ends when nobody is', async (t) => {
  const { asked, handlers } = drainOf([
    { sessions: 2, streams: 3 },
    { sessions: 1, streams: 1 },
    { sessions: 0, streams: 0, done: true },
  ]);
  const socket = await serveDaemon(t, handlers, 'supernode');
  t.match(await vpnd(['supernode', 'drain', '--timeout', '2m', '--socket', socket]), {
    status: 0,
    err: '',
    out:
      'draining: 2 sessions and 3 streams left\n' +
      'draining: 1 session and 1 stream left\n' +
      'empty: nobody is left, and the supernode can be stopped\n',
  });
  const json = await vpnd(['supernode', 'drain', '--json', '--socket', socket]);
  t.match(JSON.parse(json.out.split('\n')[2] ?? ''), { sessions: 0, done: true, timedOut: false });
  t.same(asked, [120_000n, 0n], 'without a time the supernode takes its own');
});

t.test('a drain whose time is over says who is left, with status 1', async (t) => {
  const { handlers } = drainOf([
    { sessions: 2, streams: 3 },
    { sessions: 2, streams: 1, timedOut: true },
  ]);
  const socket = await serveDaemon(t, handlers, 'supernode');
  t.match(await vpnd(['supernode', 'drain', '--socket', socket]), {
    status: 1,
    out: /the time is over: 2 sessions and 1 stream left, which go on/,
  });
});

t.test('a drain goes on when whoever asked for it is interrupted', async (t) => {
  const { handlers } = drainOf([{ sessions: 2, streams: 3 }]);
  const socket = await serveDaemon(t, handlers, 'supernode');
  const drain = running(['supernode', 'drain', '--socket', socket]);
  await drain.printed(/draining/);
  drain.interrupt();
  t.match(await drain.ended, { status: 1, err: /^vpnd: the drain goes on; .*\n$/ });
});

t.test('a supernode that ends in the middle of a drain is said so', async (t) => {
  const handlers: LocalHandlers = {
    status: async () => ({}),
    async *drain() {
      yield { sessions: 1, streams: 1 };
    },
  };
  const socket = await serveDaemon(t, handlers, 'supernode');
  const ran = await vpnd(['supernode', 'drain', '--socket', socket]);
  t.match(ran, { status: 1, err: 'vpnd: the supernode ended before everybody had gone\n' });
});

t.test('running a supernode and draining one are told apart', async (t) => {
  const { asked, handlers } = drainOf([{ sessions: 0, streams: 0, done: true }]);
  const socket = await serveDaemon(t, handlers, 'supernode');
  t.match(await vpnd(['supernode', '--advertise', '203.0.113.7', '--drain-timeout', '2m', '--check']), {
    status: 0,
    out: /is good/,
  });
  t.match(await vpnd(['supernode', 'drain', '--socket', socket]), { status: 0 });
  t.equal(asked.length, 1, 'the flag was the drain’s');
  await refused(t, ['supernode', '--region', 'eu', 'drain'], 2, /--region before `drain` is for running a supernode/);
  await refused(t, ['supernode', 'drian'], 2, /vpnd supernode --help/);
  await refused(t, ['supernode', 'drain', '--region', 'eu'], 2, /unknown option '--region'; see `vpnd supernode drain/);
});

t.test('wrong usage is one line and status 2, before any daemon is looked for', async (t) => {
  const cases: readonly (readonly [readonly string[], RegExp])[] = [
    [['rotate', '--reason', 'x'.repeat(201)], /--reason: must be one line of at most 200 characters/],
    [['rotate', '--reason', 'two\nlines'], /--reason: must be one line/],
    [['rotate', '--timeout', '0s'], /--timeout: '0s' must lie between 100ms and 1h/],
    [['rotate', 'now'], /too many arguments/],
    [['path'], /missing required argument/],
    [['path', 'fast'], /path: 'fast' is not one of direct, relay, auto/],
    [['path', 'direct', 'relay'], /too many arguments/],
    [['events', '--limit', '0'], /--limit: '0' is not a whole number from 1 to/],
    [['events', '--limit', 'all'], /--limit: 'all' is not a whole number/],
    [['events', '--role', 'boss'], /--role: 'boss' is not one of/],
    [['supernode', 'drain', '--timeout', 'soon'], /--timeout: 'soon' is not a duration/],
    [['supernode', 'drain', '--timeout', '0s'], /--timeout: '0s' must lie between 1s and 1d/],
  ];
  for (const [args, says] of cases) await refused(t, args, 2, says);
});

t.test('without a daemon, or with one of another role, each command says so', async (t) => {
  const nobody = join(tmpdir(), 'vpnd-nobody-runs-here');
  const clients = [['rotate'], ['path', 'direct']] as const;
  const drain = ['supernode', 'drain'] as const;
  for (const args of [...clients, drain, ['events'], ['events', '--watch']]) {
    await refused(t, [...args, '--state-dir', nobody], 1, /no vpnd answers at .*; start it with `vpnd /);
  }
  const of = (role: Role): Promise<string> => serveDaemon(t, { status: async () => ({}) }, role);
  const exit = await of('exit');
  for (const args of clients) {
    await refused(t, [...args, '--socket', exit], 1, /this is an exit; `vpnd (rotate|path)` is for a client/);
  }
  await refused(t, [...drain, '--socket', await of('base')], 1, /this is base; `vpnd supernode drain` is for a supern/);
});
