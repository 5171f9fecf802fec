import t from 'tap';
import type { IpAddress } from '../../src/model/address.js';
import { toHex } from '../../src/model/bytes.js';
import type { ErrorCode } from '../../src/model/errors.js';
import { keyOf } from '../../src/model/ids.js';
import type { MemberRole, Region } from '../../src/model/role.js';
import { days, hours, minutes, plus } from '../../src/model/time.js';
import { type BaseWorld, baseWorld } from '../support/base-world.js';
import { readFake } from '../support/fake-certificates.js';

const usesLeft = async (world: BaseWorld, id: string) =>
  (await world.store.directory.tokens()).find((token) => token.id === id)?.usesLeft;

for (const role of ['supernode', 'exit', 'client'] as const satisfies readonly MemberRole[])
  t.test(`a node enrols as ${role} with a token for it`, async (t) => {
    const world = await baseWorld();
    const { token } = await world.tokenText(role, { region: 'us-east-1', pool: 'home' });
    const node = world.identity();
    const answer = await world.register(world.registration(node, token));
    t.strictSame(answer.baseKey, keyOf(world.keys.identity.id));
    t.equal(answer.serverTime, world.clock.now());
    t.equal(answer.caCertificate, world.keys.authority.certificate);
    const membership = world.statements.checkMembership(answer.baseKey, answer.membership, world.clock.now());
    t.match(membership, {
      ok: true,
      value: { peer: node.id, roles: [role], region: 'us-east-1', pool: 'home', notAfter: world.later(days(30)) },
    });
    if (role === 'supernode') t.match(readFake(answer.certificate), { subject: node.id });
    else t.equal(answer.certificate, '');
    t.match(await world.store.directory.member(node.id), { roles: [role], region: 'us-east-1' });
  });

t.test('what a token is refused for has its word, and spends nothing', async (t) => {
  const world = await baseWorld();
  const { token, id } = await world.tokenText('exit', { uses: 2 });
  const node = world.identity();
  const refused = (code: ErrorCode, request: ReturnType<typeof world.registration>) =>
    t.rejects(world.register(request), { code });
  await refused('wrong-role', world.registration(node, token, { role: 'client' }));
  await refused('wrong-role', world.registration(node, token, { role: 'supernode' }));
  await refused('wrong-region', world.registration(node, token, { region: 'us' as Region }));
  await refused('bad-token', world.registration(node, token, { tokenSecret: world.random.bytes(32) }));
  await refused('bad-signature', world.registration(node, token, { signature: new Uint8Array(64) }));
  await refused('bad-signature', { ...world.registration(node, token), peer: world.identity().id });
  await refused('bad-message', world.registration(node, token, { csr: Uint8Array.of(1) }));
  t.equal(await usesLeft(world, id), 2);
  await world.register(world.registration(node, token, { region: 'eu' as Region }));
  t.equal(await usesLeft(world, id), 1);
  await world.local.revokeToken?.({ tokenId: id } as never);
  await refused('token-revoked', world.registration(world.identity(), token));
});

t.test('a token ends when it was said to', async (t) => {
  const world = await baseWorld();
  const { token } = await world.tokenText('exit', { ttl: hours(1), uses: 5 });
  await world.clock.advance(hours(1) - 1);
  await world.register(world.registration(world.identity(), token));
  await world.clock.advance(1);
  await t.rejects(world.register(world.registration(world.identity(), token)), { code: 'token-expired' });
});

t.test('a clock that is off is said so, by how much and which way, and the token is not spent', async (t) => {
  const world = await baseWorld();
  const { token, id } = await world.tokenText('exit');
  const node = world.identity();
  const slow = world.registration(node, token, { ahead: -hours(1) });
  await t.rejects(world.register(slow), { code: 'clock-skew', message: /60 min behind base's/ });
  const fast = world.registration(node, token, { ahead: days(3650) });
  await t.rejects(world.register(fast), { code: 'clock-skew', message: /3650 days ahead of base's/ });
  t.equal(await usesLeft(world, id), 1);
  await world.register(world.registration(node, token, { ahead: minutes(5) }));
  t.equal(await usesLeft(world, id), 0, 'a node is not shut out for having been off');
});

t.test('a replayed enrolment spends nothing and gives nothing but what was given', async (t) => {
  const world = await baseWorld();
  const { token, id } = await world.tokenText('exit', { uses: 3 });
  const request = world.registration(world.identity(), token);
  const first = await world.register(request);
  await world.clock.advance(minutes(1));
  const second = await world.register(request);
  t.equal(await usesLeft(world, id), 2);
  t.equal((await world.store.directory.members({ limit: 100 })).length, 1);
  const peerOf = (answer: typeof first) => {
    const checked = world.statements.checkMembership(answer.baseKey, answer.membership, world.clock.now());
    return checked.ok ? checked.value.peer : undefined;
  };
  t.equal(peerOf(second), peerOf(first));
  await world.clock.advance(minutes(5));
  await t.rejects(world.register(request), { code: 'clock-skew' }, 'and later not even that');
});

t.test('of 100 uses of a one-use token at once exactly one wins', async (t) => {
  const world = await baseWorld();
  const { token } = await world.tokenText('exit');
  const uses = Array.from({ length: 100 }, (_, i) =>
    world.register(world.registration(world.identity(), token), { remote: `203.0.113.${i}` as IpAddress }),
  );
  const outcomes = await Promise.allSettled(uses);
  t.equal(outcomes.filter(({ status }) => status === 'fulfilled').length, 1);
  const reasons = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason.code] : []));
  t.same(new Set(reasons), new Set(['token-used']));
  t.equal((await world.store.directory.members({ limit: 100 })).length, 1);
});

t.test('who asks too often is stopped before anything is checked, and others are not', async (t) => {
  const world = await baseWorld();
  const { token } = await world.tokenText('exit', { uses: 1000 });
  const forged = () => world.registration(world.identity(), token, { signature: new Uint8Array(64) });
  const from = (address: string) => ({ remote: address as IpAddress });
  const codes = async (address: (i: number) => string) => {
    const tried = Array.from({ length: 200 }, (_, i) => world.register(forged(), from(address(i))));
    const outcomes = await Promise.allSettled(tried);
    return new Set(outcomes.map((outcome) => (outcome.status === 'rejected' ? outcome.reason.code : 'ok')));
  };
  t.same(
    await codes((i) => `2001:db8::${i.toString(16)}`),
    new Set(['bad-signature', 'rate-limited']),
    'one /64 is one',
  );
  await t.rejects(world.renew(world.renewal(world.identity()), from('2001:db8::ffff')), { code: 'rate-limited' });
  await world.register(world.registration(world.identity(), token), from('2001:db8:0:1::1'));
  await world.clock.advance(minutes(2));
  await world.register(world.registration(world.identity(), token), from('2001:db8::1'));
});

t.test('a member renews its membership while its clock and signature are right', async (t) => {
  const world = await baseWorld();
  const exit = await world.enrol('exit');
  const supernode = await world.enrol('supernode');
  await world.clock.advance(days(29));
  const renewed = await world.renew(world.renewal(exit.identity));
  t.match(world.statements.checkMembership(exit.enrolled.baseKey, renewed.membership, world.later(days(29))), {
    ok: true,
    value: { peer: exit.identity.id, roles: ['exit'], region: 'eu' },
  });
  t.equal(renewed.certificate, '');
  const csr = new TextEncoder().encode('csr again');
  const certified = await world.renew(world.renewal(supernode.identity, { csr }));
  t.match(readFake(certified.certificate), {
    subject: supernode.identity.id,
    key: toHex(csr),
    notAfter: plus(world.clock.now(), hours(24)),
  });

  const refused = (code: ErrorCode, request: ReturnType<typeof world.renewal>) =>
    t.rejects(world.renew(request), { code });
  await refused('forbidden', world.renewal(exit.identity, { csr }));
  await refused('not-enrolled', world.renewal(world.identity()));
  await refused('clock-skew', world.renewal(exit.identity, { ahead: -minutes(6) }));
  await refused('bad-signature', { ...world.renewal(exit.identity), csr });
  await refused('bad-signature', { ...world.renewal(exit.identity), peer: supernode.identity.id });
});

t.test('a supernode may hand on the renewals of many peers at once', async (t) => {
  const world = await baseWorld();
  const exit = await world.enrol('exit');
  const supernode = await world.enrol('supernode');
  const asked = Array.from({ length: 500 }, () =>
    world.renew(world.renewal(exit.identity), { certified: supernode.identity.id }),
  );
  t.equal((await Promise.all(asked)).length, 500);
});

t.test('nothing secret is in the log', async (t) => {
  const world = await baseWorld();
  const { text, token } = await world.tokenText('exit', { note: 'for Anna' });
  await world.register(world.registration(world.identity(), token));
  await world.register(world.registration(world.identity(), token)).catch(() => {});
  const said = JSON.stringify(world.log.lines);
  for (const secret of [text, text.slice(20, 60), toHex(token.secret), world.address]) t.notMatch(said, secret);
});
