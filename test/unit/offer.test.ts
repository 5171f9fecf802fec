import t from 'tap';
import type { KemKeyPair } from '../../src/core/ports/crypto.js';
import { presharedKeyOf } from '../../src/core/preshared.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements as openStatements } from '../../src/identity/statements.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import { keyOf, type SessionId } from '../../src/model/ids.js';
import type { Membership } from '../../src/model/membership.js';
import type { Offer } from '../../src/model/offer.js';
import type { Country, PostQuantum, Region } from '../../src/model/role.js';
import type { ExitWish, SessionGrant } from '../../src/model/session.js';
import { days, hours, instantOf, minutes, plus } from '../../src/model/time.js';
import { checkGrant } from '../../src/roles/client/held-session.js';

const { crypto } = await openSodium();
const statements = openStatements(crypto);
const NOW = instantOf(Date.UTC(2026, 0, 1));
const identity = (n: number) => crypto.identityFromSeed(new Uint8Array(32).fill(n));
const [base, exit, a, b, stranger] = [1, 2, 3, 4, 5].map(identity) as [
  ReturnType<typeof identity>,
  ReturnType<typeof identity>,
  ReturnType<typeof identity>,
  ReturnType<typeof identity>,
  ReturnType<typeof identity>,
];
const keys = crypto.wireGuardKeyPair();
const exitKeys = crypto.wireGuardKeyPair();
const SESSION = 'ab'.repeat(16) as SessionId;

const offerOf = (change: Partial<Offer> = {}): Offer => ({
  session: SESSION,
  clientKey: keys.publicKey,
  exitKey: exitKeys.publicKey,
  inner: {
    ipv4: '10.200.4.1' as IpAddress,
    ipv6: 'fd76:706e:64:1::1' as IpAddress,
    gatewayIpv4: '10.200.0.1' as IpAddress,
    gatewayIpv6: 'fd76:706e:64::1' as IpAddress,
  },
  kemCiphertext: new Uint8Array(0),
  kemKeyHash: new Uint8Array(0),
  expires: plus(NOW, minutes(10)),
  ipv6: true,
  ...change,
});
const memberOf = (change: Partial<Membership> = {}): Membership => ({
  peer: exit.id,
  roles: ['exit'],
  region: 'eu' as Region,
  pool: '',
  notBefore: NOW,
  notAfter: plus(NOW, days(30)),
  epoch: 0,
  ...change,
});

const WISH: ExitWish = {
  region: undefined,
  country: undefined,
  pool: undefined,
  exit: undefined,
  minMbps: undefined,
  maxLatency: undefined,
  privacy: 'auto',
};

interface Case {
  readonly offer?: Partial<Offer>;
  readonly signer?: typeof exit;
  readonly member?: Partial<Membership>;
  readonly issuer?: typeof exit;
  readonly grant?: Partial<SessionGrant>;
  readonly wish?: Partial<ExitWish>;
  readonly at?: typeof NOW;
  readonly pq?: PostQuantum;
  readonly kem?: KemKeyPair;
}

function check({ offer, signer = exit, member, issuer = base, grant, wish, at = NOW, pq = 'prefer', kem }: Case) {
  const granted: SessionGrant = {
    session: SESSION,
    generation: 1,
    lease: hours(1),
    endpoint: { ip: '198.51.100.10' as IpAddress, port: 40_000 as Port },
    keepalive: 25,
    path: 'relay2',
    via: [a.id, b.id],
    offer: statements.signOffer(signer, offerOf(offer)),
    exitMembership: statements.signMembership(issuer, memberOf(member)),
    exitRegion: 'eu' as Region,
    exitCountry: 'DE' as Country,
    reasons: [],
    ...grant,
  };
  const expected = { keys, wish: { ...WISH, ...wish }, baseKey: keyOf(base.id), supervisor: a.id, pq, kem };
  return checkGrant(granted, expected, { statements, crypto }, at);
}

t.test('a grant is taken as its exit signed it', async (t) => {
  const held = check({ wish: { region: 'eu' as Region, exit: exit.id, privacy: 'private' } });
  t.match(held, {
    session: SESSION,
    exit: exit.id,
    exitKey: exitKeys.publicKey,
    inner: offerOf().inner,
    ipv6: true,
    supervisor: a.id,
    leaseUntil: plus(NOW, hours(1)),
  });
  t.equal(check({ grant: { exitRegion: 'us' as Region } }).exitRegion, 'eu', 'the region is base’s word');
  t.ok(check({ member: { roles: ['supernode', 'exit'] } }), 'a supernode that base lets be an exit');
  t.ok(check({ at: plus(NOW, minutes(12)) }), 'the exit’s clock may be a few minutes off');
});

t.test('everything else is refused', async (t) => {
  const cases: readonly [string, Case, string][] = [
    ['signed by somebody else', { signer: stranger }, 'bad-offer'],
    ['for another session', { offer: { session: '00'.repeat(16) as SessionId } }, 'bad-offer'],
    ['granted under another session', { grant: { session: '00'.repeat(16) as SessionId } }, 'bad-offer'],
    ['for another client key', { offer: { clientKey: exitKeys.publicKey } }, 'bad-offer'],
    ['too old', { at: plus(NOW, minutes(16)) }, 'bad-offer'],
    ['from another exit than asked for', { wish: { exit: stranger.id } }, 'bad-offer'],
    ['from another region', { wish: { region: 'us' as Region } }, 'bad-offer'],
    ['from another pool', { wish: { pool: 'fast' } }, 'bad-offer'],
    ['by a client', { member: { roles: ['client'] } }, 'bad-offer'],
    ['by a supernode that may not be an exit', { member: { roles: ['supernode'] } }, 'bad-offer'],
    ['by somebody with the exit’s membership', { signer: stranger, member: { peer: exit.id } }, 'bad-offer'],
    ['with a membership of another base', { issuer: stranger }, 'bad-membership'],
    [
      'with a membership that ended',
      { member: { notAfter: plus(NOW, minutes(1)) }, at: plus(NOW, days(1)) },
      'membership-expired',
    ],
    ['with a membership of next week', { member: { notBefore: plus(NOW, days(7)) } }, 'bad-membership'],
    ['private and direct', { wish: { privacy: 'private' }, grant: { path: 'direct', via: [] } }, 'bad-offer'],
    ['private over one', { wish: { privacy: 'private' }, grant: { path: 'relay', via: [a.id] } }, 'bad-offer'],
    ['private over one twice', { wish: { privacy: 'private' }, grant: { via: [a.id, a.id] } }, 'bad-offer'],
    ['private over strangers', { wish: { privacy: 'private' }, grant: { via: [b.id, stranger.id] } }, 'bad-offer'],
    [
      'private, and the client’s supernode is the exit',
      { wish: { privacy: 'private' }, signer: a, member: { peer: a.id, roles: ['supernode', 'exit'] } },
      'bad-offer',
    ],
    [
      'private, and the other supernode is the exit',
      { wish: { privacy: 'private' }, signer: b, member: { peer: b.id, roles: ['supernode', 'exit'] } },
      'bad-offer',
    ],
  ];
  for (const [what, one, code] of cases) t.throws(() => check(one), { code }, what);
});

t.test('a single changed byte anywhere in a statement is noticed', async (t) => {
  const offer = statements.signOffer(exit, offerOf());
  const membership = statements.signMembership(base, memberOf());
  const flipped = (bytes: Uint8Array, i: number) => bytes.map((byte, at) => (at === i ? byte ^ 1 : byte));
  let taken = 0;
  const tries = (grant: Partial<SessionGrant>) => {
    try {
      check({ grant });
      taken++;
    } catch {
      // As it should be.
    }
  };
  for (const i of offer.body.keys()) tries({ offer: { ...offer, body: flipped(offer.body, i) } });
  for (const i of offer.signature.keys()) tries({ offer: { ...offer, signature: flipped(offer.signature, i) } });
  for (const i of membership.body.keys())
    tries({ exitMembership: { ...membership, body: flipped(membership.body, i) } });
  for (const i of membership.signature.keys())
    tries({ exitMembership: { ...membership, signature: flipped(membership.signature, i) } });
  t.equal(taken, 0);
  tries({ offer, exitMembership: membership });
  t.equal(taken, 1, 'and the unchanged ones are taken');
});

// ——— post-quantum keys

const kem = crypto.kemKeyPair();
const exchanged = (for_ = kem) => {
  const made = crypto.kemEncapsulate(for_.publicKey);
  if (made === undefined) throw new Error('a fresh key was refused');
  const offer = { kemCiphertext: made.ciphertext, kemKeyHash: crypto.sha256(for_.publicKey) };
  const names = { session: SESSION, clientKey: keys.publicKey, exitKey: exitKeys.publicKey };
  const of = { ...names, kemKey: for_.publicKey, ciphertext: made.ciphertext };
  return { offer, key: presharedKeyOf(crypto, made.sharedSecret, of) };
};

t.test('client and exit come to the same pre-shared key', async (t) => {
  const { offer, key } = exchanged();
  t.same(check({ offer, kem, pq: 'require' }).preshared, { key, since: NOW });
  t.same(check({ offer, kem, pq: 'prefer' }).preshared, { key, since: NOW });
  t.equal(check({ pq: 'prefer', kem }).preshared, undefined, 'none where the exit takes no part');
  t.equal(check({ pq: 'off' }).preshared, undefined);
});

t.test('an offer without a post-quantum key, or with one made for another', async (t) => {
  const refused = (one: Case, message: RegExp) => t.throws(() => check(one), { code: 'bad-offer', message });
  refused({ kem, pq: 'require' }, /no post-quantum key/);
  refused({ offer: exchanged(crypto.kemKeyPair()).offer, kem }, /another ML-KEM key/);
  refused({ offer: { ...exchanged().offer, kemKeyHash: new Uint8Array(32) }, kem }, /another ML-KEM key/);
  refused({ offer: exchanged().offer, pq: 'off' }, /nobody asked for/);
  const swapped = { ...exchanged().offer, kemCiphertext: exchanged(crypto.kemKeyPair()).offer.kemCiphertext };
  const { preshared } = check({ offer: swapped, kem });
  t.ok(
    preshared !== undefined && preshared.key !== exchanged().key,
    'signed by the exit itself, it gives a key nobody has',
  );
});
