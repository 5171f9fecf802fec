import { create } from '@bufbuild/protobuf';
import t from 'tap';
import type { DialTarget } from '../../src/core/ports/network.js';
import { RevokeMemberRequestSchema, UnrevokeMemberRequestSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import type { IpAddress } from '../../src/model/address.js';
import { toVpndError } from '../../src/model/errors.js';
import type { SessionId } from '../../src/model/ids.js';
import type { UnaryCalls, UnaryName } from '../../src/model/messages.js';
import type { RevocationChange } from '../../src/model/revocation.js';
import { minutes, seconds } from '../../src/model/time.js';
import { CONTROL_PORT } from '../support/overlay-world/configs.js';
import { type OverlayWorld, overlayWorld } from '../support/overlay-world.js';

/** The time in which everything must be gone everywhere that is connected. */
const AT_ONCE = seconds(1);

const revoke = async (world: OverlayWorld, name: string, reason = '') => {
  const { id, role } = world.node(name);
  const request = create(RevokeMemberRequestSchema, { peer: id, supernode: role === 'supernode', reason });
  return world.clock.run(world.base.running.local.revokeMember?.(request) ?? Promise.reject(new Error('no base')));
};
const unrevoke = async (world: OverlayWorld, name: string) => {
  const { id, role } = world.node(name);
  const request = create(UnrevokeMemberRequestSchema, { peer: id, supernode: role === 'supernode' });
  return world.clock.run(world.base.running.local.unrevokeMember?.(request) ?? Promise.reject(new Error('no base')));
};

/** What is left of sessions, on the machines named or on all of them. */
const left = (world: OverlayWorld, names: readonly string[]): readonly string[] =>
  world.residue().filter((line) => names.some((name) => line.startsWith(`${name}: `)));

const peersOf = async (world: OverlayWorld, name: string): Promise<readonly string[]> =>
  ((await world.status(name)).peers ?? []).map((one) => one.peerId ?? '');

/** Two supernodes in `us` and two in `eu`, an exit at each of the latter, a client that has a standby. */
const wide = (change: Parameters<typeof overlayWorld>[0] = {}) =>
  overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'us' }, { region: 'eu' }],
    exits: [{ region: 'eu' }, { region: 'eu' }],
    clients: [{ region: 'us', standby: true }],
    ...change,
  });

async function withStandby(world: OverlayWorld, name = 'c0', region = 'eu'): Promise<void> {
  await world.up(name, { region });
  let found = false;
  for (let n = 0; n < 200 && !found; n++) {
    await world.advance(100);
    found = (await world.session(name, 'standby')) !== undefined;
  }
  if (!found) throw new Error(`${name} has no standby`);
}

t.test('a revoked client loses its streams and its sessions everywhere, within a second', async (t) => {
  const world = await wide();
  await withStandby(world);
  const client = world.node('c0');
  t.ok(left(world, ['a', 'b', 'c', 'd', 'x0', 'x1']).length > 0);
  const done = await revoke(world, 'c0', 'laptop stolen');
  t.match(done, { changed: true, epoch: 1n, told: 4 });
  await world.advance(AT_ONCE);
  t.same(left(world, ['a', 'b', 'c', 'd', 'x0', 'x1']), [], 'no relay port, no peer at an exit, nothing in a book');
  for (const name of ['a', 'c']) t.notOk((await peersOf(world, name)).includes(client.id), `no stream to ${name}`);
  t.match((await world.upstream('c0'))?.lastError, /shut out/);
  t.same(world.leaks, []);

  await world.advance(seconds(120));
  t.same(left(world, ['a', 'b', 'c', 'd', 'x0', 'x1']), [], 'and gets nothing again');
  const tries = world.said('c0', /refused|not connected/).length;
  t.ok(tries < 120, `it tries, and not all the time (${tries})`);
});

t.test('it stays gone over restarts of every daemon, and with base away', async (t) => {
  const world = await wide();
  await withStandby(world);
  await revoke(world, 'c0');
  await world.advance(AT_ONCE);
  await world.stop('base');
  for (const name of ['a', 'b', 'c', 'd', 'c0']) await world.restart(name);
  await world.advance(seconds(60));
  for (const name of ['a', 'b', 'c', 'd']) t.notOk((await peersOf(world, name)).includes(world.node('c0').id));
  t.same(left(world, ['a', 'b', 'c', 'd', 'x0', 'x1']), []);
  await world.start('base');
  await world.advance(seconds(30));
  t.match(await world.status('base'), { facts: { revocation_epoch: '1', revoked: '1' } }, 'base has it on disk too');
  t.notOk(await world.connected('c0'));
});

t.test('un-revoked, it is back by itself', async (t) => {
  const world = await wide();
  await revoke(world, 'c0');
  await world.advance(seconds(30));
  t.notOk(await world.connected('c0'));
  t.match(await unrevoke(world, 'c0'), { changed: true, epoch: 2n });
  await world.untilConnected(['c0'], 15_000);
  await world.up('c0', { region: 'eu' });
  t.equal((await world.session('c0'))?.state, 'up');
});

t.test('a client that is shut out while it asks for an exit gets none', async (t) => {
  const world = await overlayWorld();
  // The exit takes its time, so that the news comes in the middle of it.
  world.node('x0').kernelTakes = seconds(2);
  const asked = world.upSoon('c0', { region: 'eu' }).then(() => 'up', toVpndError);
  await world.advance(200);
  await revoke(world, 'c0');
  await world.advance(seconds(8));
  t.not(await world.clock.run(asked), 'up');
  t.same(left(world, ['a', 'b', 'x0']), []);
});

t.test('a revoked exit: its clients go over to another one at once', async (t) => {
  const world = await wide();
  await withStandby(world);
  const before = await world.session('c0');
  const exit = world.of('exit').find((one) => one.id === before?.exitId)?.name ?? '';
  const other = exit === 'x0' ? 'x1' : 'x0';
  const traffic = world.traffic('c0');
  await world.advance(500);
  await revoke(world, exit, 'its owner logs everything');
  await world.advance(AT_ONCE);
  const now = await world.session('c0');
  t.equal(now?.exitId, world.node(other).id, 'the standby carries the traffic');
  t.equal(now?.state, 'up');
  t.same(
    await Promise.all(['b', 'd'].map(async (name) => (await peersOf(world, name)).includes(world.node(exit).id))),
    [false, false],
  );
  t.same(left(world, [exit]).length > 0, true, 'what it keeps itself nobody can take: nothing reaches it');
  for (const name of ['a', 'b', 'c', 'd']) {
    const session = before?.sessionId ?? '';
    t.notMatch(left(world, [name]).join('\n'), new RegExp(session), `${name} has nothing of the session`);
  }
  await world.advance(seconds(10));
  traffic.stop();
  t.same(world.leaks, []);
  const tunnels = await world.sessions('c0');
  t.notOk(
    tunnels.some((one) => one.exitId === world.node(exit).id),
    'no tunnel goes to it',
  );
});

t.test('a revoked exit without another: traffic is held, and it is not asked again', async (t) => {
  const world = await overlayWorld();
  await world.up('c0', { region: 'eu' });
  const traffic = world.traffic('c0');
  await revoke(world, 'x0');
  await world.advance(seconds(20));
  t.equal((await world.session('c0'))?.state, 'waiting');
  t.match((await world.status('c0')).problems?.join(), /no exit|shut out/);
  t.same(world.leaks, []);
  traffic.stop();
  t.same(left(world, ['a', 'b']), []);
});

t.test('a banned supernode in front of the client: it leaves, and the standby carries its traffic', async (t) => {
  const world = await wide();
  await withStandby(world);
  const at = (await world.session('c0'))?.supernodeId;
  const name = world.of('supernode').find((one) => one.id === at)?.name ?? '';
  await revoke(world, name, 'broken into');
  await world.advance(AT_ONCE);
  const now = await world.session('c0');
  t.equal(now?.state, 'up');
  t.not(now?.supernodeId, at);
  t.notOk((await world.upstream('c0'))?.supervisorId === at);
  for (const other of ['a', 'b', 'c', 'd'].filter((one) => one !== name)) {
    const known = world.node(other).store.facts.get<{ id: string }[]>('directory') ?? [];
    t.notOk(
      known.some(({ id }) => id === at),
      `${other} has been told a directory without it`,
    );
    t.notMatch(
      world
        .node(other)
        .store.facts.names('back/')
        .map((one) => world.node(other).store.facts.get(one)),
      [{ origin: at }],
    );
  }
  for (const exit of ['x0', 'x1', 'c0']) {
    const lines = [(await world.status(exit)).upstream, ...((await world.status(exit)).otherUpstreams ?? [])];
    t.notOk(
      lines.some((one) => one?.supervisorId === at),
      `${exit} has no stream to it`,
    );
  }
  // It has every key it ever had, and asks the others.
  await world.advance(seconds(30));
  t.notOk((await world.status(name)).upstream?.state === 'up', 'base does not take it');
  t.same(world.leaks, []);
});

t.test('a banned supernode of an exit: the exit goes elsewhere, and clients reach it there', async (t) => {
  const world = await overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'eu' }],
    exits: [{ region: 'eu' }],
  });
  await world.up('c0', { region: 'eu' });
  const at = (await world.upstream('x0'))?.supervisorId;
  const name = world.of('supernode').find((one) => one.id === at)?.name ?? '';
  await revoke(world, name);
  await world.advance(AT_ONCE);
  t.same(
    left(world, ['x0']).filter((line) => line.includes(world.node(name).id)),
    [],
  );
  await world.until('the exit is elsewhere', () => world.node('x0').process !== undefined, 1_000);
  await world.advance(seconds(15));
  t.not((await world.upstream('x0'))?.supervisorId, at);
  t.equal((await world.session('c0'))?.state, 'up', 'the client has found it again');
  t.notOk(((await world.session('c0'))?.via ?? []).includes(at ?? ''));
  t.same(world.leaks, []);
});

t.test('a banned supernode stays out over restarts, with base away', async (t) => {
  const world = await wide();
  await withStandby(world);
  await revoke(world, 'b');
  await world.advance(AT_ONCE);
  const banned = world.node('b').id;
  await world.stop('base');
  for (const name of ['a', 'c', 'd', 'x0', 'x1', 'c0', 'b']) await world.restart(name);
  await world.advance(seconds(60));
  for (const name of ['x0', 'x1', 'c0']) {
    const { upstream, otherUpstreams, supernodes } = await world.status(name);
    t.notOk(
      [upstream, ...(otherUpstreams ?? [])].some((one) => one?.supervisorId === banned),
      name,
    );
    t.notOk(
      supernodes?.some((one) => one.peerId === banned),
      `${name} does not even know it`,
    );
  }
  t.match((await world.session('c0'))?.state, 'up');
});

t.test('a supernode that was away hears of it from its peers, with base away', async (t) => {
  const world = await wide();
  await world.stop('c');
  await revoke(world, 'x1');
  await world.advance(AT_ONCE);
  await world.stop('base');
  await world.start('c');
  // A client with a stream to both of them.
  await withStandby(world);
  await world.until('it knows', () => world.node('c').store.facts.get('revocations') !== undefined, 60_000);
  t.pass('passed on by a client that was told elsewhere');
});

t.test('a supernode that withholds the list: its clients hear of it over their second stream', async (t) => {
  const world = await wide();
  for (const name of ['a']) {
    world.node(name).tampering.sends = (message) =>
      message.kind === 'event' && message.news.kind === 'revocations' ? undefined : message;
  }
  await withStandby(world);
  const before = await world.session('c0');
  const exit = world.of('exit').find((one) => one.id === before?.exitId)?.name ?? '';
  await revoke(world, exit);
  await world.advance(AT_ONCE);
  t.not((await world.session('c0'))?.exitId, world.node(exit).id, 'the client has left the exit by its own list');
});

t.test('a banned supernode that withholds the list keeps a lone exit for minutes at most', async (t) => {
  const world = await overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'eu' }],
    exits: [{ region: 'eu' }],
  });
  const at = (await world.upstream('x0'))?.supervisorId;
  const name = world.of('supernode').find((one) => one.id === at)?.name ?? '';
  world.node(name).tampering.sends = (message) =>
    message.kind === 'event' && message.news.kind === 'revocations' ? undefined : message;
  await revoke(world, name);
  await world.advance(seconds(5));
  t.equal((await world.upstream('x0'))?.supervisorId, at, 'nobody has told it');
  await world.advance(minutes(16));
  t.not((await world.upstream('x0'))?.supervisorId, at, 'it has asked another one');
  t.ok(await world.connected('x0'));
  await world.up('c0', { region: 'eu' });
  t.equal((await world.session('c0'))?.state, 'up');
});

t.test('a node with one stream asks a second supernode now and then, and lets it go again', async (t) => {
  const world = await overlayWorld();
  const streams = async () =>
    (await Promise.all(['a', 'b'].map((name) => peersOf(world, name))))
      .flat()
      .filter((id) => id === world.node('x0').id).length;
  const seen = new Set<number>();
  for (let n = 0; n < 600; n++) {
    await world.advance(seconds(2));
    seen.add(await streams());
  }
  t.same([...seen].sort(), [1, 2]);
  t.equal(await streams(), 1);
});

t.test('a supernode replays an older list, and forges one', async (t) => {
  const world = await wide();
  const told: RevocationChange[] = [];
  world.node('a').tampering.sends = (message) => {
    if (message.kind === 'event' && message.news.kind === 'revocations') told.push(message.news.change);
    return message;
  };
  await revoke(world, 'x1');
  await world.advance(AT_ONCE);
  await revoke(world, 'b');
  await world.advance(AT_ONCE);
  const epoch = () => world.node('c0').store.facts.get<{ head: unknown }>('revocations')?.head;
  const newest = epoch();
  const [change] = told;
  if (change === undefined) return;
  // What comes between is the first list it ever got, or that list with somebody else on it.
  const other = change.added.map((one) => ({ ...one, peer: world.node('c').id }));
  const forged = { ...change, added: [...change.added, ...other] };
  let n = 0;
  world.node('a').tampering.sends = (message) =>
    message.kind === 'pong'
      ? { kind: 'event', news: { kind: 'revocations', change: n++ % 2 === 0 ? change : forged } }
      : message;
  await world.advance(seconds(25));
  t.same(epoch(), newest, 'the newest list stays in force');
  world.node('a').tampering.sends = (message) => message;
  await world.advance(seconds(60));
  t.ok(await world.connected('c0'));
});

t.test('a node with the identity of a revoked one is refused, whatever it enrols as', async (t) => {
  const world = await overlayWorld();
  await revoke(world, 'x0');
  await world.advance(AT_ONCE);
  await world.giveToken('x0', 'exit', 'us');
  await world.restart('x0').catch(() => undefined);
  await world.advance(seconds(20));
  t.notOk(await world.connected('x0').catch(() => false));
  const tokens = await world.base.store.directory.tokens();
  const fresh = tokens.filter((one) => one.region === 'us' && one.role === 'exit');
  t.same(
    fresh.map((one) => one.usesLeft),
    [1],
    'the token is not used up',
  );
});

t.test('a banned supernode that still has its certificate gets nothing from the others, nor from base', async (t) => {
  const world = await overlayWorld({ supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'eu' }] });
  const own = world.node('a').store.facts.get<{ certificate: string; tlsKey: string; ca: string }>('enrolment');
  if (own === undefined) throw new Error('a is not enrolled');
  const stranger = world.internet.host('192.0.2.200' as IpAddress);
  const wish = { region: undefined, country: undefined, pool: undefined, exit: undefined };
  const ask = <M extends UnaryName>(name: string, method: M, request: UnaryCalls[M][0]) => {
    const { ip, id, role } = world.node(name);
    const target: DialTarget = {
      address: { host: ip, port: CONTROL_PORT },
      expect: role === 'base' ? { kind: 'base' } : { kind: 'supernode', id },
      ca: own.ca,
      identity: () => ({ certificate: own.certificate, privateKey: own.tlsKey }),
    };
    return world.outcome(stranger.call(target, method, request, { timeout: seconds(5) }));
  };
  const exits = { ...wish, minMbps: undefined, maxLatency: undefined, limit: 5 };
  t.match(await ask('b', 'requestExitPeer', exits), { exits: Array });
  await revoke(world, 'a');
  await world.advance(AT_ONCE);
  const session = 'ab'.repeat(16) as SessionId;
  const refused = { code: 'revoked' };
  t.match(await ask('b', 'requestExitPeer', exits), refused);
  t.match(await ask('b', 'closeSession', { session, generation: 9, reason: 'mine' }), refused);
  t.match(await ask('c', 'moveSessions', { sessions: [session], reason: '', leaveExit: true, urgent: true }), refused);
  t.match(await ask('base', 'requestExitRegion', { region: undefined }), refused);
  // And the others do not call it: a region it alone served has no supernode any more.
  await world.untilConnected(['c0']);
  t.match(await world.refusal('c0', { region: 'us' }), { code: 'no-exit' });
});

/** What base tells these supernodes of revocations does not arrive, nor what clients do. */
function keepInTheDark(world: OverlayWorld, names: readonly string[]): void {
  const ips = names.map((name) => world.node(name).ip);
  for (const machine of world.all()) {
    machine.tampering.sends = (message, to) => {
      if (!ips.includes(to)) return message;
      if (message.kind === 'event' && message.news.kind === 'revocations') return undefined;
      return message.kind === 'auth-response' ? { ...message, revocations: undefined } : message;
    };
  }
}

t.test('a supernode that knows, and clients that do not: it takes their sessions away', async (t) => {
  const world = await wide();
  await withStandby(world);
  const client = world.node('c0').ip;
  for (const name of ['a', 'b', 'c', 'd']) {
    world.node(name).tampering.sends = (message, to) =>
      to === client && message.kind === 'event' && message.news.kind === 'revocations' ? undefined : message;
  }
  const exit = 'x0';
  const used = async () => (await world.sessions('c0')).filter((one) => one.exitId === world.node(exit).id);
  t.ok((await used()).length > 0);
  await revoke(world, exit);
  await world.advance(AT_ONCE);
  t.same(await used(), [], 'active or standby, it is gone');
  t.equal((await world.session('c0'))?.state, 'up');
  t.equal(world.node('c0').store.facts.get('revocations'), undefined, 'and the client has not heard why');
});

t.test('a client refuses an exit that is shut out, though its supernode grants it', async (t) => {
  const world = await overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'us' }],
    exits: [{ region: 'us' }, { region: 'us' }],
    clients: [{ region: 'us', standby: true }],
  });
  await withStandby(world, 'c0', 'us');
  const at = (await world.upstream('c0'))?.supervisorId;
  const dark = world.of('supernode').find((one) => one.id === at)?.name ?? '';
  const lines = await Promise.all(['x0', 'x1'].map(async (name) => (await world.upstream(name))?.supervisorId));
  const there = ['x0', 'x1'].find((_, i) => lines[i] === at) ?? 'x0';
  keepInTheDark(world, [dark]);
  await revoke(world, there);
  await world.advance(AT_ONCE);
  t.ok((await peersOf(world, dark)).includes(world.node(there).id), 'its supernode has not heard of it');
  t.match(await world.refusal('c0', { exit: world.node(there).id }), { code: 'revoked' });
  await world.advance(seconds(10));
  t.notOk((await world.sessions('c0')).some((one) => one.exitId === world.node(there).id));
});

t.test('sessions of a client that is away, at an exit that is shut out, go all the same', async (t) => {
  const world = await overlayWorld();
  await world.up('c0', { region: 'eu' });
  await world.stop('c0');
  t.ok(left(world, ['a', 'b']).length > 0, 'its session stays where it is');
  await revoke(world, 'x0');
  await world.advance(AT_ONCE);
  t.same(left(world, ['a', 'b']), []);
});
