import t from 'tap';
import { type Cidr, contains, nthAddress, prefixLength } from '../../src/model/address.js';
import { NO_LOAD } from '../../src/model/directory.js';
import { VpndError } from '../../src/model/errors.js';
import { days, hours, seconds } from '../../src/model/time.js';
import { AddressBlocks } from '../../src/roles/base/address-blocks.js';
import { baseWorld, CONFIG } from '../support/base-world.js';

const cidr = (text: string) => text as Cidr;

t.test('a supernode is told its blocks, the gateway and the others, its own region first', async (t) => {
  const world = await baseWorld();
  const us = await world.enrolAndConnect('us');
  const eu = await world.enrolAndConnect('eu');
  const eu2 = await world.enrolAndConnect('eu');
  t.same(
    us.welcome?.supernodes.map(({ id }) => id),
    [us.id],
  );
  t.same(
    eu.welcome?.supernodes.map(({ region }) => region),
    ['eu', 'us'],
  );
  t.same(
    eu2.welcome?.supernodes.map(({ region }) => region),
    ['eu', 'eu', 'us'],
  );
  t.match(eu.welcome?.addressPlan, {
    gatewayIpv4: '10.200.0.1',
    gatewayIpv6: 'fd76:706e:64::1',
    poolIpv4: '10.200.0.0/13',
  });
});

t.test('no two supernodes are leased one address, and none the block of the gateway', async (t) => {
  const world = await baseWorld();
  const blocks: Cidr[] = [];
  for (let i = 0; i < 20; i++) {
    const { welcome } = await world.enrolAndConnect('eu', { load: { ...NO_LOAD, sessionCapacity: 1500 * (i % 3) } });
    const plan = welcome?.addressPlan;
    if (plan === undefined) throw new Error('no plan');
    t.equal(plan.blocksIpv4.length, plan.blocksIpv6.length);
    for (const block of plan.blocksIpv4) t.equal(prefixLength(block), 22);
    for (const block of plan.blocksIpv6) t.equal(prefixLength(block), 64);
    blocks.push(...plan.blocksIpv4, ...plan.blocksIpv6);
  }
  for (const [i, block] of blocks.entries()) {
    t.notOk(contains(block, nthAddress(CONFIG.poolIpv4, 1)) || contains(block, nthAddress(CONFIG.poolIpv6, 1)));
    for (const other of blocks.slice(i + 1)) if (contains(block, nthAddress(other, 0))) t.fail(`${block} and ${other}`);
  }
});

t.test('a supernode keeps its blocks, and grows by appending', async (t) => {
  const world = await baseWorld();
  const a = await world.enrolAndConnect();
  const first = a.welcome?.addressPlan?.blocksIpv4 ?? [];
  await world.enrolAndConnect();
  const larger = await world.connect(a.node, { load: { ...NO_LOAD, sessionCapacity: 3000 } });
  const grown = larger.welcome?.addressPlan?.blocksIpv4 ?? [];
  t.equal(grown.length, 3);
  t.same(grown.slice(0, first.length), first);
  const smaller = await world.connect(a.node, { load: { ...NO_LOAD, sessionCapacity: 1 } });
  t.same(smaller.welcome?.addressPlan?.blocksIpv4, grown);
});

t.test('when the pools are used up supernodes still come, and the status says so', async (t) => {
  const world = await baseWorld({ poolIpv4: cidr('10.200.0.0/21'), poolIpv6: cidr('fd00::/62') });
  const first = await world.enrolAndConnect();
  const second = await world.enrolAndConnect();
  t.same(first.welcome?.addressPlan?.blocksIpv4, ['10.200.4.0/22']);
  t.same(first.welcome?.addressPlan?.blocksIpv6, ['fd00:0:0:1::/64']);
  t.same(second.welcome?.addressPlan?.blocksIpv4, []);
  t.match((await world.local.status()).problems, [/address pools are used up/]);
});

t.test('pools that hold no block are a mistake in the configuration', async (t) => {
  const bad: Partial<typeof CONFIG>[] = [
    { poolIpv4: cidr('10.200.0.0/22') },
    { poolIpv4: cidr('10.200.0.0/24') },
    { poolIpv6: cidr('fd00::/64') },
    { poolIpv6: cidr('fd00::/80') },
    { poolIpv4: cidr('fd00::/48') },
    { blockLength: 31 },
  ];
  for (const change of bad)
    t.throws(() => new AddressBlocks({ ...CONFIG, ...change }), VpndError, JSON.stringify(change));
  t.equal(new AddressBlocks(CONFIG).count, 511);
});

t.test('everybody hears of a change, once, in the order of their own region', async (t) => {
  const world = await baseWorld();
  const eu = await world.enrolAndConnect('eu');
  await world.clock.advance(seconds(5));
  const before = eu.news().length;
  const us = await world.enrolAndConnect('us');
  const us2 = await world.enrolAndConnect('us');
  await world.clock.advance(seconds(5));
  t.equal(eu.news().length, before + 1, 'two that came together are one message');
  t.equal(eu.directory()?.length, 3);
  t.equal(eu.directory()?.[0], eu.id);
  t.same(us.directory()?.slice(2), [eu.id]);
  us2.cable.peer.end();
  await world.clock.advance(seconds(5));
  t.same(eu.directory(), [eu.id, us.id, us2.id], 'who is away comes last');
});

t.test('a supernode that is draining or full comes after one that is not', async (t) => {
  const world = await baseWorld();
  const draining = await world.enrolAndConnect('eu', { draining: true });
  const busy = await world.enrolAndConnect('eu', { load: { ...NO_LOAD, sessions: 90, sessionCapacity: 100 } });
  const idle = await world.enrolAndConnect('eu');
  t.same(
    (await world.exitRegion('eu', { certified: idle.id })).supernodes.map(({ id }) => id),
    [idle.id, busy.id, draining.id],
  );
});

t.test('a supernode that begins to drain is told to everybody at once', async (t) => {
  const world = await baseWorld();
  const [one, other] = [await world.enrolAndConnect('eu'), await world.enrolAndConnect('eu')];
  await world.clock.advance(seconds(5));
  const before = other.news().length;
  one.say({ draining: true });
  await world.clock.advance(100);
  t.equal(other.news().length, before + 1);
  t.match(other.news().at(-1), {
    supernodes: [
      { id: other.id, draining: false },
      { id: one.id, draining: true },
    ],
  });
  await world.restart();
  const { supernodes } = await world.exitRegion('eu', { certified: other.id });
  t.match(
    supernodes.find(({ id }) => id === one.id),
    { draining: true },
    'and written down',
  );
  await world.connect(one.node);
  const back = await world.exitRegion('eu', { certified: other.id });
  t.match(
    back.supernodes.find(({ id }) => id === one.id),
    { draining: false },
    'until it is started again',
  );
});

t.test('a supernode speaks for itself only, and not all the time', async (t) => {
  const world = await baseWorld();
  const [one, other] = [await world.enrolAndConnect('eu'), await world.enrolAndConnect('us')];
  await world.clock.advance(seconds(5));
  one.say({ id: other.id, draining: true });
  await world.clock.advance(100);
  t.equal(one.refusal()?.code, 'bad-message');
  const again = await world.connect(one.node);
  again.say({ region: other.node.region });
  await world.clock.advance(100);
  t.equal(again.refusal()?.code, 'bad-message');
  t.match((await world.exitRegion('us', { certified: other.id })).supernodes, [{ id: other.id, draining: false }]);

  const chatty = await world.connect(one.node);
  const before = other.news().length;
  for (let n = 0; n < 100; n++) chatty.say({ draining: n % 2 === 0 });
  await world.clock.advance(seconds(2));
  t.equal(chatty.refusal()?.code, 'rate-limited');
  t.ok(other.news().length - before <= 2, 'and the others are not flooded');
});

t.test('a supernode stays published for a day after it was last seen', async (t) => {
  const world = await baseWorld();
  const stays = await world.enrolAndConnect('eu');
  const leaves = await world.enrolAndConnect('us');
  await world.clock.advance(days(3));
  leaves.cable.peer.end();
  await world.clock.advance(hours(23));
  const regions = async () => (await world.exitRegion(undefined, { certified: stays.id })).regions;
  t.same(await regions(), ['eu', 'us']);
  await world.clock.advance(hours(2) + seconds(5));
  t.same(await regions(), ['eu']);
  t.same(stays.directory(), [stays.id]);
  t.match((await world.local.status()).problems, ['region us: no supernode has been connected for a day']);
});

t.test('exit regions are told to supernodes that are members, and to nobody else', async (t) => {
  const world = await baseWorld();
  const { id } = await world.enrolAndConnect('eu');
  const exit = await world.enrol('exit');
  t.match(await world.exitRegion('eu', { certified: id }), { supernodes: [{ id }], regions: ['eu'] });
  t.strictSame(await world.exitRegion('mars', { certified: id }), { supernodes: [], regions: ['eu'] });
  t.equal((await world.exitRegion(undefined, { certified: id })).supernodes.length, 1);
  await t.rejects(world.exitRegion('eu', {}), { code: 'unauthenticated' });
  await t.rejects(world.exitRegion('eu', { certified: exit.identity.id }), { code: 'forbidden' });
  await t.rejects(world.exitRegion('eu', { certified: world.identity().id }), { code: 'not-enrolled' });
});

t.test('only supernodes that are still members have streams', async (t) => {
  const world = await baseWorld();
  const exit = await world.enrol('exit');
  t.equal((await world.connect(exit)).refusal()?.code, 'wrong-role');

  const stranger = world.identity();
  const forged = world.statements.signMembership(world.keys.identity, {
    peer: stranger.id,
    roles: ['supernode'],
    region: exit.region,
    pool: '',
    notBefore: world.later(-1000),
    notAfter: world.later(days(1)),
    epoch: 0,
  });
  const unknown = await world.connect({ ...exit, role: 'supernode', identity: stranger }, {}, forged);
  t.equal(unknown.refusal()?.code, 'not-enrolled', "a membership outlives base's database");

  const moved = await world.enrol('supernode', 'eu');
  const { token } = await world.tokenText('supernode', { region: 'us' });
  await world.register(world.registration(moved.identity, token));
  t.equal((await world.connect(moved)).refusal()?.code, 'wrong-region');
});

t.test('a supernode renews on its stream, for itself only', async (t) => {
  const world = await baseWorld();
  const one = await world.enrolAndConnect();
  const other = await world.enrol('exit');
  const ask = async (from: typeof other.identity) => {
    one.cable.peer.send({
      kind: 'info-request',
      requestId: 7,
      question: { kind: 'renewal', renewal: world.renewal(from) },
    });
    await world.clock.advance(100);
    return one.received.findLast((message) => message.kind === 'info-response');
  };
  t.match(await ask(one.node.identity), { result: { ok: true, value: { kind: 'renewal' } } });
  t.match(await ask(other.identity), { result: { ok: false, error: { code: 'forbidden' } } });
});

t.test('a restart keeps tokens, members, blocks and the directory', async (t) => {
  const world = await baseWorld();
  const node = await world.enrolAndConnect('eu');
  const blocks = node.welcome?.addressPlan?.blocksIpv4;
  const { token } = await world.tokenText('client');
  await world.restart();
  t.same(
    (await world.exitRegion('eu', { certified: node.id })).supernodes.map(({ id }) => id),
    [node.id],
  );
  const client = await world.register(world.registration(world.identity(), token));
  t.same(
    client.supernodes.map(({ id }) => id),
    [node.id],
    'a client that enrols now knows where to go',
  );
  const again = await world.connect(node.node);
  t.same(again.welcome?.addressPlan?.blocksIpv4, blocks);
  t.equal((await world.local.status()).facts?.members, '2');
});

t.test('nothing is told that could not be written down', async (t) => {
  const world = await baseWorld();
  const node = await world.enrol('supernode');
  const { token } = await world.tokenText('exit');
  world.store.failWrites(new VpndError('disk-full', 'the disk is full'));
  t.equal((await world.connect(node)).refusal()?.code, 'disk-full');
  await t.rejects(world.register(world.registration(world.identity(), token)), { code: 'disk-full' });
  await t.rejects(world.tokenText('exit'), { code: 'disk-full' });
  world.store.failWrites(undefined);
  t.ok((await world.connect(node)).welcome);
});
