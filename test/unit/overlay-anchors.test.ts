import { create } from '@bufbuild/protobuf';
import t, { type Test } from 'tap';
import { RevokeMemberRequestSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import { VpndError } from '../../src/model/errors.js';
import { keyOf } from '../../src/model/ids.js';
import { days, hours, minutes, ms, seconds } from '../../src/model/time.js';
import { loadEnrolment } from '../../src/roles/common/enrol.js';
import { readChain } from '../../src/transport/memory/certificates.js';
import { type OverlayWorld, overlayWorld, type WorldOptions } from '../support/overlay-world.js';

/** Short lives, so that an overlap is half an hour in virtual time. */
const SHORT: WorldOptions = {
  base: { certificateTtl: minutes(15), membershipTtl: minutes(16) },
  clients: [{ region: 'us', privacy: 'private' }],
};

const trust = (world: OverlayWorld, name: string) => {
  const enrolment = loadEnrolment(world.node(name).store.facts);
  if (enrolment === undefined) throw new Error(`${name} is not enrolled`);
  return enrolment.anchors.trust;
};
const members = ['a', 'b', 'x0', 'c0'];

/** What `base` has of keys on its disk, as text. */
const baseDisk = (world: OverlayWorld): string => {
  const { facts } = world.node('base').store;
  return facts
    .names('')
    .map((name) => JSON.stringify(facts.get(name)))
    .join('\n');
};

const factsOf = async (world: OverlayWorld) => (await world.status('base')).facts ?? {};

/** Everybody goes by one and the same CA and key, and nothing is left of what was before. */
async function isOver(t: Test, world: OverlayWorld, before: ReturnType<typeof trust>, what: 'ca' | 'base') {
  for (const name of members) {
    const now = trust(world, name);
    t.equal(now.authorities.length, 1, `${name} goes by one CA`);
    t.equal(now.baseKeys.length, 1, `${name} goes by one key`);
    if (what === 'ca') t.not(now.authorities[0], before.authorities[0], `${name} has the new CA`);
    else t.notSame(now.baseKeys[0], before.baseKeys[0], `${name} has the new key`);
    t.ok(await world.connected(name), `${name} is connected`);
  }
  for (const name of ['a', 'b']) {
    const [ca] = readChain(trust(world, name).authorities[0] ?? '');
    const [leaf] = readChain(loadEnrolment(world.node(name).store.facts)?.certificate ?? '');
    t.ok(ca && leaf?.issuedBy(ca), `${name} has a certificate of it`);
  }
  t.equal((await factsOf(world)).replacing, undefined);
  t.match(world.way('c0'), { ok: true });
}

async function revoke(world: OverlayWorld, peer: string): Promise<void> {
  const { revokeMember } = world.base.running.local;
  await world.clock.run(
    revokeMember?.(create(RevokeMemberRequestSchema, { peer })) ?? Promise.reject(new Error('not base')),
  );
}

for (const what of ['ca', 'base'] as const) {
  t.test(`${what}: announced, used, and the one before dropped; no packet is lost`, async (t) => {
    const world = await overlayWorld(SHORT);
    await world.up('c0');
    const before = trust(world, 'a');
    const traffic = world.traffic('c0', 1);
    const asked = await world.rotateKey('base', what);
    t.match(asked.text, /announced; the new one is used from/);
    await world.advance(seconds(5));
    t.match((await factsOf(world)).replacing, /announced/);
    for (const name of members) {
      const now = trust(world, name);
      const [first, second] = what === 'ca' ? now.authorities : now.baseKeys;
      t.same(first, (what === 'ca' ? before.authorities : before.baseKeys)[0], `${name}: the one before is in use`);
      t.ok(second, `${name} has heard of the new one`);
    }
    await world.advance(minutes(17));
    t.match((await factsOf(world)).replacing, /is used/);
    // New sessions, new streams and restarts while both count.
    for (const name of ['x0', 'a', 'c0', 'b', 'base']) {
      world.crash(name);
      await world.advance(seconds(2));
      await world.restart(name);
    }
    await world.untilConnected(members);
    await world.advance(minutes(18));
    await isOver(t, world, before, what);
    t.equal(traffic.lost, 0, 'no packet is lost');
    traffic.stop();
    await world.down('c0');
    await world.up('c0');
    t.match(world.way('c0'), { ok: true }, 'and new sessions come up');
  });

  t.test(`${what}: base dies at every step, and goes on from there`, async (t) => {
    const world = await overlayWorld(SHORT);
    await world.up('c0');
    const before = trust(world, 'a');
    const crash = async () => {
      world.crash('base', 'power-off');
      await world.advance(seconds(20));
      await world.restart('base');
      await world.untilConnected(['a', 'b']);
    };
    world.rotateKeySoon('base', what).catch(() => {});
    await world.advance(1);
    await crash();
    t.match((await factsOf(world)).replacing, /announced/);
    await world.advance(minutes(15));
    await crash();
    await world.advance(minutes(3));
    t.match((await factsOf(world)).replacing, /is used/);
    await crash();
    await world.advance(minutes(14));
    // Down when the one before should be dropped.
    world.crash('base');
    await world.advance(minutes(5));
    await world.restart('base');
    await world.advance(minutes(3));
    await isOver(t, world, before, what);
  });

  t.test(`${what}: who slept through all of it comes back by base`, async (t) => {
    const world = await overlayWorld({
      ...SHORT,
      base: { certificateTtl: minutes(15), membershipTtl: what === 'ca' ? days(30) : minutes(16) },
      supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'us' }],
    });
    await world.up('c0');
    const before = trust(world, 'a');
    const away = ['x0', 'c0', 'b'];
    for (const name of away) world.crash(name, 'power-off');
    await world.rotateKey('base', what);
    await world.advance(minutes(40));
    t.equal((await factsOf(world)).replacing, undefined, 'it is over');
    for (const name of away) await world.start(name);
    await world.untilConnected(away, minutes(4));
    await world.until('the client has a tunnel again', () => world.way('c0').ok, minutes(3));
    await isOver(t, world, before, what);
  });

  t.test(`${what}: tokens of before still work, during and after`, async (t) => {
    const world = await overlayWorld({ ...SHORT, exits: [{ region: 'eu' }, { region: 'eu' }], clients: [] });
    const join = async (name: string) => {
      world.crash(name, 'power-off');
      for (const fact of world.node(name).store.facts.names('')) world.node(name).store.facts.remove(fact);
      await world.start(name);
      await world.untilConnected([name]);
    };
    await world.giveToken('x0', 'exit', 'eu');
    await world.giveToken('x1', 'exit', 'eu');
    await world.rotateKey('base', what);
    await world.advance(minutes(18));
    await join('x0');
    await world.advance(minutes(18));
    t.equal((await factsOf(world)).replacing, undefined);
    await join('x1');
    t.equal(trust(world, 'x1').authorities.length, 1);
    await world.giveToken('x0', 'exit', 'eu');
    await join('x0');
  });
}

t.test('twice, with somebody away for both', async (t) => {
  const world = await overlayWorld({ ...SHORT, base: { certificateTtl: minutes(2), membershipTtl: minutes(16) } });
  const before = trust(world, 'a');
  world.crash('x0', 'power-off');
  await world.rotateKey('base', 'base');
  t.match(await world.outcome(world.rotateKeySoon('base', 'ca')), { code: 'draining' }, 'one after the other');
  await world.advance(minutes(33));
  await world.rotateKey('base', 'ca');
  await world.advance(minutes(6));
  await world.rotateKey('base', 'base');
  await world.advance(minutes(33));
  await world.start('x0');
  await world.untilConnected(['x0'], minutes(3));
  t.notSame(trust(world, 'x0').baseKeys, before.baseKeys);
  t.same(trust(world, 'x0').baseKeys, trust(world, 'a').baseKeys);
  t.same(trust(world, 'x0').authorities, trust(world, 'a').authorities);
});

t.test('nothing of the private keys of before stays on base’s disk', async (t) => {
  const world = await overlayWorld({ ...SHORT, base: { certificateTtl: minutes(2), membershipTtl: minutes(16) } });
  await world.rotateKey('base', 'ca');
  const [first, second] =
    world.node('base').store.facts.get<{ authorities: { privateKey: string }[] }>('anchors')?.authorities ?? [];
  t.ok(first?.privateKey && second?.privateKey);
  await world.advance(minutes(6));
  t.notOk(baseDisk(world).includes(first?.privateKey ?? ''), 'the CA before is gone');
  t.ok(baseDisk(world).includes(second?.privateKey ?? ''));
  t.match(await world.outcome(world.rotateKeySoon('base', 'ca', { overlap: minutes(1) })), { code: 'bad-config' });
  t.match(await world.outcome(world.rotateKeySoon('base', 'wireguard')), { code: 'not-supported' });
});

t.test('who was shut out stays out when another key signs', async (t) => {
  const world = await overlayWorld({ ...SHORT, clients: [{ region: 'us' }, { region: 'us' }] });
  await revoke(world, world.node('c1').id);
  await world.advance(seconds(2));
  await world.rotateKey('base', 'base');
  await world.advance(minutes(36));
  for (const name of ['a', 'c0', 'x0']) {
    world.crash(name);
    await world.restart(name);
  }
  await world.untilConnected(['a', 'c0', 'x0']);
  await world.advance(minutes(1));
  t.notOk(await world.connected('c1'));
  t.match((await world.upstream('c1'))?.lastError, /shut out/);
  for (const name of ['a', 'b', 'x0', 'c0'])
    t.ok(JSON.stringify(world.node(name).store.facts.get('revocations')), `${name} has the list`);
  t.same(
    world.lines.filter(({ fields }) => fields.code === 'bad-revocations'),
    [],
  );
});

t.test('statements that base has not signed count for nothing', async (t) => {
  const world = await overlayWorld(SHORT);
  const forger = world.node('b').identity;
  const forged = world.statements.signAnchors(forger, {
    serial: 7,
    issuedAt: ms(world.clock.now()) as never,
    baseKeys: [keyOf(forger.id)],
    authorities: ['forged'],
  });
  const before = trust(world, 'c0');
  const a = world.node('a');
  a.tampering.sends = (message) =>
    message.kind === 'event' && message.news.kind === 'directory'
      ? { kind: 'event', news: { kind: 'anchors', chain: [forged] } }
      : message;
  world.crash('b');
  await world.advance(minutes(2));
  await world.restart('b');
  await world.advance(minutes(1));
  t.same(trust(world, 'c0'), before);
});

t.test('a full disk at base refuses it, and nothing has changed', async (t) => {
  const world = await overlayWorld(SHORT);
  const before = trust(world, 'a');
  world.base.store.failWrites(new VpndError('disk-full', 'no room'));
  t.match(await world.outcome(world.rotateKeySoon('base', 'ca')), { code: 'disk-full' });
  world.base.store.failWrites(undefined);
  await world.advance(hours(1));
  t.same(trust(world, 'a').authorities, before.authorities);
});
