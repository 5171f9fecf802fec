import t, { type Test } from 'tap';
import type { Endpoint, Port } from '../../src/model/address.js';
import type { CommandId, SessionId } from '../../src/model/ids.js';
import { minutes, ms, seconds } from '../../src/model/time.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { type Machine, type OverlayWorld, overlayWorld } from '../support/overlay-world.js';

/** Short, so that what comes after it is soon tried. */
const LEASE = minutes(9);
/** Its kernel stays as it is: no better path is looked for. */
const RELAYED = { region: 'us', privacy: 'private' } as const;

/** The process dies, loses what it knows of sessions on disk, and comes back. Its kernel is as it was. */
async function restartForgetful(world: OverlayWorld, name: string): Promise<void> {
  const machine = world.node(name);
  world.crash(name);
  const kept = openMemoryStore();
  for (const fact of ['enrolment', 'address-plan', 'directory']) {
    const value = machine.store.facts.get(fact);
    if (value !== undefined) kept.facts.put(fact, value);
  }
  machine.store = kept;
  await world.restart(name);
  await world.untilConnected([name]);
}

const sessionId = async (world: OverlayWorld, name = 'c0') => (await world.session(name))?.sessionId ?? '';

const withoutTimes = (print: string): string => print.replaceAll(/, handshake \d+/g, '');

/** Ends the client's session and waits until nobody has anything of it. */
async function endsCleanly(world: OverlayWorld, t: Test): Promise<void> {
  t.match(await world.down('c0'), { wasUp: true, releasedEverywhere: true });
  await world.advance(seconds(5));
  t.same(world.residue(), []);
}

/** Up, and on the path it stays on. */
async function upAndSettled(world: OverlayWorld): Promise<void> {
  await world.up('c0');
  await world.advance(seconds(45));
}

t.test('a client whose stream breaks keeps its session and its tunnel', async (t) => {
  const world = await overlayWorld({ lease: LEASE, clients: [RELAYED] });
  await upAndSettled(world);
  const [session, kernel] = [await sessionId(world), world.node('c0').print()];
  world.internet.reset(world.node('a').ip, world.node('c0').ip);
  await world.advance(seconds(15));
  t.ok(await world.connected('c0'));
  t.equal(await sessionId(world), session);
  t.equal(withoutTimes(world.node('c0').print()), withoutTimes(kernel));
  t.match(world.way('c0'), { ok: true });
  await endsCleanly(world, t);
});

t.test('a client that comes back without its session has it ended everywhere', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  await world.up('c0');
  await restartForgetful(world, 'c0');
  await world.advance(seconds(5));
  t.same(world.residue(), []);
  t.match(await world.status('c0'), { sessions: [] });
  await world.up('c0');
  await endsCleanly(world, t);
});

t.test('a client whose session its supernode no longer knows gets another by itself', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  await world.up('c0');
  const before = await sessionId(world);
  await restartForgetful(world, 'a');
  await world.advance(minutes(1));
  t.match(await world.session('c0'), { state: 'up' });
  t.not(await sessionId(world), before);
  t.match(world.way('c0'), { ok: true });
  t.match(world.node('c0').print(), /full-tunnel/, 'traffic was held meanwhile');
  await world.down('c0');
  await world.advance(LEASE + minutes(1));
  t.same(world.residue(), [], 'what nobody knew to end has ended by its lease');
});

t.test('a client daemon that dies leaves the tunnel, and the next one takes it up', async (t) => {
  const world = await overlayWorld({ lease: LEASE, clients: [RELAYED] });
  await world.up('c0');
  // The way to base, which was asked when the client joined, has been closed by then.
  await world.advance(seconds(75));
  const [session, kernel] = [await sessionId(world), world.node('c0').print()];
  world.crash('c0');
  await world.advance(minutes(2));
  t.match(world.way('c0'), { ok: true }, 'the kernel forwards without it');
  await world.restart('c0');
  t.match(await world.session('c0'), { state: 'up', sessionId: session });
  await world.untilConnected(['c0']);
  t.equal(withoutTimes(world.node('c0').print()), withoutTimes(kernel));
  await endsCleanly(world, t);
});

t.test('an exit whose stream breaks keeps its sessions', async (t) => {
  const world = await overlayWorld({ lease: LEASE, clients: [RELAYED] });
  await upAndSettled(world);
  const kernel = withoutTimes(world.node('x0').print());
  world.internet.reset(world.node('b').ip, world.node('x0').ip);
  await world.advance(seconds(15));
  t.ok(await world.connected('x0'));
  t.equal(withoutTimes(world.node('x0').print()), kernel);
  t.match(world.way('c0'), { ok: true });
  await endsCleanly(world, t);
});

t.test('an exit that lost its sessions gets them again', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  await world.up('c0');
  await world.node('x0').kernel.reconcile([]);
  t.match(world.way('c0'), { ok: false });
  await restartForgetful(world, 'x0');
  await world.advance(seconds(2));
  t.match(world.way('c0'), { ok: true });
  for (let n = 0; n < 4; n++) {
    await restartForgetful(world, 'x0');
    await world.advance(seconds(2));
  }
  await world.advance(3 * LEASE);
  t.match(world.way('c0'), { ok: true }, 'and they are renewed from then on');
  await endsCleanly(world, t);
});

t.test('a session of the exit’s that its supernode does not know is ended there', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  await world.up('c0');
  const before = await sessionId(world);
  await restartForgetful(world, 'b');
  await world.untilConnected(['x0']);
  await world.advance(seconds(2));
  t.same(world.node('x0').sessionUnits(), []);
  t.same(world.node('b').sessionUnits(), []);
  await world.until('the client has another session', () => world.way('c0').ok, minutes(5));
  await world.advance(seconds(5));
  t.match(await world.session('c0'), { state: 'up' });
  t.not(await sessionId(world), before);
  await endsCleanly(world, t);
});

t.test('a supernode that does not own a session cannot end it at the exit', async (t) => {
  const world = await overlayWorld({
    lease: LEASE,
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap' }],
  });
  await world.up('c0', { region: 'eu' });
  const session = (await sessionId(world)) as SessionId;
  world.crash('b');
  const host = await otherSupernodeOf(world, 'x0');
  const refusals: unknown[] = [];
  host.tampering.sends = (message) =>
    message.kind !== 'ping'
      ? message
      : {
          kind: 'command',
          command: {
            id: '77'.repeat(16) as CommandId,
            session,
            generation: 1_000,
            lease: ms(0),
            desired: { kind: 'disconnect', reason: 'mine' },
          },
        };
  world.node('x0').tampering.sends = (message) => {
    if (message.kind === 'command-response') refusals.push(message.result);
    return message;
  };
  await world.advance(seconds(12));
  t.match(refusals, [{ ok: false, error: { code: 'forbidden' } }]);
  t.equal(world.node('x0').sessionUnits().length, 1);
});

async function otherSupernodeOf(world: OverlayWorld, exit: string): Promise<Machine> {
  for (let n = 0; n < 600; n++) {
    await world.advance(100);
    const { state, supervisorId } = (await world.upstream(exit)) ?? {};
    const found = world.of('supernode').find((one) => one.id === supervisorId && one.process !== undefined);
    if (state === 'up' && found !== undefined) return found;
  }
  throw new Error(`${exit} found no other supernode`);
}

for (const name of ['a', 'b']) {
  t.test(`supernode ${name} dies and comes back: the session never stops forwarding, and goes on`, async (t) => {
    const world = await overlayWorld({ lease: LEASE });
    await world.up('c0');
    const [session, kernel] = [await sessionId(world), world.node(name).print()];
    world.crash(name);
    for (let n = 0; n < 10; n++) {
      await world.advance(seconds(3));
      t.match(world.way('c0'), { ok: true });
    }
    await world.restart(name);
    t.equal(world.node(name).print(), kernel, 'what it finds in the kernel it leaves alone');
    await world.untilConnected(['x0', 'c0']);
    await world.advance(3 * LEASE);
    t.equal(await sessionId(world), session, 'renewed beyond its lease');
    t.match(world.way('c0'), { ok: true });
    await endsCleanly(world, t);
  });

  t.test(`supernode ${name} is stopped and started in an orderly way with a session in force`, async (t) => {
    const world = await overlayWorld({ lease: LEASE });
    await world.up('c0');
    t.match(await world.stop(name), [/relay/], 'it says what it leaves in place');
    t.match(world.way('c0'), { ok: true });
    await world.restart(name);
    await world.untilConnected(['x0', 'c0']);
    await endsCleanly(world, t);
    t.same(await world.stop(name), []);
    t.equal(world.node(name).print(), '');
  });
}

t.test('the client’s supernode is away for long: another one serves, and the session’s own gets it back', async (t) => {
  const world = await overlayWorld({
    lease: LEASE,
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap' }],
  });
  await world.up('c0', { region: 'eu' });
  const session = await sessionId(world);
  world.crash('a');
  const host = await otherSupernodeOf(world, 'c0');
  t.not(host.name, 'a');
  t.match(world.way('c0'), { ok: true });
  await world.restart('a');
  await world.advance(minutes(3));
  t.equal((await world.upstream('c0'))?.supervisorId, world.node('a').id);
  t.equal(await sessionId(world), session);
  await world.advance(3 * LEASE);
  t.equal(await sessionId(world), session);
  await endsCleanly(world, t);
});

t.test('the client’s supernode never comes back: the client gets a session through another one', async (t) => {
  const world = await overlayWorld({
    lease: LEASE,
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap' }],
  });
  await world.up('c0', { region: 'eu' });
  const session = await sessionId(world);
  world.crash('a', 'power-off');
  await world.until('traffic flows again', () => world.way('c0').ok, minutes(6));
  await world.advance(seconds(10));
  t.match(await world.session('c0'), { state: 'up' });
  t.not(await sessionId(world), session);
});

t.test('base is down: everybody may restart, and vpnd up works', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  world.crash('base');
  await world.advance(minutes(10));
  t.equal(await world.refusal('c0'), undefined, 'with all running');
  for (const name of ['a', 'b', 'x0', 'c0']) await world.restart(name);
  await world.untilConnected(['x0', 'c0']);
  t.match(world.way('c0'), { ok: true }, 'the session survives all of it');
  await world.advance(minutes(1));
  await endsCleanly(world, t);
  t.equal(await world.refusal('c0', { region: 'eu' }), undefined, 'from what everybody has on disk');
  await world.restart('base');
  await world.untilConnected(['a', 'b']);
  await endsCleanly(world, t);
});

t.test('two supernodes cannot call each other for a while: the session goes on, and down is not held up', async (t) => {
  const world = await overlayWorld({ lease: LEASE });
  await world.up('c0');
  const session = await sessionId(world);
  world.partition('a', 'b', 'control');
  await world.advance((LEASE * 4) / 5);
  world.heal('a', 'b');
  await world.advance(seconds(90));
  t.equal(await sessionId(world), session);
  t.match(world.way('c0'), { ok: true });
  await world.advance(LEASE + minutes(1));
  t.equal(await sessionId(world), session, 'renewed again');
  world.partition('a', 'b', 'control');
  await world.advance((LEASE * 3) / 5);
  world.heal('a', 'b');
  const began = world.clock.monotonic();
  await world.down('c0');
  t.ok(world.clock.monotonic() - began < 10_000);
  await world.advance(seconds(30));
  t.same(world.residue(), []);
});

t.test(
  'client and exit at one supernode: the exit comes and goes, and the session is renewed all the same',
  async (t) => {
    const world = await overlayWorld({
      supernodes: [{ region: 'eu' }],
      exits: [{ region: 'eu' }],
      clients: [{ region: 'eu' }],
    });
    await world.up('c0');
    const session = await sessionId(world);
    t.match(world.way('c0'), { hops: [/a:/, /a:/, 'x0'] });
    for (let n = 0; n < 5; n++) {
      await restartForgetful(world, 'x0');
      await world.advance(seconds(3));
      t.match(world.way('c0'), { ok: true });
    }
    await world.advance(3 * LEASE);
    t.equal(await sessionId(world), session);
    t.match(world.way('c0'), { ok: true });
    await endsCleanly(world, t);
  },
);

t.test('a supernode’s own egress', async (t) => {
  const world = await overlayWorld({
    lease: LEASE,
    supernodes: [{ region: 'us' }, { region: 'eu', egress: true }],
    exits: [],
  });
  const before = world.print();
  await world.up('c0', { region: 'eu' });
  t.match(world.way('c0'), { ok: true, exit: { name: 'b' } });
  await world.restart('b');
  t.match(world.way('c0'), { ok: true });
  await world.advance(3 * LEASE);
  t.match(await world.session('c0'), { state: 'up' });
  await endsCleanly(world, t);
  t.equal(world.print(), before);
});

t.test('an exit with a public address is reached without relays', async (t) => {
  const publicEndpoint: Endpoint = { ip: '203.0.113.10' as Endpoint['ip'], port: 51_821 as Port };
  const world = await overlayWorld({
    lease: LEASE,
    exits: [{ region: 'eu', publicEndpoint, wireguardPort: publicEndpoint.port }],
  });
  await world.up('c0');
  t.match(world.way('c0'), { ok: true, hops: ['x0'] });
  t.same([...world.node('a').sessionUnits(), ...world.node('b').sessionUnits()], []);
  await world.advance(3 * LEASE);
  t.match(world.way('c0'), { ok: true });
  t.match(await world.session('c0'), { state: 'up' });
  await endsCleanly(world, t);
});

t.test('the exit’s supernode is away: it is found through another one, and goes home afterwards', async (t) => {
  const world = await overlayWorld({ supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap' }] });
  world.crash('b');
  t.match(await otherSupernodeOf(world, 'x0'), { process: {} });
  await world.advance(seconds(1));
  t.equal(await world.refusal('c0', { region: 'eu' }), undefined, 'its region is not empty meanwhile');
  t.match(world.way('c0'), { ok: true, exit: { name: 'x0' } });
  await world.down('c0');
  await world.restart('b');
  await world.advance(minutes(4));
  t.equal((await world.upstream('x0'))?.supervisorId, world.node('b').id);
  t.equal(await world.refusal('c0', { region: 'eu' }), undefined);
  await world.down('c0');
  t.same(world.residue(), []);
});
