import t from 'tap';
import type { RotatePeer } from '../../src/model/command.js';
import type { CommandId, SessionId } from '../../src/model/ids.js';
import { minutes, ms, seconds } from '../../src/model/time.js';
import { exitOf, standbyReady, warm } from '../support/overlay-world/scenes.js';
import type { OverlayWorld } from '../support/overlay-world.js';

/** A round trip over two relays and to the internet takes 40 ms here, a packet is asked for every 10. */
const GAP = 40 + 10 + 20;

for (const nat of ['port-preserving', 'random'] as const)
  t.test(
    `${nat}: vpnd rotate goes over to another exit with nothing lost, and what is open stays until it ends`,
    async (t) => {
      const world = await warm({ nat });
      const before = await world.session('c0');
      const [from, to] = [await exitOf(world), await exitOf(world, 'c0', 'standby')];
      const traffic = world.traffic('c0', 100);
      const open = world.connection('c0', 100);
      await world.advance(seconds(1));
      t.match(await world.rotate('c0'), { sessions: [{ use: 'active', state: 'up' }] });
      t.equal(await exitOf(world), to);
      t.match(await world.session('c0', 'retiring'), { sessionId: before?.sessionId, exitId: before?.exitId });
      await world.advance(seconds(30));
      t.equal(traffic.lost, 0);
      t.ok(traffic.longestGap() <= GAP, `longest gap ${traffic.longestGap()} ms`);
      t.equal(await exitOf(world, 'c0', 'retiring'), from);
      t.equal(open.lost, 0, 'what was open goes on over the old exit');
      t.notOk(open.wasReset);
      open.stop();
      await world.advance(seconds(10));
      t.equal(await world.session('c0', 'retiring'), undefined, 'and once it has ended, the old tunnel goes');
      await standbyReady(world);
      t.equal(traffic.lost, 0);
      t.same(world.leaks, []);
      await world.down('c0');
      await world.advance(seconds(10));
      t.same(world.residue(), []);
    },
  );

t.test('a retiring tunnel is taken down after two minutes, whatever is open over it', async (t) => {
  const world = await warm();
  const open = world.connection('c0', 20);
  await world.rotate('c0');
  await world.advance(seconds(115));
  t.match(await world.session('c0', 'retiring'), { use: 'retiring' });
  t.equal(open.lost, 0);
  await world.advance(seconds(10));
  t.equal(await world.session('c0', 'retiring'), undefined);
  t.match(await world.session('c0'), { state: 'up' });
});

t.test('one rotation after the other: nothing lost, three tunnels at most', async (t) => {
  const world = await warm();
  const traffic = world.traffic('c0', 50);
  const connections = [];
  for (let n = 0; n < 6; n++) {
    connections.push(world.connection('c0', 5));
    await world.rotate('c0', `number ${n}`);
    await world.advance(seconds(7));
    const devices = world
      .node('c0')
      .kernel.units()
      .filter((unit) => unit.kind === 'device');
    t.ok(devices.length <= 3, `${devices.length} tunnels`);
  }
  for (const one of connections) one.stop();
  t.equal(traffic.lost, 0);
  await world.advance(minutes(3));
  t.equal(traffic.lost, 0);
  t.same(world.leaks, []);
});

t.test('on a schedule', async (t) => {
  const world = await warm({ client: { rotateEvery: minutes(5) } });
  const traffic = world.traffic('c0', 20);
  const seen = [await exitOf(world)];
  for (let n = 0; n < 3; n++) {
    await world.advance(minutes(5));
    seen.push(await exitOf(world));
  }
  for (const [n, exit] of seen.entries()) if (n > 0) t.not(exit, seen[n - 1]);
  t.equal(world.events('c0').filter((code) => code === 'rotated').length, 3);
  t.equal(traffic.lost, 0);
});

t.test('without a standby a rotation makes its own tunnel first', async (t) => {
  const world = await warm({ client: { standby: false } });
  t.equal(await world.session('c0', 'standby'), undefined);
  const before = await exitOf(world);
  const traffic = world.traffic('c0', 50);
  await world.advance(seconds(1));
  await world.rotate('c0');
  await world.advance(seconds(5));
  t.not(await exitOf(world), before);
  t.equal(traffic.lost, 0);
});

t.test('there is no other exit: the user is told, and the present one goes on', async (t) => {
  const world = await warm({ exits: [{ region: 'eu' }], client: { standby: false } });
  const traffic = world.traffic('c0', 50);
  await world.advance(seconds(1));
  t.match(await world.outcome(world.rotate('c0')), { code: 'no-exit' });
  await world.advance(seconds(5));
  t.equal(traffic.lost, 0);
  t.match(await world.session('c0'), { state: 'up' });
});

/** The client's supernode asks for something, as it does when it drains or an exit tells of its uplink. */
async function order(world: OverlayWorld, rotate: Partial<RotatePeer>): Promise<readonly unknown[]> {
  const { sessionId, supernodeId } = (await world.session('c0')) ?? {};
  const supernode = world.all().find((one) => one.id === supernodeId);
  if (supernode === undefined) throw new Error('the session has no supernode');
  const answers: unknown[] = [];
  const id = '77'.repeat(16) as CommandId;
  let sent = false;
  const client = world.node('c0').ip;
  supernode.tampering.sends = (message, to) => {
    if (message.kind !== 'pong' || to !== client || sent) return message;
    sent = true;
    const command = { id, session: sessionId as SessionId, generation: 1_000, lease: ms(minutes(5)) };
    const desired = {
      kind: 'rotate-peer',
      reason: 'a test',
      leaveSupernode: false,
      urgent: false,
      avoidExits: [],
    } as const;
    return { kind: 'command', command: { ...command, desired: { ...desired, ...rotate } } };
  };
  world.node('c0').tampering.sends = (message) => {
    if (message.kind === 'command-response' && message.id === id) answers.push(message.result);
    return message;
  };
  await world.advance(seconds(20));
  supernode.tampering.sends = (message) => message;
  return answers;
}

t.test('a supernode has the client leave an exit', async (t) => {
  const world = await warm();
  const before = await exitOf(world);
  const traffic = world.traffic('c0', 50);
  const answers = await order(world, { avoidExits: [world.node(before).id] });
  t.match(answers, [{ ok: true }]);
  t.not(await exitOf(world), before);
  await standbyReady(world);
  t.not(await exitOf(world, 'c0', 'standby'), before, 'nor does it become the standby');
  t.equal(traffic.lost, 0);
});

t.test('a supernode has the client leave it', async (t) => {
  const world = await warm();
  const before = (await world.session('c0'))?.supernodeId;
  const traffic = world.traffic('c0', 50);
  t.match(await order(world, { leaveSupernode: true }), [{ ok: true }]);
  t.not((await world.session('c0'))?.supernodeId, before);
  t.equal(traffic.lost, 0);
});

t.test('another supernode has no say in it', async (t) => {
  const world = await warm();
  const session = await world.session('c0');
  const standby = await world.session('c0', 'standby');
  const other = world.of('supernode').find((one) => one.id === standby?.supernodeId) ?? world.node('b');
  t.not(other.id, session?.supernodeId);
  const id = '78'.repeat(16) as CommandId;
  const answers: unknown[] = [];
  const client = world.node('c0').ip;
  other.tampering.sends = (message, to) =>
    message.kind !== 'pong' || to !== client
      ? message
      : {
          kind: 'command',
          command: {
            id,
            session: session?.sessionId as SessionId,
            generation: 1_000,
            lease: ms(0),
            desired: { kind: 'rotate-peer', reason: 'mine', leaveSupernode: false, urgent: true, avoidExits: [] },
          },
        };
  world.node('c0').tampering.sends = (message) => {
    if (message.kind === 'command-response' && message.id === id) answers.push(message.result);
    return message;
  };
  await world.advance(seconds(25));
  t.ok(answers.length > 0);
  for (const answer of answers) t.match(answer, { ok: false });
  t.equal((await world.session('c0'))?.sessionId, session?.sessionId);
});
