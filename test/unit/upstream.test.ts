import t from 'tap';
import { VpndError } from '../../src/model/errors.js';
import type { ControlMessage } from '../../src/model/messages.js';
import { days, hours, instantOf, ms, seconds } from '../../src/model/time.js';
import { CAPABILITIES, streamWorld } from '../support/stream-world.js';

t.test('a node connects, and both ends hear each other for as long as they live', async (t) => {
  const world = streamWorld();
  const a = world.supervisor();
  const exit = world.node('exit');
  const net = world.network({ a });
  const { link, events } = world.upstream(
    exit,
    net,
    [world.target('a', a)],
    {},
    {
      load: () => ({ sessions: 4, sessionCapacity: 10, streams: 0, cpuPercent: 1, txMbps: 0, rxMbps: 0 }),
    },
  );
  link.start();
  await world.clock.run(link.whenUp(seconds(5)));
  t.same(events, ['up a']);
  t.equal(link.status().state, 'up');
  t.equal(link.status().supervisor?.address.host, 'a');

  await world.clock.advance(600_000);
  t.same(events, ['up a']);
  t.equal(link.status().latency, 20);
  t.equal(a.manager.peer(exit.id)?.latency, 20);
  t.equal(a.manager.peer(exit.id)?.load?.sessions, 4);
  t.equal(net.dials.length, 1);

  await link.stop();
  await world.clock.advance(100);
  t.same(events, ['up a', 'down local closed']);
  t.equal(a.manager.count(), 0);
  t.equal(world.clock.pending, 0, 'no timer is left');
});

t.test('a supervisor that falls silent is noticed in thirty seconds, and found again', async (t) => {
  const world = streamWorld();
  const a = world.supervisor();
  const net = world.network({ a });
  const { link, events } = world.upstream(world.node(), net, [world.target('a', a)]);
  link.start();
  await world.clock.advance(15_000);
  net.cables[0]?.silence();
  await world.clock.advance(24_000);
  t.equal(link.status().state, 'up', 'the last sign of life is less than thirty seconds old');
  await world.clock.advance(7_000);
  t.same(events, ['up a', 'down local timeout', 'up a']);
  t.equal(a.manager.count(), 1);
  t.equal(world.metrics.value('reconnects'), 1);
});

t.test('a broken connection is replaced within a second; a dead supervisor by the next best', async (t) => {
  const world = streamWorld();
  const [a, b] = [world.supervisor(), world.supervisor()];
  const net = world.network({ a, b });
  const { link, events } = world.upstream(world.node(), net, [world.target('a', a), world.target('b', b)]);
  link.start();
  await world.clock.advance(1_000);
  net.cables[0]?.cut();
  await world.clock.advance(1_000);
  t.same(events, ['up a', 'down lost', 'up a']);

  net.down.add('a');
  net.cables[1]?.cut();
  await world.clock.advance(5_000);
  t.equal(events.at(-1), 'up b');
  t.same(net.dials, ['a', 'a', 'a', 'a', 'b']);
});

t.test(
  'commands are applied as often as they arrive and answered each time; a lost answer costs a retry',
  async (t) => {
    const world = streamWorld();
    const a = world.supervisor();
    const exit = world.node('exit');
    const net = world.network({ a });
    let lost = 0;
    net.options.filter = (_, message) => (message.kind === 'command-response' && lost++ === 0 ? 'drop' : 'pass');
    const applied: string[] = [];
    const { link } = world.upstream(exit, net, [world.target('a', a)], {
      command: async (command) => {
        applied.push(command.id);
        return { offer: undefined };
      },
    });
    link.start();
    await world.clock.advance(500);
    const command = world.command();
    t.same(await world.clock.run(a.manager.command(exit.id, command)), { offer: undefined });
    t.same(applied, [command.id, command.id], 'the ledger behind the handler makes it one');
    const answers = net.cables[0]?.sent.filter(({ message }) => message.kind === 'command-response');
    t.equal(answers?.length, 2);
  },
);

t.test("a command's refusal keeps its code; a crash of the handler is told without its text", async (t) => {
  const world = streamWorld();
  const a = world.supervisor();
  const exit = world.node('exit');
  const thrown = [new VpndError('stale-generation', 'older than mine'), new Error('secret detail')];
  const { link } = world.upstream(exit, world.network({ a }), [world.target('a', a)], {
    command: () => Promise.reject(thrown.shift()),
  });
  link.start();
  await world.clock.advance(500);
  const outcome = () => world.clock.run(a.manager.command(exit.id, world.command()).catch((error: VpndError) => error));
  t.match(await outcome(), { code: 'stale-generation', message: 'older than mine' });
  const crash = await outcome();
  t.match(crash, { code: 'internal' });
  t.notMatch(String((crash as VpndError).message), /secret/);
  t.equal(link.status().state, 'up');
});

const REQUEST = {
  region: undefined,
  country: undefined,
  pool: undefined,
  exit: undefined,
  minMbps: undefined,
  maxLatency: undefined,
  privacy: 'auto',
  kemKey: new Uint8Array(0),
  standby: false,
  avoidExits: [],
  avoidSupernodes: [],
} as const;

t.test('requests: answered, refused, timed out, cut off', async (t) => {
  const world = streamWorld();
  let mode: 'refuse' | 'hang' = 'refuse';
  const a = world.supervisor(
    {},
    {
      info: async () => ({ kind: 'exits', exits: [] }),
      exitRequest: () =>
        mode === 'hang'
          ? new Promise(() => {})
          : Promise.reject(new VpndError('no-exit', 'none here', { retryable: true, details: { region: 'eu' } })),
    },
  );
  const net = world.network({ a });
  const { link } = world.upstream(world.node('client'), net, [world.target('a', a)]);
  const request = { ...REQUEST, sessionKey: world.crypto.wireGuardKeyPair().publicKey };
  const exit = () => link.requestExit(request, seconds(8)).catch((error: VpndError) => error);
  t.match(await exit(), { code: 'closed', retryable: true }, 'before there is a stream');

  link.start();
  await world.clock.advance(500);
  const filter = { region: undefined, country: undefined, pool: undefined };
  t.same(await world.clock.run(link.ask({ kind: 'list-exits', filter }, seconds(5))), { kind: 'exits', exits: [] });
  t.match(await world.clock.run(exit()), { code: 'no-exit', details: { region: 'eu' }, retryable: true });

  mode = 'hang';
  const started = world.clock.monotonic();
  t.match(await world.clock.run(exit()), { code: 'timeout', retryable: true });
  t.equal(world.clock.monotonic() - started, 8_000);

  const pending = exit();
  await world.clock.advance(100);
  net.cables[0]?.cut();
  t.match(await world.clock.run(pending), { code: 'closed', retryable: true });
});

t.test('a grant that comes too late is given back', async (t) => {
  const world = streamWorld();
  const release: (() => void)[] = [];
  const given: string[] = [];
  const signed = { body: new Uint8Array(1), signature: new Uint8Array(64) };
  const { session } = world.command();
  const a = world.supervisor(
    {},
    {
      exitRequest: () =>
        new Promise((resolve) =>
          release.push(() =>
            resolve({
              session,
              generation: 1,
              lease: seconds(60),
              endpoint: { ip: '192.0.2.1', port: 7_000 } as never,
              keepalive: 25,
              path: 'relay',
              via: [],
              offer: signed,
              exitMembership: signed,
              exitRegion: 'eu' as never,
              exitCountry: undefined,
              reasons: [],
            }),
          ),
        ),
      news: (_, news) => given.push(news.kind === 'session-closed' ? news.session : news.kind),
    },
  );
  const { link } = world.upstream(world.node('client'), world.network({ a }), [world.target('a', a)]);
  link.start();
  await world.clock.advance(500);
  const request = { ...REQUEST, sessionKey: world.crypto.wireGuardKeyPair().publicKey };
  t.match(await world.clock.run(link.requestExit(request, seconds(2)).catch((error) => error)), { code: 'timeout' });
  release[0]?.();
  await world.clock.advance(100);
  t.same(given, [session]);
});

t.test('a machine that slept reconnects at once, without backoff', async (t) => {
  const world = streamWorld();
  const a = world.supervisor();
  const net = world.network({ a });
  const { link, events } = world.upstream(world.node(), net, [world.target('a', a)]);
  link.start();
  await world.clock.advance(20_000);
  world.clock.suspend(hours(1));
  await world.clock.advance(50);
  t.same(events, ['up a', 'down local closed', 'up a']);
  t.equal(link.status().state, 'up');
});

t.test('what arrived before the machine slept is no sign of life after it', async (t) => {
  const world = streamWorld();
  const a = world.supervisor();
  const exit = world.node();
  let woke = 0;
  const net = world.network({ a });
  const { link, events } = world.upstream(exit, net, [world.target('a', a)], { woke: () => woke++ });
  link.start();
  await world.clock.advance(20_300);
  a.manager.send(exit.id, { kind: 'event', news: { kind: 'problem', code: 'x', message: 'under way' } });
  world.clock.suspend(hours(1));
  await world.clock.advance(50);
  t.same(events, ['up a', 'down local closed', 'up a']);
  t.equal(woke, 1);
});

t.test('somebody setting the wall clock changes nothing', async (t) => {
  const world = streamWorld();
  const a = world.supervisor();
  const { link, events } = world.upstream(world.node(), world.network({ a }), [world.target('a', a)]);
  link.start();
  await world.clock.advance(5_000);
  world.clock.setWall(instantOf(world.clock.now() + days(3650)));
  await world.clock.advance(120_000);
  world.clock.setWall(instantOf(0));
  await world.clock.advance(120_000);
  t.same(events, ['up a']);
});

t.test(
  'a refusal that no retry can mend is shown, told once, and tried seldom; a renewal brings it back',
  async (t) => {
    const world = streamWorld();
    const a = world.supervisor();
    const exit = world.node();
    const now = world.clock.now();
    let membership = world.membership(exit.id, { notBefore: instantOf(0), notAfter: instantOf(now - days(1)) });
    const net = world.network({ a });
    const { link } = world.upstream(exit, net, [world.target('a', a)], {}, { membership: () => membership });
    link.start();
    await world.clock.advance(60_000);
    t.equal(link.status().lastError?.code, 'membership-expired');
    t.ok(net.dials.length >= 6 && net.dials.length <= 13, `${net.dials.length} attempts in a minute`);
    t.equal(world.log.lines.filter(({ level }) => level === 'warn').length, 1);
    t.match(await world.clock.run(link.whenUp(seconds(1)).catch((error) => error)), {
      code: 'timeout',
      details: { cause: 'membership-expired' },
    });
    membership = world.membership(exit.id);
    link.redial();
    await world.clock.advance(200);
    t.equal(link.status().state, 'up');
  },
);

t.test('two machines with one identity do not fight over the stream', async (t) => {
  const world = streamWorld();
  const a = world.supervisor();
  const exit = world.node();
  const net = world.network({ a });
  const links = [0, 1].map(() => world.upstream(exit, net, [world.target('a', a)]).link);
  for (const link of links) link.start();
  await world.clock.advance(120_000);
  t.ok(net.dials.length < 40, `${net.dials.length} dials in two minutes`);
  t.equal(a.manager.count(), 1);
});

t.test('what a supervisor may not send ends the stream', async (t) => {
  const cases: ControlMessage[] = [
    { kind: 'command-response', id: 'ab'.repeat(16) as never, result: { ok: true, value: { offer: undefined } } },
    { kind: 'info-request', requestId: 1, question: { kind: 'list-exits', filter: {} as never } },
  ];
  for (const message of cases) {
    const world = streamWorld();
    const a = world.supervisor();
    const exit = world.node();
    const { link, events } = world.upstream(exit, world.network({ a }), [world.target('a', a)]);
    link.start();
    await world.clock.advance(500);
    a.manager.send(exit.id, message);
    await world.clock.advance(100);
    t.same(events.slice(0, 2), ['up a', 'down local bad-message'], message.kind);
  }
});

t.test('stopping during a dial leaves neither stream nor timer', async (t) => {
  const world = streamWorld();
  const a = world.supervisor();
  const net = world.network({ a });
  const { link, events } = world.upstream(world.node(), net, [world.target('a', a)]);
  link.start();
  await link.stop();
  await world.clock.advance(100);
  t.same(events, []);
  t.equal(link.status().state, 'down');
  await world.clock.advance(11_000);
  t.equal(world.clock.pending, 0);
  t.equal(a.manager.count(), 0);
});

t.test('waiting for the stream can be called off', async (t) => {
  const world = streamWorld();
  const a = world.supervisor();
  const net = world.network({ a });
  net.down.add('a');
  const { link } = world.upstream(world.node(), net, [world.target('a', a)]);
  link.start();
  const abort = new AbortController();
  const waiting = link.whenUp(seconds(60), abort.signal).catch((reason) => reason);
  abort.abort('no longer needed');
  t.equal(await waiting, 'no longer needed');
  const timer = link.whenUp(seconds(1)).catch((error) => error);
  t.match(await world.clock.run(timer), { code: 'timeout', details: { cause: 'unreachable' } });
  await link.stop();
  t.equal(world.clock.pending, 0);
});

t.test('a thousand peers of a restarted supervisor come back spread out, all within a minute', async (t) => {
  const world = streamWorld(11);
  const limits = { address: { perMinute: 1e6, burst: 1e5 } };
  const a = world.supervisor({ limits });
  const net = world.network({ a });
  const links = Array.from({ length: 300 }, () => world.upstream(world.node(), net, [world.target('a', a)]).link);
  for (const link of links) link.start();
  await world.clock.advance(2_000);
  t.equal(a.manager.count(), 300);
  net.down.add('a');
  for (const cable of net.cables) cable.cut();
  await world.clock.advance(30_000);
  const before = net.dials.length;
  net.down.delete('a');
  await world.clock.advance(1_000);
  const firstSecond = net.dials.length - before;
  t.ok(firstSecond < 150, `${firstSecond} of 300 in the first second`);
  await world.clock.advance(10_000);
  t.equal(a.manager.count(), 300);
});

t.test('what a node says of itself reaches its supervisor', async (t) => {
  const world = streamWorld();
  const a = world.supervisor();
  const exit = world.node();
  const { publicKey } = world.crypto.wireGuardKeyPair();
  const { session } = world.command();
  const { link } = world.upstream(
    exit,
    world.network({ a }),
    [world.target('a', a)],
    {},
    {
      wireguardKey: publicKey,
      capabilities: () => ({ ...CAPABILITIES, maxMbps: 50 }),
      sessions: () => [{ session, generation: 3 }],
    },
  );
  link.start();
  await world.clock.advance(ms(500));
  const peer = a.manager.peer(exit.id);
  t.equal(peer?.wireguardKey, publicKey);
  t.equal(peer?.capabilities.maxMbps, 50);
  t.same(peer?.sessions, [{ session, generation: 3 }]);
});
