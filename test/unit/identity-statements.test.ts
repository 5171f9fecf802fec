import { create, toBinary } from '@bufbuild/protobuf';
import t from 'tap';
import { MembershipSchema, Role } from '../../src/gen/vpnd/v1/types_pb.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements } from '../../src/identity/statements.js';
import type { IpAddress } from '../../src/model/address.js';
import { signingInput } from '../../src/model/bytes.js';
import { keyOf, sessionIdOf } from '../../src/model/ids.js';
import type { WireGuardPrivateKey } from '../../src/model/keys.js';
import type { Membership, Signed } from '../../src/model/membership.js';
import type { Offer } from '../../src/model/offer.js';
import type { Region } from '../../src/model/role.js';
import { hours, instantOf, minutes, ms, plus } from '../../src/model/time.js';

const { crypto, random } = await openSodium();
const { signMembership, checkMembership, signOffer, checkOffer } = statements(crypto);
const base = crypto.newIdentity().identity;
const node = crypto.newIdentity().identity;
const now = instantOf(1_800_000_000_000);
const exact = ms(0);

const membership: Membership = {
  peer: node.id,
  roles: ['exit', 'client'],
  region: 'eu' as Region,
  pool: 'home',
  notBefore: now,
  notAfter: plus(now, hours(24)),
  epoch: 7,
};
const session = sessionIdOf(random.bytes(16));
if (!session.ok) throw new Error('session id');
const offer: Offer = {
  session: session.value,
  clientKey: crypto.wireGuardKeyPair().publicKey,
  exitKey: crypto.wireGuardKeyPair().publicKey,
  inner: {
    ipv4: '10.200.4.2' as IpAddress,
    ipv6: 'fd00::2' as IpAddress,
    gatewayIpv4: '10.200.0.1' as IpAddress,
    gatewayIpv6: 'fd00::1' as IpAddress,
  },
  kemCiphertext: random.bytes(1088),
  kemKeyHash: random.bytes(32),
  expires: plus(now, minutes(2)),
  ipv6: true,
};

/** Every statement that differs from this one in a single bit. */
function* flipped(signed: Signed): Generator<Signed> {
  for (const part of ['body', 'signature'] as const)
    for (let bit = 0; bit < signed[part].length * 8; bit++) {
      const bytes = signed[part].slice();
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      yield { ...signed, [part]: bytes };
    }
}

t.test('a membership says what was signed, to whoever knows the key of base', async (t) => {
  t.strictSame(checkMembership(keyOf(base.id), signMembership(base, membership), now), { ok: true, value: membership });
});

t.test('a membership with any one bit flipped is refused', async (t) => {
  let tried = 0;
  for (const forged of flipped(signMembership(base, membership))) {
    const outcome = checkMembership(keyOf(base.id), forged, now);
    if (outcome.ok || outcome.error.code !== 'bad-membership') t.fail(`bit ${tried} was not noticed`);
    tried++;
  }
  t.ok(tried > 1000, `${tried} forgeries`);
});

t.test('a membership is refused to a stranger of base, outside its time, and cut short', async (t) => {
  const signed = signMembership(base, membership);
  const code = (outcome: ReturnType<typeof checkMembership>) => (outcome.ok ? 'ok' : outcome.error.code);
  t.equal(code(checkMembership(keyOf(node.id), signed, now)), 'bad-membership');
  t.equal(code(checkMembership(keyOf(base.id), signMembership(node, membership), now)), 'bad-membership');
  t.equal(code(checkMembership(keyOf(base.id), signed, plus(now, hours(24)), exact)), 'membership-expired');
  t.equal(code(checkMembership(keyOf(base.id), signed, plus(now, ms(hours(24) - 1)), exact)), 'ok');
  t.equal(code(checkMembership(keyOf(base.id), signed, plus(now, hours(24)))), 'ok', 'clocks may be a little off');
  t.equal(code(checkMembership(keyOf(base.id), signed, instantOf(now - 1), exact)), 'bad-membership');
  t.equal(code(checkMembership(keyOf(base.id), signed, instantOf(now - hours(1)))), 'bad-membership');
  t.equal(code(checkMembership(keyOf(base.id), { ...signed, body: new Uint8Array() }, now)), 'bad-membership');
  t.equal(code(checkMembership(new Uint8Array(3), signed, now)), 'bad-membership');
  t.equal(code(checkMembership(new Uint8Array(32), signed, now)), 'bad-membership');
});

t.test('what base would never sign is refused although its signature is right', async (t) => {
  const fields = {
    peerKey: keyOf(node.id),
    roles: [Role.EXIT],
    region: 'eu',
    pool: '',
    notBeforeMs: BigInt(now),
    notAfterMs: BigInt(now + 1000),
    epoch: 0n,
  };
  const check = (change: object) => {
    const body = toBinary(MembershipSchema, create(MembershipSchema, { ...fields, ...change }));
    const signature = base.sign(signingInput('vpnd/membership/v1', [body]));
    const outcome = checkMembership(keyOf(base.id), { body, signature }, now);
    return outcome.ok ? 'ok' : outcome.error.code;
  };
  t.equal(check({}), 'ok');
  const wrong: Record<string, object> = {
    'a short key': { peerKey: keyOf(node.id).slice(1) },
    'a long key': { peerKey: new Uint8Array(33) },
    'no role': { roles: [] },
    'the role base': { roles: [Role.BASE] },
    'an unknown role': { roles: [Role.EXIT, 17 as Role] },
    'one role twice': { roles: [Role.EXIT, Role.EXIT] },
    'no region': { region: '' },
    'a region in capitals': { region: 'EU' },
    'a pool with a line break': { pool: 'a\nb' },
    'an end before the beginning': { notAfterMs: BigInt(now) },
    'a negative beginning': { notBeforeMs: -1n },
    'an end beyond counting': { notAfterMs: 2n ** 60n },
    'an epoch beyond counting': { epoch: 2n ** 60n },
  };
  for (const [what, change] of Object.entries(wrong)) t.equal(check(change), 'bad-membership', what);
});

t.test('an offer says what the exit signed, with any bit flipped it says nothing', async (t) => {
  for (const one of [offer, { ...offer, kemCiphertext: new Uint8Array(), kemKeyHash: new Uint8Array(), ipv6: false }])
    t.strictSame(checkOffer(node.id, signOffer(node, one), now), { ok: true, value: one });
  let noticed = 0;
  const small = signOffer(node, { ...offer, kemCiphertext: new Uint8Array(), kemKeyHash: new Uint8Array() });
  let tried = 0;
  for (const forged of flipped(small)) {
    tried++;
    const outcome = checkOffer(node.id, forged, now);
    if (!outcome.ok && outcome.error.code === 'bad-offer') noticed++;
  }
  t.equal(noticed, tried);
});

t.test('an offer is refused of another exit, after its end, and with fields of wrong length or family', async (t) => {
  const code = (one: Offer, exit = node, at = now) => {
    const outcome = checkOffer(node.id, signOffer(exit, one), at);
    return outcome.ok ? 'ok' : outcome.error.code;
  };
  t.equal(code(offer, base), 'bad-offer');
  t.equal(code(offer, node, plus(now, minutes(20))), 'bad-offer');
  t.equal(code({ ...offer, kemCiphertext: random.bytes(1087) }), 'bad-offer');
  t.equal(code({ ...offer, kemKeyHash: new Uint8Array() }), 'bad-offer', 'a ciphertext for nobody knows which key');
  t.equal(code({ ...offer, kemKeyHash: random.bytes(31) }), 'bad-offer');
  t.equal(code({ ...offer, kemCiphertext: new Uint8Array() }), 'bad-offer', 'a key without a ciphertext');
  t.equal(code({ ...offer, inner: { ...offer.inner, ipv4: 'fd00::9' as IpAddress } }), 'bad-offer');
  t.equal(code({ ...offer, inner: { ...offer.inner, ipv6: 'fd00:0::9' as IpAddress } }), 'bad-offer', 'not canonical');
});

t.test('a signature of one kind of statement is none of the other', async (t) => {
  const signed = signMembership(node, membership);
  t.notOk(checkOffer(node.id, signed, now).ok);
  t.notOk(checkMembership(keyOf(node.id), signOffer(node, offer), now).ok);
});

t.test('chance has no pattern that a person would see, and stays below one', async (t) => {
  const drawn = Array.from({ length: 2000 }, () => random.fraction());
  t.ok(drawn.every((x) => x >= 0 && x < 1));
  const mean = drawn.reduce((a, b) => a + b) / drawn.length;
  t.ok(mean > 0.4 && mean < 0.6, `mean ${mean}`);
  t.equal(random.bytes(0).length, 0);
  t.equal(random.bytes(33).length, 33);
});

t.test('a stored WireGuard key has the public half it always had', async (t) => {
  const pair = crypto.wireGuardKeyPair();
  t.strictSame(crypto.wireGuardFromPrivate(pair.privateKey), pair);
});

t.test(
  'a WireGuard key is written the way a device shows it, so that comparing the two finds no difference',
  async (t) => {
    const other = Buffer.alloc(32, 0xff);
    const pair = crypto.wireGuardFromPrivate(other.toString('base64') as WireGuardPrivateKey);
    const shown = Buffer.from(other);
    shown[0] = 0xf8;
    shown[31] = 0x7f;
    t.equal(pair.privateKey, shown.toString('base64'), 'as `wg pubkey` and `wg show` clamp it');
    t.strictSame(crypto.wireGuardFromPrivate(pair.privateKey), pair);
  },
);

t.test('verification answers no to whatever is malformed', async (t) => {
  const input = new Uint8Array(8);
  const signature = node.sign(input);
  t.ok(crypto.verify(keyOf(node.id), input, signature));
  t.notOk(crypto.verify(new Uint8Array(31), input, signature));
  t.notOk(crypto.verify(new Uint8Array(32), input, signature));
  t.notOk(crypto.verify(keyOf(node.id), input, signature.slice(1)));
  t.notOk(crypto.verify(keyOf(node.id), input, new Uint8Array(64).fill(255)));
});
