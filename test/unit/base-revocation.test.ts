import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import t from 'tap';
import { digestOf } from '../../src/core/revocations.js';
import {
  ListMembersRequestSchema,
  RevokeMemberRequestSchema,
  UnrevokeMemberRequestSchema,
} from '../../src/gen/vpnd/v1/admin_pb.js';
import { MembershipSchema, Role } from '../../src/gen/vpnd/v1/types_pb.js';
import { utf8 } from '../../src/model/bytes.js';
import { keyOf } from '../../src/model/ids.js';
import type { News } from '../../src/model/messages.js';
import { instantOf, seconds } from '../../src/model/time.js';
import { type BaseWorld, baseWorld } from '../support/base-world.js';

type Revoke = MessageInitShape<typeof RevokeMemberRequestSchema>;

const revokeSoon = (world: BaseWorld, request: Revoke) =>
  world.local.revokeMember?.(create(RevokeMemberRequestSchema, request)) ?? Promise.reject(new Error('no base'));
/** And what it sends has arrived. */
async function revoke(world: BaseWorld, request: Revoke) {
  const done = await revokeSoon(world, request);
  await world.clock.advance(50);
  return done;
}
const unrevoke = (world: BaseWorld, request: MessageInitShape<typeof UnrevokeMemberRequestSchema>) =>
  world.local.unrevokeMember?.(create(UnrevokeMemberRequestSchema, request)) ?? Promise.reject(new Error('no base'));
const lists = (news: readonly News[]) => news.flatMap((one) => (one.kind === 'revocations' ? [one.change] : []));
const headOf = (world: BaseWorld, news: readonly News[]) => {
  const last = lists(news).at(-1);
  if (last === undefined) throw new Error('no list');
  const checked = world.statements.checkRevocations(keyOf(world.keys.identity.id), last.head);
  if (!checked.ok) throw checked.error;
  return checked.value;
};

t.test('a revoked node is refused for enrolment, renewal and its stream, whatever it brings', async (t) => {
  const world = await baseWorld();
  const exit = await world.enrol('exit');
  const { id } = exit.identity;
  t.match(await revoke(world, { peer: id, reason: 'stolen' }), { peerId: id, epoch: 1n, changed: true, told: 0 });
  t.match(await revoke(world, { peer: id }), { epoch: 1n, changed: false }, 'once is enough');

  await t.rejects(world.renew(world.renewal(exit.identity)), { code: 'revoked' });
  for (const role of ['exit', 'client', 'supernode'] as const) {
    const { token, id: tokenId } = await world.tokenText(role, { region: 'us' });
    await t.rejects(world.register(world.registration(exit.identity, token)), { code: 'revoked' }, `as ${role}`);
    const left = (await world.store.directory.tokens()).find((one) => one.id === tokenId)?.usesLeft;
    t.equal(left, 1, 'the token is not used up');
  }
  const other = await world.enrol('exit');
  t.ok(await world.renew(world.renewal(other.identity)), 'others are not touched');
});

t.test('it is the key that is shut out, not a way of writing it', async (t) => {
  const world = await baseWorld();
  const { node, id } = await world.enrolAndConnect();
  await revoke(world, { peer: id, supernode: true });
  // The same membership in other bytes, signed by base again: fields in another order, another epoch, unknown fields.
  const membership = fromBinary(MembershipSchema, node.enrolled.membership.body);
  const again = (change: object) =>
    world.statements.signMembership(world.keys.identity, {
      peer: node.identity.id,
      roles: ['supernode'],
      region: node.region,
      pool: '',
      notBefore: instantOf(Number(membership.notBeforeMs)),
      notAfter: instantOf(Number(membership.notAfterMs) + 1_000),
      epoch: 99,
      ...change,
    });
  for (const signed of [node.enrolled.membership, again({}), again({ roles: ['supernode', 'exit'], pool: 'other' })]) {
    const stream = await world.connect(node, {}, signed);
    t.match(stream.refusal(), { code: 'revoked' });
  }
  const padded = {
    body: Uint8Array.of(...toBinary(MembershipSchema, membership), 0x7a, 0x01, 0x00),
    signature: node.enrolled.membership.signature,
  };
  t.match((await world.connect(node, {}, padded)).refusal(), { code: 'revoked' }, 'before its signature is looked at');
  // No second text stands for the same key.
  const upper = id.toUpperCase();
  await t.rejects(revoke(world, { peer: upper, supernode: true }), { code: 'bad-config' });
  for (const last of 'bcdefghijklmnoprstuvwxyz234567')
    await t.rejects(revokeSoon(world, { peer: id.slice(0, 51) + last, supernode: true }), { code: 'not-found' }, last);
});

t.test('connected supernodes are told at once; who connects later is told what it has missed', async (t) => {
  const world = await baseWorld();
  const a = await world.enrolAndConnect('eu');
  const b = await world.enrolAndConnect('us');
  const victims = [await world.enrol('exit'), await world.enrol('client'), await world.enrol('client')];
  for (const [n, { identity }] of victims.entries()) {
    t.match(await revoke(world, { peer: identity.id }), { epoch: BigInt(n + 1), told: 2 });
  }
  for (const { news } of [a, b]) {
    const changes = lists(news());
    t.same(
      changes.map((one) => [one.from, one.added.length]),
      [
        [0, 1],
        [1, 1],
        [2, 1],
      ],
      'each change by itself',
    );
    t.match(headOf(world, news()), { epoch: 3, count: 3 });
  }
  const late = await world.enrolAndConnect('eu');
  t.match(
    lists(late.news()).map((one) => [one.from, one.added.length]),
    [[0, 3]],
    'the whole list',
  );
  const again = await world.connect(a.node, {}, a.node.enrolled.membership, lists(a.news())[1]?.head);
  t.match(
    lists(again.news()).map((one) => [one.from, one.added.length]),
    [[2, 1]],
    'or the difference',
  );
  const current = await world.connect(b.node, {}, b.node.enrolled.membership, lists(b.news()).at(-1)?.head);
  t.same(lists(current.news()), [], 'or nothing');
  t.match(current.welcome?.revocations, lists(b.news()).at(-1)?.head, 'and the head in any case');
  // Memberships say at which epoch they were signed.
  const member = await world.enrol('client');
  const checked = world.statements.checkMembership(
    keyOf(world.keys.identity.id),
    member.enrolled.membership,
    world.clock.now(),
  );
  t.match(checked, { ok: true, value: { epoch: 3 } });
});

t.test('a banned supernode loses its stream, its name in the directory, its calls and its certificate', async (t) => {
  const world = await baseWorld();
  const good = await world.enrolAndConnect('eu');
  const bad = await world.enrolAndConnect('eu');
  await world.clock.advance(seconds(2));
  t.ok(good.directory()?.includes(bad.id));
  await revoke(world, { peer: bad.id, supernode: true, reason: 'broken into' });
  await world.clock.advance(50);
  t.match(bad.refusal(), { code: 'revoked' });
  t.notOk(good.directory()?.includes(bad.id), 'the others have a directory without it');
  await t.rejects(world.exitRegion(undefined, { certified: bad.id }), { code: 'revoked' });
  const peer = await world.enrol('client');
  await t.rejects(world.renew(world.renewal(peer.identity), { certified: bad.id }), { code: 'revoked' });
  await t.rejects(world.renew(world.renewal(bad.node.identity, { csr: utf8('csr') })), { code: 'revoked' });
  t.match((await world.connect(bad.node)).refusal(), { code: 'revoked' });
  t.match(
    (await world.exitRegion('eu', { certified: good.id })).supernodes.map((one) => one.id),
    [good.id],
  );

  await world.restart();
  t.match((await world.connect(bad.node)).refusal(), { code: 'revoked' }, 'after a restart, too');
  const { supernodes } = (await world.connect(good.node)).welcome ?? {};
  t.same(
    supernodes?.map((one) => one.id),
    [good.id],
  );

  t.match(await unrevoke(world, { peer: bad.id, supernode: true }), { changed: true, epoch: 2n });
  t.ok((await world.connect(bad.node)).welcome, 'and is let in again');
});

t.test('members are listed with what became of them', async (t) => {
  const world = await baseWorld();
  const exit = await world.enrol('exit');
  await world.clock.advance(1_000);
  const client = await world.enrol('client', 'us');
  await revoke(world, { peer: client.identity.id, reason: 'stolen' });
  const stranger = world.identity().id;
  await revoke(world, { peer: stranger });
  const clientRow = { roles: [Role.CLIENT], region: 'us', reason: 'stolen', revokedMs: /^[1-9]/ };
  const exitRow = { roles: [Role.EXIT], region: 'eu', reason: '', revokedMs: 0n };
  const rows = [
    { peerId: client.identity.id, ...clientRow },
    { peerId: exit.identity.id, ...exitRow },
  ].sort((a, b) => (a.peerId < b.peerId ? -1 : 1));
  const list = async (after: string) => world.local.listMembers?.(create(ListMembersRequestSchema, { after }));
  t.match(await list(''), {
    epoch: 2n,
    next: '',
    members: [{ peerId: stranger, roles: [], enrolledMs: 0n, revokedMs: /^[1-9]/ }, ...rows],
  });
  const [first] = rows;
  t.match(await list(first?.peerId ?? ''), { members: rows.slice(1) }, 'the part after one of them');
  await t.rejects(list('nobody'), { code: 'bad-config' });
  t.match(await world.running.local.status(), { facts: { members: '2', revoked: '2', revocation_epoch: '2' } });
});

t.test('what an operator types wrongly changes nothing', async (t) => {
  const world = await baseWorld();
  const { id } = (await world.enrol('exit')).identity;
  const supernode = (await world.enrol('supernode')).identity.id;
  const stranger = world.identity().id;
  const refused = async (request: Revoke, error: { code: string; message?: RegExp }) =>
    t.rejects(revoke(world, request), error, JSON.stringify(request));
  await refused({ peer: '' }, { code: 'bad-config' });
  await refused({ peer: 'abc' }, { code: 'bad-config', message: /at least 4/ });
  await refused({ peer: 'Ab!?' }, { code: 'bad-config', message: /52 lower-case/ });
  await refused({ peer: `${id}a` }, { code: 'bad-config' });
  await refused({ peer: stranger.slice(0, 12) }, { code: 'not-found', message: /vpnd members/ });
  await refused({ peer: supernode }, { code: 'bad-config', message: /vpnd supernode ban/ });
  await refused({ peer: id, supernode: true }, { code: 'bad-config', message: /vpnd revoke/ });
  await refused({ peer: id, reason: 'two\nlines' }, { code: 'bad-config', message: /--reason/ });
  await refused({ peer: id, reason: 'x'.repeat(201) }, { code: 'bad-config', message: /--reason/ });
  await t.rejects(unrevoke(world, { peer: id.slice(0, 12) }), { code: 'not-found' });
  t.match(await unrevoke(world, { peer: id }), { changed: false, epoch: 0n });
  t.same(await world.store.directory.revocations(), { epoch: 0, changedAt: instantOf(0), revoked: [] });
  t.match(await revoke(world, { peer: id.slice(0, 12) }), { peerId: id, changed: true }, 'a beginning will do');
  await t.rejects(unrevoke(world, { peer: id, supernode: true }), { code: 'bad-config', message: /vpnd unrevoke/ });
});

t.test('a store that fails: nothing is announced that is not on record', async (t) => {
  const world = await baseWorld();
  const a = await world.enrolAndConnect();
  const { id } = (await world.enrol('exit')).identity;
  world.store.failWrites(new Error('full') as never);
  await t.rejects(revoke(world, { peer: id }));
  t.same(lists(a.news()), []);
  world.store.failWrites(undefined);
  t.match(await revoke(world, { peer: id }), { epoch: 1n });
  t.match(headOf(world, a.news()), { epoch: 1, count: 1 });
});

t.test('a hundred at once are a hundred epochs, one after the other', async (t) => {
  const world = await baseWorld();
  const a = await world.enrolAndConnect();
  const ids = Array.from({ length: 100 }, () => world.identity().id);
  await Promise.all(ids.map((peer) => revokeSoon(world, { peer })));
  await world.clock.advance(50);
  t.same(
    lists(a.news()).map((one) => one.from),
    [...Array(100).keys()],
  );
  t.match(headOf(world, a.news()), { epoch: 100, count: 100 });
});

t.test('a base with older state takes back what it has forgotten', async (t) => {
  const world = await baseWorld();
  const a = await world.enrolAndConnect();
  const [one, two] = [await world.enrol('exit'), await world.enrol('client')];
  await revoke(world, { peer: one.identity.id });
  await revoke(world, { peer: two.identity.id });
  const held = lists(a.news());
  // A backup of before both: and somebody else was revoked since it was put back.
  const other = await world.enrol('client');
  await world.store.directory.adoptRevocations({ epoch: 0, changedAt: instantOf(0), revoked: [] });
  await world.restart();
  await revoke(world, { peer: other.identity.id });
  await revoke(world, { peer: world.identity().id });
  t.ok(await world.renew(world.renewal(one.identity)), 'it has forgotten');

  const last = held.at(-1);
  if (last === undefined) throw new Error('no list');
  const back = await world.connect(a.node, {}, a.node.enrolled.membership, last.head);
  t.match(
    back.news().map(({ kind }) => kind),
    ['revocations-wanted'],
    'two lists of one epoch: it asks for the other',
  );
  const whole = { ...last, from: 0, added: held.flatMap((change) => change.added) };
  // Not what it has signed: refused.
  back.tell({ kind: 'revocations', change: { ...whole, added: whole.added.slice(1) } });
  await world.clock.advance(100);
  t.ok(await world.renew(world.renewal(one.identity)));
  back.tell({ kind: 'revocations', change: whole });
  await world.clock.advance(100);
  await t.rejects(world.renew(world.renewal(one.identity)), { code: 'revoked' });
  await t.rejects(world.renew(world.renewal(two.identity)), { code: 'revoked' });
  await t.rejects(world.renew(world.renewal(other.identity)), { code: 'revoked' });
  t.match(headOf(world, back.news()), { epoch: 3, count: 4 });
  t.match((await world.running.local.status()).problems?.join(), /older state/);
});

t.test('a base with older state, and nothing new since, is where it was', async (t) => {
  const world = await baseWorld();
  const a = await world.enrolAndConnect();
  await revoke(world, { peer: world.identity().id });
  await revoke(world, { peer: world.identity().id });
  const held = lists(a.news());
  const last = held.at(-1);
  if (last === undefined) throw new Error('no list');
  await world.store.directory.adoptRevocations({ epoch: 0, changedAt: instantOf(0), revoked: [] });
  await world.restart();
  const back = await world.connect(a.node, {}, a.node.enrolled.membership, last.head);
  back.tell({ kind: 'revocations', change: { ...last, from: 0, added: held.flatMap((change) => change.added) } });
  await world.clock.advance(100);
  t.match(await world.running.local.status(), { facts: { revocation_epoch: '2', revoked: '2' } });
  const set = await world.store.directory.revocations();
  const head = headOf(world, a.news());
  t.same(digestOf(set.revoked, world.crypto.sha256), head.digest);
});
