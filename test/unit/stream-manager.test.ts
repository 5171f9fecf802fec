import t from 'tap';
import { VpndError } from '../../src/model/errors.js';
import type { ControlMessage, Refusal } from '../../src/model/messages.js';
import { err, ok } from '../../src/model/result.js';
import { instantOf, ms } from '../../src/model/time.js';
import { endpoint, type FakeStream } from '../support/fake-stream.js';
import { EU, streamWorld } from '../support/stream-world.js';

const refusalOf = (cable: FakeStream): string => cable.endOf('peer')?.error?.code ?? 'none';

t.test('a peer authenticates, and is found by id and by role', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const exit = world.node('exit');
  const { received } = await world.join(supervisor, exit);
  t.equal(received[0], 'auth-response');
  t.same(supervisor.events, ['connected exit']);
  const peer = supervisor.manager.peer(exit.id);
  t.equal(peer?.region, EU);
  t.equal(peer?.probeToken.length, 16);
  t.same(
    supervisor.manager.byRole('exit').map(({ id }) => id),
    [exit.id],
  );
  t.equal(supervisor.manager.count('client'), 0);
  t.equal(world.metrics.value('activeStreams{role=exit}'), 1);
});

t.test('heartbeats go both ways and measure the round trip; silence ends the stream', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const exit = world.node('exit');
  const { cable, received } = await world.join(supervisor, exit, { latency: ms(40) });
  await world.clock.advance(60_000);
  t.equal(received.filter((kind) => kind === 'ping').length, 6, 'one in ten seconds');
  t.equal(supervisor.manager.peer(exit.id)?.latency, 80);
  cable.peer.send({ kind: 'ping', id: 7, load: { ...NO_LOAD, sessions: 3 } });
  await world.clock.advance(100);
  t.equal(received.at(-1), 'pong');
  t.equal(supervisor.manager.peer(exit.id)?.load?.sessions, 3);

  cable.silence();
  await world.clock.advance(29_000);
  t.equal(supervisor.manager.count(), 1);
  await world.clock.advance(2_000);
  t.equal(supervisor.manager.count(), 0);
  t.same(supervisor.events, ['connected exit', 'disconnected exit local']);
});

t.test('a peer that pings is pinged for the round trip only, once in six intervals', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const exit = world.node('exit');
  const { cable, received } = await world.join(supervisor, exit, { latency: ms(40) });
  const pings = () => received.filter((kind) => kind === 'ping').length;
  for (let id = 1; id <= 18; id++) {
    cable.peer.send({ kind: 'ping', id, load: undefined });
    await world.clock.advance(10_000);
  }
  t.equal(pings(), 3);
  t.equal(received.filter((kind) => kind === 'pong').length, 18);
  t.equal(supervisor.manager.peer(exit.id)?.latency, 80);
  await world.clock.advance(20_000);
  t.equal(pings(), 5, 'a quiet one is pinged in every interval');
});

const NO_LOAD = { sessions: 0, sessionCapacity: 0, streams: 0, cpuPercent: 0, txMbps: 0, rxMbps: 0 };

t.test('a stream that does not authenticate is ended after ten seconds', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const { cable } = supervisor.open();
  cable.peer.listen({ message: () => {}, ended: () => {} });
  await world.clock.advance(9_500);
  t.equal(cable.endOf('peer'), undefined);
  await world.clock.advance(1_000);
  t.equal(refusalOf(cable), 'unauthenticated');
  t.equal(world.clock.pending, 0, 'nothing of it is left');
});

t.test('AuthRequest comes first, and once', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const { cable } = supervisor.open();
  cable.peer.send({ kind: 'ping', id: 1, load: undefined });
  await world.clock.advance(100);
  t.equal(refusalOf(cable), 'bad-message');

  const exit = world.node('exit');
  const opened = supervisor.open();
  opened.cable.peer.send(world.authRequest(exit, supervisor, opened.challenge));
  await world.clock.advance(100);
  t.equal(supervisor.manager.count(), 1);
  opened.cable.peer.send(world.authRequest(exit, supervisor, opened.challenge));
  await world.clock.advance(100);
  t.equal(refusalOf(opened.cable), 'bad-message');
  t.equal(supervisor.manager.count(), 0);
});

t.test('two AuthRequests at once do not combine', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const { cable, challenge } = supervisor.open();
  const [honest, liar] = [world.node('exit'), world.node('exit')];
  const forged = { ...world.authRequest(liar, supervisor, challenge), signature: new Uint8Array(64) };
  cable.peer.send(forged);
  cable.peer.send(world.authRequest(honest, supervisor, challenge));
  await world.clock.advance(100);
  t.equal(supervisor.manager.count(), 0);
  t.equal(refusalOf(cable), 'bad-signature');
});

t.test('a replayed AuthRequest and one through a man in the middle are refused', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const exit = world.node('exit');
  const first = supervisor.open();
  const request = world.authRequest(exit, supervisor, first.challenge);
  first.cable.peer.send(request);
  const second = supervisor.open();
  second.cable.peer.send(request);
  const middle = supervisor.open();
  middle.cable.peer.send(
    world.authRequest(exit, supervisor, middle.challenge, { serverKeyHash: world.random.bytes(32) }),
  );
  await world.clock.advance(100);
  t.equal(refusalOf(first.cable), 'none');
  t.equal(refusalOf(second.cable), 'bad-signature');
  t.equal(refusalOf(middle.cable), 'bad-signature');
  t.equal(world.metrics.value('streamAuthFailures{code=bad-signature}'), 2);
});

t.test('a flood from one address is stopped before any signature check; another address comes through', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor({ limits: { address: { perMinute: 60, burst: 5 } } });
  const refusals: string[] = [];
  for (let i = 0; i < 50; i++) {
    const { cable, challenge } = supervisor.open({ remote: endpoint('198.51.100.66:1000') });
    const request = world.authRequest(world.node('exit'), supervisor, challenge);
    cable.peer.send({ ...request, signature: new Uint8Array(64) });
    await world.clock.advance(20);
    refusals.push(refusalOf(cable));
  }
  const checkedAttempts = refusals.filter((code) => code === 'bad-signature').length;
  t.ok(checkedAttempts <= 6, `${checkedAttempts} attempts were looked at`);
  t.equal(world.verified, 2 * checkedAttempts, 'and no signature of any other');
  await world.join(supervisor, world.node('exit'), { remote: endpoint('198.51.100.67:1000') });
  t.equal(supervisor.manager.count(), 1);
});

t.test('attempts in the name of one peer are limited, and do not lock that peer out of its own address', async (t) => {
  const world = streamWorld();
  const limits = { address: { perMinute: 6_000, burst: 1_000 }, peer: { perMinute: 1, burst: 3 } };
  const supervisor = world.supervisor({ limits });
  const victim = world.node('exit');
  const home = endpoint('203.0.113.5:1000');
  await world.join(supervisor, victim, { remote: home });
  const before = world.verified;
  const refusals: string[] = [];
  for (let i = 0; i < 20; i++) {
    const { cable, challenge } = supervisor.open({ remote: endpoint(`198.51.100.${i + 1}:1000`) });
    const request = world.authRequest(victim, supervisor, challenge);
    cable.peer.send({ ...request, signature: new Uint8Array(64) });
    await world.clock.advance(50);
    refusals.push(refusalOf(cable));
  }
  t.equal(refusals.filter((code) => code === 'bad-signature').length, 2);
  t.equal(refusals.filter((code) => code === 'rate-limited').length, 18);
  t.equal(world.verified - before, 4);

  const { received } = await world.join(supervisor, victim, { remote: home });
  t.equal(received[0], 'auth-response', 'at home it still connects');
});

t.test('streams that never authenticate take a bounded number of places', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor({ maxUnauthenticated: 8 });
  const cables = Array.from({ length: 20 }, (_, i) => supervisor.open({ remote: endpoint(`198.51.100.${i + 1}:1`) }));
  await world.clock.advance(100);
  t.equal(cables.filter(({ cable }) => refusalOf(cable) === 'rate-limited').length, 12);
  await world.clock.advance(11_000);
  await world.join(supervisor, world.node('exit'));
  t.equal(supervisor.manager.count(), 1);
});

t.test('a newer stream of the same peer takes the place of the older, and commands go on', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const exit = world.node('exit');
  const old = await world.join(supervisor, exit);
  const command = world.command();
  const done = supervisor.manager.command(exit.id, command);
  await world.clock.advance(100);
  t.equal(old.received.filter((kind) => kind === 'command').length, 1);

  const fresh = await world.join(supervisor, exit);
  t.equal(old.cable.endOf('peer')?.error?.code, 'closed');
  t.match(old.cable.endOf('peer')?.error?.message, /replaced by a newer stream/);
  t.same(supervisor.events, ['connected exit', 'connected exit'], 'nobody hears that the old one went');
  t.equal(supervisor.manager.count(), 1);
  t.equal(fresh.received.filter((kind) => kind === 'command').length, 1, 'sent again without waiting');
  fresh.cable.peer.send({ kind: 'command-response', id: command.id, result: ok({ offer: undefined }) });
  await world.clock.advance(100);
  t.same(await done, { offer: undefined });

  await world.clock.advance(120_000);
  t.equal(supervisor.manager.count(), 1, 'and the old one takes nothing with it');
});

t.test('of two streams that are admitted at once the later one stays, whichever is welcomed first', async (t) => {
  const world = streamWorld();
  const slow: (() => void)[] = [];
  const supervisor = world.supervisor(
    {},
    {
      welcome: () => new Promise((resolve) => slow.push(() => resolve({ supernodes: [], addressPlan: undefined }))),
    },
  );
  const exit = world.node('exit');
  const first = await world.join(supervisor, exit);
  const second = await world.join(supervisor, exit);
  slow[1]?.();
  await world.clock.advance(100);
  slow[0]?.();
  await world.clock.advance(100);
  t.equal(refusalOf(first.cable), 'closed');
  t.equal(second.cable.endOf('peer'), undefined);
  t.equal(supervisor.manager.count(), 1);
});

t.test('a command is sent again with the same id until it is answered', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const exit = world.node('exit');
  let answers = 0;
  const { cable } = await world.join(supervisor, exit, {
    filter: (from, message) =>
      from === 'peer' && message.kind === 'command-response' && ++answers <= 2 ? 'drop' : 'pass',
  });
  const ids: string[] = [];
  const command = world.command();
  const done = supervisor.manager.command(exit.id, command);
  const again = supervisor.manager.command(exit.id, command);
  answerCommands(cable, ids);
  t.same(await world.clock.run(done), { offer: undefined });
  t.same(await again, { offer: undefined }, 'asked for twice, it is one command');
  t.same(ids, [command.id, command.id, command.id]);
  t.equal(world.metrics.value('commandSuccess{kind=disconnect}'), 1);
});

/** Answers the commands that were, or will be, sent down a cable whose peer end belongs to a listener already. */
function answerCommands(cable: FakeStream, ids: string[]): void {
  const sent = cable.sent as { from: string; message: ControlMessage }[];
  const push = sent.push.bind(sent);
  const answer = ({ from, message }: { from: string; message: ControlMessage }) => {
    if (from !== 'server' || message.kind !== 'command') return;
    ids.push(message.command.id);
    cable.peer.send({ kind: 'command-response', id: message.command.id, result: ok({ offer: undefined }) });
  };
  for (const one of [...sent]) answer(one);
  sent.push = (...items) => {
    const length = push(...items);
    for (const item of items) answer(item);
    return length;
  };
}

t.test('a command that nobody answers fails after four sendings, one that is refused at once', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const exit = world.node('exit');
  const { cable, received } = await world.join(supervisor, exit);
  const started = world.clock.monotonic();
  const failure = await world.clock.run(supervisor.manager.command(exit.id, world.command()).catch((error) => error));
  t.equal(failure.code, 'command-failed');
  t.match(failure.message, /did not answer disconnect, sent 4 times/);
  t.equal(received.filter((kind) => kind === 'command').length, 4);
  const took = world.clock.monotonic() - started;
  t.ok(took >= 20_000 && took <= 21_000, `${took} ms`);

  const command = world.command();
  const refused = supervisor.manager.command(exit.id, command).catch((error: VpndError) => error);
  const error = { code: 'stale-generation', message: 'older than what I have', details: {}, retryable: false };
  cable.peer.send({ kind: 'command-response', id: command.id, result: err(error) });
  await world.clock.advance(100);
  t.equal(((await refused) as VpndError).code, 'stale-generation');
  t.equal(world.metrics.value('commandFailure{code=command-failed,kind=disconnect}'), 1);
  t.equal(world.metrics.value('commandFailure{code=stale-generation,kind=disconnect}'), 1);

  const strange = world.command();
  const made = supervisor.manager.command(exit.id, strange).catch((error: VpndError) => error);
  cable.peer.send({ kind: 'command-response', id: strange.id, result: err({ ...error, code: 'x'.repeat(60) }) });
  await world.clock.advance(100);
  t.equal(((await made) as VpndError).code, 'internal', 'a peer cannot invent codes, which label metrics');
});

t.test('commands to a peer that is gone fail at once', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const exit = world.node('exit');
  const { cable } = await world.join(supervisor, exit);
  const pending = supervisor.manager.command(exit.id, world.command()).catch((error: VpndError) => error.code);
  cable.cut();
  t.equal(await pending, 'exit-gone');
  t.equal(
    await supervisor.manager.command(exit.id, world.command()).catch((error: VpndError) => error.code),
    'exit-gone',
  );
  t.same(supervisor.events, ['connected exit', 'disconnected exit lost']);
  t.equal(world.metrics.value('activeStreams{role=exit}'), 0);
});

t.test('a full supervisor says so, and keeps its places for those who have one', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor({ capacity: 1 });
  const exit = world.node('exit');
  await world.join(supervisor, exit);
  const other = await world.join(supervisor, world.node('client'));
  t.equal(refusalOf(other.cable), 'full');
  const again = await world.join(supervisor, exit);
  t.equal(again.received[0], 'auth-response');

  const candidates = new VpndError('full', 'full', { details: { next: 'b' } });
  const kind = world.supervisor({}, { authorize: () => err(candidates) });
  const refused = await world.join(kind, world.node('exit'));
  t.equal(refused.cable.endOf('peer')?.error?.details.next, 'b');
});

t.test('requests are answered, refused with their code, and never show an exception', async (t) => {
  const world = streamWorld();
  const failures = [
    () => new VpndError('no-exit', 'none in eu', { details: { region: 'eu' } }),
    () => new TypeError('secret of the implementation'),
  ];
  const supervisor = world.supervisor(
    {},
    {
      info: async () => ({ kind: 'exits', exits: [] }),
      exitRequest: async () => {
        throw failures.shift()?.();
      },
      news: () => {
        throw new Error('a bug');
      },
    },
  );
  const client = world.node('client');
  const { cable } = await world.join(supervisor, client);
  const answers = (): ControlMessage[] =>
    cable.sent.flatMap(({ from, message }) =>
      from === 'server' && message.kind.endsWith('-response') ? [message] : [],
    );
  const exitRequest = (requestId: number): ControlMessage => ({
    kind: 'exit-request',
    request: {
      requestId,
      region: undefined,
      country: undefined,
      pool: undefined,
      exit: undefined,
      minMbps: undefined,
      maxLatency: undefined,
      privacy: 'auto',
      sessionKey: world.crypto.wireGuardKeyPair().publicKey,
      kemKey: new Uint8Array(0),
      standby: false,
      avoidExits: [],
      avoidSupernodes: [],
    },
  });
  const filter = { region: undefined, country: undefined, pool: undefined };
  cable.peer.send({ kind: 'info-request', requestId: 1, question: { kind: 'list-exits', filter } });
  cable.peer.send(exitRequest(2));
  await world.clock.advance(100);
  cable.peer.send(exitRequest(3));
  cable.peer.send({ kind: 'event', news: { kind: 'problem', code: 'x', message: 'y' } });
  await world.clock.advance(100);
  const [, info, refused, failed] = answers();
  t.match(info, { kind: 'info-response', requestId: 1, result: { ok: true } });
  t.match(refused, {
    kind: 'exit-response',
    requestId: 2,
    result: { error: { code: 'no-exit', details: { region: 'eu' } } },
  });
  t.match(failed, { kind: 'exit-response', requestId: 3, result: { error: { code: 'internal' } } });
  t.notMatch(JSON.stringify(failed), /secret/);
  t.ok(world.log.lines.some(({ level, fields }) => level === 'error' && fields.err instanceof TypeError));
  t.equal(supervisor.manager.count(), 1, 'none of it ends the stream');

  const exit = await world.join(supervisor, world.node('exit'));
  exit.cable.peer.send(exitRequest(4));
  await world.clock.advance(100);
  const forbidden = exit.cable.sent.at(-1)?.message;
  t.match(forbidden, { result: { error: { code: 'forbidden' } } }, 'only clients ask for exits');
});

t.test('one peer has a bounded number of requests under way', async (t) => {
  const world = streamWorld();
  const release: (() => void)[] = [];
  const supervisor = world.supervisor(
    {},
    { info: () => new Promise((resolve) => release.push(() => resolve({ kind: 'exits', exits: [] }))) },
  );
  const { cable } = await world.join(supervisor, world.node('client'));
  const filter = { region: undefined, country: undefined, pool: undefined };
  for (let requestId = 1; requestId <= 20; requestId++) {
    cable.peer.send({ kind: 'info-request', requestId, question: { kind: 'list-exits', filter } });
  }
  await world.clock.advance(100);
  const refused = cable.sent.flatMap(({ message }) =>
    message.kind === 'info-response' && !message.result.ok ? [message.result.error] : [],
  );
  t.equal(release.length, 16);
  t.same(
    refused.map(({ code }: Refusal) => code),
    Array(4).fill('rate-limited'),
  );

  cable.cut();
  const before = cable.sent.length;
  for (const one of release) one();
  await world.clock.advance(100);
  t.equal(cable.sent.length, before, 'answers for a stream that is gone go nowhere');
});

t.test('a peer that does not read is disconnected, not buffered for', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const exit = world.node('exit');
  const { cable } = await world.join(supervisor, exit, { outbox: 50 });
  cable.stall('peer');
  for (let i = 0; i < 60; i++) supervisor.manager.broadcast('exit', { kind: 'directory', supernodes: [] });
  await world.clock.advance(100);
  t.equal(supervisor.manager.count(), 0);
  t.equal(world.metrics.value('outboxOverflows'), 1);
  t.ok(cable.sent.length < 60);
});

t.test('a peer that floods its stream is disconnected', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const { cable } = await world.join(supervisor, world.node('exit'), { outbox: 20_000 });
  for (let id = 0; id < 10_000; id++) cable.peer.send({ kind: 'ping', id, load: undefined });
  await world.clock.advance(1_000);
  t.equal(refusalOf(cable), 'rate-limited');
});

t.test('row 28: what one peer sends between two pings is bounded in bytes, too', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const { cable } = await world.join(supervisor, world.node('exit'), { size: 256 * 1024, outbox: 1_000 });
  const other = await world.join(supervisor, world.node('exit'));
  const news = { kind: 'problem', code: 'x', message: 'y' } as const;
  for (let i = 0; i < 60; i++) cable.peer.send({ kind: 'event', news });
  await world.clock.advance(100);
  t.equal(refusalOf(cable), 'none', 'fifteen megabytes');
  for (let i = 0; i < 10; i++) cable.peer.send({ kind: 'event', news });
  await world.clock.advance(100);
  t.equal(refusalOf(cable), 'rate-limited', 'and no more');
  t.equal(refusalOf(other.cable), 'none');
});

t.test('disconnecting says why; closing ends everything and leaves no timer', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  const [exit, client] = [world.node('exit'), world.node('client')];
  const a = await world.join(supervisor, exit);
  const b = await world.join(supervisor, client);
  const unauthenticated = supervisor.open();
  supervisor.manager.disconnect(exit.id, new VpndError('revoked', 'revoked by base'));
  await world.clock.advance(100);
  t.equal(refusalOf(a.cable), 'revoked');

  const pending = supervisor.manager.command(client.id, world.command()).catch((error: VpndError) => error.code);
  await supervisor.manager.close();
  await world.clock.advance(100);
  t.equal(refusalOf(b.cable), 'closed');
  t.equal(refusalOf(unauthenticated.cable), 'closed');
  t.equal(await pending, 'exit-gone');
  t.equal(world.clock.pending, 0);
  const late = await world.join(supervisor, world.node('exit'));
  t.equal(refusalOf(late.cable), 'closed');
});

t.test('a thousand peers are watched over by one timer, and each costs the same', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor({ limits: { address: { perMinute: 1e6, burst: 1e5 } } });
  const nodes = Array.from({ length: 1_000 }, () => world.node('exit'));
  const before = world.verified;
  const timersOf = () => world.clock.pending;
  const spent: number[] = [];
  for (let batch = 0; batch < 10; batch++) {
    const started = process.cpuUsage().user;
    for (const node of nodes.slice(batch * 100, batch * 100 + 100)) {
      const { cable, challenge } = supervisor.open();
      cable.peer.listen({
        message: (message) => message.kind === 'ping' && cable.peer.send({ kind: 'pong', id: message.id }),
        ended: () => {},
      });
      cable.peer.send(world.authRequest(node, supervisor, challenge));
    }
    await world.clock.advance(10);
    spent.push(process.cpuUsage().user - started);
    await world.clock.advance(30);
  }
  t.equal(supervisor.manager.count('exit'), 1_000);
  t.equal(world.verified - before, 2_000, 'two signatures each');
  t.equal(timersOf(), 1);
  const [first = 0, last = 0] = [spent.slice(0, 3), spent.slice(-3)].map((part) => Math.min(...part));
  t.ok(last < 4 * first, `the last hundred took ${last} us of CPU, the first ${first}`);

  await world.clock.advance(60_000);
  t.equal(supervisor.manager.count('exit'), 1_000);
  for (const { id } of nodes) supervisor.manager.disconnect(id, new VpndError('closed', 'enough'));
  await world.clock.advance(100);
  t.equal(timersOf(), 0);
});

t.test('an hour asleep ends the streams once, at the first look', async (t) => {
  const world = streamWorld();
  const supervisor = world.supervisor();
  await world.join(supervisor, world.node('exit'));
  await world.join(supervisor, world.node('exit'));
  world.clock.suspend(3_600_000);
  world.clock.setWall(instantOf(world.clock.now() + 5));
  await world.clock.advance(300);
  t.equal(supervisor.events.filter((event) => event.startsWith('disconnected')).length, 2);
});

t.test(
  'datagrams pass uncounted where they are asked for, and are dropped for a client that does not read',
  async (t) => {
    const world = streamWorld();
    const taken: string[] = [];
    const supervisor = world.supervisor(
      {},
      { datagrams: (peer, session, packets) => taken.push(`${peer.role} ${session} ${packets.length}`) },
    );
    const client = world.node('client');
    const { cable, received } = await world.join(supervisor, client);
    const { session } = world.command();
    const packets = [new Uint8Array(148), new Uint8Array(32)];
    for (let i = 0; i < 6_000; i++) {
      cable.peer.send({ kind: 'datagrams', session, packets });
      if (i % 50 === 0) await world.clock.advance(20);
    }
    await world.clock.advance(20);
    t.equal(taken.length, 6_000, 'more than a peer may send of anything else');
    t.equal(taken[0], `client ${session} 2`);
    t.ok(supervisor.manager.offer(client.id, { kind: 'datagrams', session, packets }));
    await world.clock.advance(20);
    t.equal(received.filter((kind) => kind === 'datagrams').length, 1);

    cable.stall('peer');
    const offered = Array.from({ length: 200 }, () =>
      supervisor.manager.offer(client.id, { kind: 'datagrams', session, packets }),
    );
    t.equal(offered.at(0), true);
    t.equal(offered.at(-1), false);
    t.equal(supervisor.manager.count(), 1, 'the stream goes on');
    t.equal(supervisor.manager.offer(world.node('client').id, { kind: 'datagrams', session, packets }), false);

    const exit = world.node('exit');
    const wrong = await world.join(supervisor, exit);
    wrong.cable.peer.send({ kind: 'datagrams', session, packets });
    await world.clock.advance(100);
    t.equal(refusalOf(wrong.cable), 'bad-message');
  },
);
