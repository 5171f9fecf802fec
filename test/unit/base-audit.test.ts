import { create } from '@bufbuild/protobuf';
import t from 'tap';
import { verifyChain } from '../../src/core/audit-chain.js';
import { RevokeMemberRequestSchema, RevokeTokenRequestSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import { toBase32, toBase64, toHex } from '../../src/model/bytes.js';
import { VpndError } from '../../src/model/errors.js';
import { keyOf } from '../../src/model/ids.js';
import { hours } from '../../src/model/time.js';
import { entriesOf } from '../../src/obs/audit.js';
import { type BaseWorld, baseWorld } from '../support/base-world.js';

const FULL = new VpndError('disk-full', 'the disk is full; free some space', { retryable: true });

const recorded = (world: BaseWorld) =>
  [...entriesOf(world.store.audit)].map(({ by, code, on, detail }) => ({ by, code, on, detail: JSON.parse(detail) }));
const codes = (world: BaseWorld) => recorded(world).map(({ code }) => code);

t.test('an enrolment, from the token to the renewal, in the order it happened', async (t) => {
  const world = await baseWorld();
  const { token, id } = await world.tokenText('supernode', { region: 'eu', uses: 2, note: 'for the rack' });
  const node = world.identity();
  await world.register(world.registration(node, token));
  await world.renew(world.renewal(node));
  await world.clock.advance(0);
  const on = `supernode:${node.id}`;
  const peer = `peer:${node.id}`;
  t.match(recorded(world), [
    { code: 'certificate-issued', by: 'daemon', on: 'base', detail: { hours: 24 } },
    {
      code: 'token-made',
      by: 'operator',
      on: `token:${id}`,
      detail: { role: 'supernode', region: 'eu', uses: 2, note: 'for the rack', expires: /^2026-/ },
    },
    { code: 'token-spent', by: peer, on: `token:${id}` },
    { code: 'enrolled', by: peer, on: peer, detail: { token: id } },
    {
      code: 'membership-issued',
      by: 'daemon',
      on: peer,
      detail: { roles: 'supernode', region: 'eu', until: /^2026-/ },
    },
    { code: 'certificate-issued', by: 'daemon', on },
    { code: 'membership-renewed', by: peer, on: peer },
  ]);
  const text = JSON.stringify(recorded(world));
  for (const form of [toHex, toBase64, toBase32]) t.notMatch(text, form(token.secret).slice(0, 20));
  const { audit } = world.store;
  const found = { entries: entriesOf(audit), head: audit.head(), anchor: undefined, checkpoints: audit.checkpoints() };
  t.equal(verifyChain(found, { keys: [keyOf(world.keys.identity.id)], crypto: world.crypto }).fault, undefined);
});

t.test('who is refused, with what for; strangers cannot fill the disk with it', async (t) => {
  const world = await baseWorld();
  const { token } = await world.tokenText('exit');
  const node = world.identity();
  await t.rejects(world.register(world.registration(node, { ...token, secret: new Uint8Array(32) })), {
    code: 'bad-token',
  });
  await t.rejects(world.register(world.registration(node, token, { role: 'client' })), { code: 'wrong-role' });
  await world.clock.advance(0);
  t.match(recorded(world).slice(-2), [
    {
      code: 'enrolment-refused',
      by: 'stranger',
      on: `peer:${node.id}`,
      detail: { refused: 'bad-token', role: 'exit' },
    },
    { code: 'enrolment-refused', by: 'stranger', on: `peer:${node.id}`, detail: { refused: 'wrong-role' } },
  ]);
  for (let n = 0; n < 500; n++) {
    const remote = `203.0.113.${n % 250}` as never;
    await t.rejects(world.register(world.registration(node, { ...token, secret: new Uint8Array(32) }), { remote }));
  }
  await world.clock.advance(hours(1));
  t.ok(codes(world).filter((code) => code === 'enrolment-refused').length < 100);
  await t.rejects(world.register(world.registration(node, token, { role: 'client' })));
  await world.clock.advance(0);
  t.match(recorded(world).at(-1)?.detail, { unwritten_before: /^4\d\d$/ }, 'how many were left out is said');
  t.notMatch(JSON.stringify(recorded(world)), '203.0.113', 'and not where they came from');
});

t.test('revocation of tokens and members', async (t) => {
  const world = await baseWorld();
  const { id } = await world.tokenText('exit');
  await world.local.revokeToken?.(create(RevokeTokenRequestSchema, { tokenId: id }));
  await t.rejects(async () => world.local.revokeToken?.(create(RevokeTokenRequestSchema, { tokenId: 'ffffffff' })), {
    code: 'not-found',
  });
  const node = await world.enrol('exit');
  const peer = node.identity.id;
  await world.local.revokeMember?.(create(RevokeMemberRequestSchema, { peer, reason: 'lost' }));
  t.match(
    recorded(world).filter(({ code }) => code.endsWith('revoked')),
    [
      { code: 'token-revoked', on: `token:${id}` },
      { code: 'peer-revoked', on: `peer:${peer}`, by: 'operator' },
    ],
  );
});

t.test('what cannot be recorded is not done, and what runs goes on', async (t) => {
  const world = await baseWorld();
  const member = await world.enrol('exit');
  const { token, id } = await world.tokenText('exit', { uses: 5 });
  const { audit } = world.store;
  const { append } = audit;
  // The rest of the disk has room: nothing but the audit log stands in the way.
  Object.assign(audit, {
    append: () => {
      throw FULL;
    },
  });
  const refused = { code: 'disk-full', message: /^not done, since the audit log cannot record it/ };
  await t.rejects(world.tokenText('client'), refused);
  t.equal((await world.local.listTokens?.())?.tokens?.length, 2, 'no token was made');
  await t.rejects(async () => world.local.revokeToken?.(create(RevokeTokenRequestSchema, { tokenId: id })), refused);
  const request = world.registration(world.identity(), token);
  await t.rejects(world.register(request), refused, 'nobody gets a membership');
  const revoke = create(RevokeMemberRequestSchema, { peer: member.identity.id });
  await t.rejects(async () => world.local.revokeMember?.(revoke), refused);
  t.ok((await world.renew(world.renewal(member.identity))).membership, 'a renewal goes on');
  const status = await world.local.status();
  t.ok(status.problems?.some((line) => /audit log cannot be written.*disk is full/.test(line)));

  Object.assign(audit, { append });
  t.ok((await world.register(request)).membership, 'the same node is let in once there is room');
  await world.clock.advance(60_000);
  t.ok(codes(world).includes('membership-renewed'), 'and what went on has been written down');
  t.notOk((await world.local.status()).problems?.some((line) => /audit/.test(line)));
});
