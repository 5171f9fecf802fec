import { create } from '@bufbuild/protobuf';
import t from 'tap';
import { parseHours } from '../../src/core/hours.js';
import { PauseRequestSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import { type Millis, minutes, seconds } from '../../src/model/time.js';
import { exitOf } from '../support/overlay-world/scenes.js';
import { type OverlayWorld, overlayWorld } from '../support/overlay-world.js';

/** The world begins at midnight of a Thursday, UTC. */
function open(text: string) {
  const parsed = parseHours(text);
  if (!parsed.ok) throw new Error(parsed.error);
  return parsed.value;
}

const contractOf = async (world: OverlayWorld, name = 'x0') => (await world.status(name)).contract ?? {};
const sessionsAt = async (world: OverlayWorld, name: string) => (await world.sessions(name)).length;

async function pause(world: OverlayWorld, name: string, duration: Millis | 0 = 0) {
  const { pause: call } = world.node(name).running.local;
  if (call === undefined) throw new Error(`${name} is no exit`);
  return world.clock.run(call(create(PauseRequestSchema, { forMs: BigInt(duration) })));
}

async function resume(world: OverlayWorld, name: string) {
  const { resume: call } = world.node(name).running.local;
  if (call === undefined) throw new Error(`${name} is no exit`);
  return world.clock.run(call());
}

t.test(
  'an exit that closes has its clients go elsewhere with nothing lost, and nobody is let in until it opens',
  async (t) => {
    const world = await overlayWorld({
      exits: [{ region: 'eu', hours: open('00:00-00:03,00:08-24:00') }, { region: 'eu' }],
      clients: [{ region: 'us' }, { region: 'us' }],
    });
    t.match(await contractOf(world), {
      open: true,
      closedReason: '',
      hours: '00:00-00:03,00:08-24:00',
      timeZone: 'UTC',
    });
    // Without a wish of its own, while the other exit is away for a moment.
    await world.advance(seconds(20));
    world.cutUplink('x1', 'b');
    await world.advance(seconds(12));
    await world.up('c0');
    world.mendUplink('x1');
    t.equal(await exitOf(world), 'x0');
    const traffic = world.traffic('c0', 20);
    const kept = world.connection('c0', 10);
    await world.until('closing time', () => world.clock.now() >= Date.UTC(2026, 0, 1, 0, 3), minutes(4));
    await world.advance(seconds(10));
    t.equal(await exitOf(world), 'x1', 'it went over');
    t.equal(traffic.lost, 0, 'make before break');
    t.match(await contractOf(world), { open: false, closedReason: /other hours/ });
    t.match((await contractOf(world)).changesMs, BigInt(Date.UTC(2026, 0, 1, 0, 8)));
    t.equal(kept.lost, 0, 'what was open goes on for a while');
    t.match(await world.refusal('c1', { exit: world.node('x0').id }), { code: /no-exit|exit-refused/ });
    await world.up('c1');
    t.equal(await exitOf(world, 'c1'), 'x1', 'a new session goes elsewhere');
    kept.stop();
    await world.advance(minutes(3));
    t.equal(await sessionsAt(world, 'x0'), 0, 'nobody is left');
    t.equal(traffic.lost, 0);
    traffic.stop();
    t.same(world.leaks, []);
    t.same(
      world.events('x0').filter((code) => code !== 'supernode-changed'),
      ['session-opened', 'exit-closed', 'session-closed'],
    );

    await world.until('opening time', () => world.clock.now() >= Date.UTC(2026, 0, 1, 0, 8), minutes(20));
    await world.advance(seconds(5));
    t.match(await contractOf(world), { open: true });
    await world.down('c1');
    t.equal(await world.refusal('c1', { exit: world.node('x0').id }), undefined, 'and it is lent again');
  },
);

t.test('where there is no other exit, whoever is left is put out, and comes back when it opens', async (t) => {
  const world = await overlayWorld({ exits: [{ region: 'eu', hours: open('00:00-00:02,00:10-24:00') }] });
  await world.up('c0');
  await world.until('closing time', () => world.clock.now() >= Date.UTC(2026, 0, 1, 0, 2), minutes(3));
  await world.advance(seconds(140));
  t.equal(await sessionsAt(world, 'x0'), 1, 'it is given time to find another one');
  t.match(world.way('c0'), { ok: true });
  await world.advance(seconds(20));
  t.equal(await sessionsAt(world, 'x0'), 0);
  t.notOk(world.way('c0').ok);
  t.same(world.leaks, [], 'and its traffic is held');
  await world.until('opening time', () => world.clock.now() >= Date.UTC(2026, 0, 1, 0, 10), minutes(10));
  await world.advance(minutes(2));
  t.match(world.way('c0'), { ok: true });
});

t.test('a supernode that an exit comes to while it is closed hears of it, too', async (t) => {
  const world = await overlayWorld({ exits: [{ region: 'eu', hours: open('00:10-24:00') }] });
  t.match(await world.refusal('c0'), { code: 'no-exit' });
  world.crash('b');
  await world.restart('b');
  await world.advance(seconds(30));
  t.match(await world.refusal('c0'), { code: 'no-exit' });
  t.ok(world.said('b', /its owner has closed it/).length >= 2);
  t.same(await sessionsAt(world, 'x0'), 0);
});

t.test('a pause holds through a restart until it is resumed, or until its time is over', async (t) => {
  const world = await overlayWorld({ exits: [{ region: 'eu' }] });
  await world.up('c0');
  t.match(await pause(world, 'x0'), { contract: { open: false, closedReason: /paused/, changesMs: 0n } });
  await world.advance(minutes(1));
  t.equal(await sessionsAt(world, 'x0'), 1);
  await world.restart('x0');
  await world.advance(minutes(3));
  t.equal(await sessionsAt(world, 'x0'), 0, 'who was left was put out after the restart');
  t.match(await resume(world, 'x0'), { contract: { open: true } });
  await world.advance(minutes(2));
  t.match(world.way('c0'), { ok: true });

  const paused = await pause(world, 'x0', minutes(20));
  t.match(paused.contract, { open: false, changesMs: BigInt(world.clock.now() + minutes(20)) });
  await world.advance(minutes(20) - seconds(5));
  t.match(await contractOf(world), { open: false });
  await world.advance(seconds(10));
  t.match(await contractOf(world), { open: true });
});

t.test('resumed in time, nobody is put out', async (t) => {
  const world = await overlayWorld({ exits: [{ region: 'eu' }] });
  await world.up('c0');
  const session = (await world.session('c0'))?.sessionId;
  await pause(world, 'x0');
  await world.advance(minutes(1));
  await resume(world, 'x0');
  await world.advance(minutes(5));
  t.equal((await world.session('c0'))?.sessionId, session);
  t.match(world.way('c0'), { ok: true });
});

t.test('limits and forbidden networks are in the kernel before anybody comes', async (t) => {
  const { kernel } = (
    await overlayWorld({
      exits: [{ region: 'eu', maxMbps: 50, maxSessionMbps: 20, maxConnections: 300, maxNewConnections: 20 }],
    })
  ).node('x0');
  const [egress] = kernel.units().filter((unit) => unit.kind === 'egress');
  t.match(egress, { forbidOnLink: true, limits: { newPerSession: 20, newInAll: 200, openPerSession: 300 } });
  t.match(
    kernel.units().filter((unit) => unit.kind === 'shaper'),
    [{ rate: 50_000_000, sessionRate: 20_000_000 }],
  );
});

t.test('what the kernel counts is shown by kind, and metrics have it without anybody asking', async (t) => {
  const world = await overlayWorld();
  const { kernel, metrics } = world.node('x0');
  kernel.countRefused('mail', 3);
  kernel.countRefused('source', 1);
  kernel.countCarried(1_000, 50_000);
  t.match(await contractOf(world), {
    refused: { mail: 3n, source: 1n, 'own-network': 0n },
    fromClientsToday: 1_000n,
    toClientsToday: 50_000n,
  });
  t.equal(metrics.value('exitViolations{kind=mail}'), 3);
  kernel.countRefused('mail', 2);
  await world.advance(seconds(20));
  t.equal(metrics.value('exitViolations{kind=mail}'), 5);
  await world.stop('x0');
  await world.start('x0');
  t.match(await contractOf(world), { fromClientsToday: 1_000n, toClientsToday: 50_000n }, 'a restart forgets nothing');
});
