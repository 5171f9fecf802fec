import { create, type MessageInitShape } from '@bufbuild/protobuf';
import t from 'tap';
import { CreateTokenRequestSchema, RevokeTokenRequestSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import { Role } from '../../src/gen/vpnd/v1/types_pb.js';
import { utf8 } from '../../src/model/bytes.js';
import { hours, seconds } from '../../src/model/time.js';
import { baseWorld } from '../support/base-world.js';
import { readFake } from '../support/fake-certificates.js';

t.test('a token carries where base is and what its CA is, and is listed without its secret', async (t) => {
  const world = await baseWorld();
  const { token, id, text } = await world.tokenText('exit', { pool: 'home', note: "Anna's box", uses: 3 });
  t.match(token, {
    base: [{ host: 'base.example.org', port: 443 }],
    caKeyHash: world.keys.authority.keyHash,
    role: 'exit',
    region: 'eu',
  });
  const listed = await world.local.listTokens?.();
  t.match(listed, {
    tokens: [{ tokenId: id, role: Role.EXIT, region: 'eu', pool: 'home', uses: 3, usesLeft: 3, note: "Anna's box" }],
  });
  t.notMatch(
    JSON.stringify(listed, (_, x) => (typeof x === 'bigint' ? String(x) : x)),
    text.slice(20, 60),
  );
  t.match(id, /^[0-9a-f]{8}$/);
});

t.test('a token nobody could use is refused with the option that is wrong', async (t) => {
  const world = await baseWorld();
  const fine: MessageInitShape<typeof CreateTokenRequestSchema> = {
    role: Role.EXIT,
    region: 'eu',
    ttlMs: 1000n,
    uses: 1,
  };
  const refused = async (change: typeof fine, message: RegExp) => {
    const make = async () =>
      void (await world.local.createToken?.(create(CreateTokenRequestSchema, { ...fine, ...change })));
    await t.rejects(make, { code: 'bad-config', message });
  };
  await refused({ role: Role.BASE }, /--role/);
  await refused({ role: Role.UNSPECIFIED }, /--role/);
  await refused({ region: '' }, /--region/);
  await refused({ region: 'EU West' }, /--region/);
  await refused({ pool: 'a b' }, /--pool/);
  await refused({ egress: true }, /--egress is for --role supernode/);
  await refused({ egress: true, role: Role.CLIENT }, /--egress/);
  await refused({ ttlMs: 0n }, /--ttl/);
  await refused({ ttlMs: -5n }, /--ttl/);
  await refused({ ttlMs: 2n ** 62n }, /--ttl/);
  await refused({ uses: 0 }, /--uses/);
  await refused({ uses: 1_000_001 }, /--uses/);
  await refused({ note: 'two\nlines' }, /--note/);
  t.same(await world.store.directory.tokens(), []);
  await world.local.createToken?.(create(CreateTokenRequestSchema, { ...fine, uses: 1_000_000 }));
});

t.test('a supernode that may be an exit too is one member, with its stream and its certificate', async (t) => {
  const world = await baseWorld();
  await world.enrol('exit');
  const node = await world.enrol('supernode', 'eu', true);
  t.match(await world.local.listTokens?.(), {
    tokens: [
      { role: Role.EXIT, egress: false },
      { role: Role.SUPERNODE, egress: true },
    ],
  });
  t.match(readFake(node.enrolled.certificate), { subject: node.identity.id });
  const { welcome } = await world.connect(node);
  t.match(welcome, { addressPlan: {} });
  t.match(await world.local.status(), {
    peers: [{ peerId: node.identity.id, role: Role.SUPERNODE }],
    facts: { members: '2', supernodes: '1', exits: '1', clients: '0', supernodes_connected: '1' },
  });
  t.equal((await world.local.status()).peers?.length, 1);
  t.match(await world.exitRegion('eu', { certified: node.identity.id }), { supernodes: [{ id: node.identity.id }] });
  const renewed = await world.renew(world.renewal(node.identity, { csr: utf8('csr') }));
  t.match(world.statements.checkMembership(node.enrolled.baseKey, renewed.membership, world.clock.now()), {
    value: { roles: ['supernode', 'exit'] },
  });
  t.not(renewed.certificate, '');
});

t.test('without an address to tell, base makes no token and says why', async (t) => {
  const world = await baseWorld({ advertise: [] });
  await t.rejects(world.tokenText('exit'), { code: 'bad-config', message: /--advertise/ });
  t.match((await world.local.status()).problems, [/--advertise/]);
});

t.test('a token that does not exist cannot be revoked', async (t) => {
  const world = await baseWorld();
  const revoke = (tokenId: string) => world.local.revokeToken?.(create(RevokeTokenRequestSchema, { tokenId }));
  await t.rejects(revoke('ffffffff') ?? Promise.resolve(), { code: 'not-found' });
  const { id } = await world.tokenText('exit');
  await revoke(id);
  t.match(await world.local.listTokens?.(), { tokens: [{ tokenId: id, revoked: true }] });
});

t.test('a region with invitations and no supernode is a problem until one is enrolled', async (t) => {
  const world = await baseWorld();
  t.same((await world.local.status()).problems, []);
  await world.tokenText('exit', { region: 'us' });
  t.match((await world.local.status()).problems, [/region us: .*no supernode is enrolled there/]);
  await world.enrolAndConnect('us');
  t.same((await world.local.status()).problems, []);
});

t.test('the status shows who is connected, and watchers hear of changes', async (t) => {
  const world = await baseWorld();
  const stop = new AbortController();
  let heard = 0;
  const changed = world.local.statusChanged?.(stop.signal).then(() => heard++);
  const { id } = await world.enrolAndConnect('eu');
  await changed;
  t.equal(heard, 1);
  t.match(await world.local.status(), {
    role: Role.BASE,
    peerId: world.keys.identity.id,
    version: 'vpnd/test',
    peers: [{ peerId: id, region: 'eu' }],
    facts: { members: '1', supernodes_connected: '1', listen: '127.0.0.1:443' },
  });
  t.match(world.running.health(), { ok: true, detail: '1 supernode connected' });
});

t.test("base's own certificate is renewed at two thirds of its life, again and again", async (t) => {
  const world = await baseWorld();
  const shown = () => readFake(world.served().identity().certificate);
  const first = shown();
  t.equal(first.subject, 'base');
  t.equal(first.notAfter, world.later(hours(24)));
  await world.clock.advance(hours(16) - seconds(1));
  t.equal(world.renewals, 0);
  await world.clock.advance(seconds(2));
  t.equal(world.renewals, 1);
  t.not(shown().key, first.key);
  await world.clock.advance(hours(240));
  t.equal(world.renewals, 16);
  t.ok(shown().notAfter > world.clock.now() + hours(7));
});

t.test('a stopped base has told its supernodes and left no timer behind', async (t) => {
  const world = await baseWorld();
  const node = await world.enrolAndConnect();
  t.same(await world.clock.run(world.running.stop()), []);
  await world.clock.advance(100);
  t.match(node.refusal(), { code: 'closed', message: 'base is stopping' });
  t.equal(world.closed, 1);
  t.equal(world.clock.pending, 0);
  t.match(world.running.health(), { ok: false });
});
