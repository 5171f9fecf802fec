import t from 'tap';
import { newSessionId } from '../../src/core/commands.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import { utf8 } from '../../src/model/bytes.js';
import { keyOf } from '../../src/model/ids.js';
import type { MemberRole, Region } from '../../src/model/role.js';
import { days, instantOf } from '../../src/model/time.js';
import { baseWorld } from '../support/base-world.js';
import { readFake } from '../support/fake-certificates.js';

/** What makes somebody a member, and what somebody is: a token of the operator's, and a key. Nothing else, whatever is said. */

t.test('nobody is a member by where he comes from, whom he knows, or by asking', async (t) => {
  const world = await baseWorld();
  const member = await world.enrol('exit');
  const supernode = await world.enrolAndConnect();
  const { token, id } = await world.tokenText('exit', { note: 'everybody@example.org', uses: 10 });
  const members = (await world.store.directory.members({ limit: 100 })).length;
  const [stored] = (await world.store.directory.tokens()).filter((one) => one.id === id);
  const stranger = world.identity();
  const changed = token.secret.slice();
  changed[31] = (changed[31] ?? 0) ^ 1;
  const secrets = {
    'of zeros': new Uint8Array(32),
    'of nothing': new Uint8Array(0),
    'cut short': token.secret.slice(0, 31),
    'with another bit': changed,
    'as base keeps it': stored?.secretHash ?? new Uint8Array(0),
    'that is the token’s name': utf8(id.padEnd(32, '\0')),
    'that is base’s key': keyOf(world.keys.identity.id),
    'that is a member’s key': keyOf(member.identity.id),
  };
  const froms = [
    {},
    // Behind the address of a member; with a certificate of a supernode's.
    { remote: world.address },
    { certified: supernode.id },
    { remote: '127.0.0.1' as IpAddress },
  ];
  for (const [name, tokenSecret] of Object.entries(secrets))
    for (const role of ['exit', 'client', 'supernode'] as const)
      for (const from of froms)
        await t.rejects(
          world.register(world.registration(stranger, token, { tokenSecret, role }), from),
          { code: 'bad-token' },
          `a secret ${name}, as ${role}`,
        );
  await t.rejects(world.renew(world.renewal(stranger)), { code: 'not-enrolled' }, 'nor by renewing what never was');
  await t.rejects(world.renew(world.renewal(stranger), { certified: supernode.id }), { code: 'not-enrolled' });
  await t.rejects(world.exitRegion('eu', { certified: stranger.id }), {
    code: /not-enrolled|unauthenticated|forbidden/,
  });
  t.equal((await world.store.directory.members({ limit: 100 })).length, members);
});

t.test('a first base lets nobody in before its operator has made a token', async (t) => {
  const world = await baseWorld();
  t.same(await world.store.directory.tokens(), []);
  const other = await baseWorld({}, 2);
  const { token } = await other.tokenText('supernode');
  t.not(world.keys.identity.id, other.keys.identity.id);
  await t.rejects(world.register(world.registration(world.identity(), token)), { code: 'bad-token' });
  t.equal((await world.store.directory.members({ limit: 100 })).length, 0, 'the first who asks neither');
});

t.test('what a node says of itself gives it nothing: role, region and pool are those of its token', async (t) => {
  const world = await baseWorld();
  const { token } = await world.tokenText('exit', { region: 'eu', pool: 'home', uses: 9 });
  const sent = world.registration(world.identity(), token);
  // As if the request had more fields than it has, and as if it had been signed so.
  const answer = await world.register({ ...sent, roles: ['supernode', 'exit'], pool: 'office', egress: true } as never);
  t.match(world.statements.checkMembership(answer.baseKey, answer.membership, world.clock.now()), {
    ok: true,
    value: { roles: ['exit'], region: 'eu', pool: 'home', notAfter: world.later(days(30)) },
  });
  for (const role of ['supernode', 'client'] as const satisfies readonly MemberRole[])
    await t.rejects(world.register(world.registration(world.identity(), token, { role })), { code: 'wrong-role' });
  const elsewhere = world.registration(world.identity(), token, { region: 'us' as Region });
  await t.rejects(world.register(elsewhere), { code: 'wrong-region' });
  const { token: plain } = await world.tokenText('supernode', { region: 'eu' });
  const supernode = await world.register(world.registration(world.identity(), plain));
  t.match(world.statements.checkMembership(supernode.baseKey, supernode.membership, world.clock.now()), {
    value: { roles: ['supernode'] },
  });
});

t.test('a node that takes the name, the region and the addresses of another one takes nothing over', async (t) => {
  const world = await baseWorld();
  const honest = await world.enrolAndConnect('eu', { addresses: [{ host: 'a.example.org', port: 443 as Port }] });
  const watcher = await world.enrolAndConnect('us');
  const blocks = honest.welcome?.addressPlan?.blocksIpv4 ?? [];
  // Everything that may be chosen is the same; the key cannot be.
  const mallory = await world.enrol('supernode', 'eu');
  const same = { addresses: [{ host: 'a.example.org', port: 443 as Port }], relayIps: ['203.0.113.9' as IpAddress] };
  const posing = await world.connect(mallory, { ...same, id: honest.id });
  t.match(posing.refusal(), { code: 'bad-message', message: /own id/ });
  const other = { ...mallory, region: 'us' as Region };
  t.match((await world.connect(other, same)).refusal(), { code: 'wrong-region' });
  const borrowed = await world.connect(mallory, same, honest.node.enrolled.membership);
  t.ok(borrowed.refusal(), 'nor with the other one’s membership');
  t.equal(honest.refusal(), undefined, 'whose stream stays');

  const beside = await world.connect(mallory, same);
  t.ok(beside.welcome, 'as itself it is as good as anybody');
  const wasGiven = beside.welcome?.addressPlan?.blocksIpv4 ?? [];
  t.ok(wasGiven.length > 0 && blocks.length > 0);
  t.same(
    wasGiven.filter((block) => blocks.includes(block)),
    [],
    'with other inner addresses',
  );
  t.equal(honest.refusal(), undefined);
  await world.clock.advance(1_000);
  t.ok(watcher.directory()?.includes(honest.id), 'and both are listed');
  t.ok(watcher.directory()?.includes(mallory.identity.id));
});

t.test('a node that changes what it is called stays who it is, and loses and gains nothing', async (t) => {
  const world = await baseWorld();
  const victim = await world.enrol('supernode', 'eu');
  const node = await world.enrol('supernode', 'us');
  const before = await world.store.directory.member(victim.identity.id);
  // Enrolled anew, with a token of the same note, region and pool as the other one's.
  const { token } = await world.tokenText('supernode', { region: 'eu' });
  const renamed = await world.register(world.registration(node.identity, token));
  t.match(world.statements.checkMembership(renamed.baseKey, renamed.membership, world.clock.now()), {
    value: { peer: node.identity.id, region: 'eu' },
  });
  t.match(readFake(renamed.certificate), { subject: node.identity.id });
  t.same(await world.store.directory.member(victim.identity.id), before);
  // Who is shut out under one name is shut out under all, and nobody else with him.
  await world.store.directory.revoke({ peer: node.identity.id, kind: 'supernode', at: instantOf(1), reason: '' });
  await world.restart();
  await t.rejects(world.renew(world.renewal(node.identity)), { code: 'revoked' });
  const again = await world.tokenText('exit', { region: 'asia' });
  await t.rejects(world.register(world.registration(node.identity, again.token)), { code: 'revoked' });
  t.ok(await world.renew(world.renewal(victim.identity)));
});

t.test('every signature says what kind of statement it is for', async (t) => {
  const world = await baseWorld();
  const inputs: string[] = [];
  const identity = world.identity();
  const spy = {
    ...identity,
    sign: (input: Uint8Array) => {
      inputs.push(Buffer.from(input).toString('latin1').split('\0')[0] ?? '');
      return identity.sign(input);
    },
  };
  const { statements, random } = world;
  const now = world.clock.now();
  const at = { notBefore: instantOf(0), notAfter: now, epoch: 1 };
  const region = 'eu' as Region;
  statements.signMembership(spy, { peer: identity.id, roles: ['exit'], region, pool: '', ...at });
  statements.signRevocations(spy, { epoch: 1, issuedAt: now, count: 0, digest: new Uint8Array(32) });
  const key = world.crypto.wireGuardKeyPair().publicKey;
  const inner = { ipv4: '10.0.0.2', ipv6: 'fd00::2', gatewayIpv4: '10.0.0.1', gatewayIpv6: 'fd00::1' };
  statements.signOffer(spy, {
    session: newSessionId(random),
    clientKey: key,
    exitKey: key,
    inner: inner as never,
    kemCiphertext: new Uint8Array(0),
    kemKeyHash: new Uint8Array(0),
    expires: now,
    ipv6: true,
  });
  const { token } = await world.tokenText('exit');
  world.registration(spy, token);
  world.renewal(spy);
  t.equal(inputs.length, 5);
  t.equal(new Set(inputs).size, inputs.length, inputs.join(' '));
  for (const tag of inputs) t.match(tag, /^vpnd\/[a-z]+\/v\d+$/);
});
