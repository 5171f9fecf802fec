import t, { type Test } from 'tap';
import type { IpAddress } from '../../src/model/address.js';
import type { Bytes } from '../../src/model/bytes.js';
import type { SessionId } from '../../src/model/ids.js';
import type { Membership, Signed } from '../../src/model/membership.js';
import type { Offer } from '../../src/model/offer.js';
import type { Region } from '../../src/model/role.js';
import type { SessionGrant } from '../../src/model/session.js';
import { days, minutes, plus, seconds } from '../../src/model/time.js';
import { loadEnrolment } from '../../src/roles/common/enrol.js';
import { type Machine, type OverlayWorld, overlayWorld } from '../support/overlay-world.js';

type Swap = (world: OverlayWorld, offer: Offer) => Offer;

const FOREIGN = '0f'.repeat(16) as SessionId;

/** A ciphertext of somebody else's, who knows the secret in it, under the name of the client's key. */
function exchangeFor(world: OverlayWorld, kemKeyHash: Bytes): Pick<Offer, 'kemCiphertext' | 'kemKeyHash'> {
  const made = world.crypto.kemEncapsulate(world.crypto.kemKeyPair().publicKey);
  return { kemCiphertext: made?.ciphertext ?? new Uint8Array(0), kemKeyHash };
}

/** What somebody on the way may wish an offer said. */
const SWAPS: Readonly<Record<string, Swap>> = {
  'the exit’s key': (world, offer) => ({ ...offer, exitKey: world.node('a').wireguard.publicKey }),
  'the client’s key': (world, offer) => ({ ...offer, clientKey: world.node('a').wireguard.publicKey }),
  'the inner address': (_, offer) => ({ ...offer, inner: { ...offer.inner, ipv4: '10.200.77.7' as IpAddress } }),
  'the session': (_, offer) => ({ ...offer, session: FOREIGN }),
  'the ML-KEM ciphertext': (world, offer) => ({ ...offer, ...exchangeFor(world, offer.kemKeyHash) }),
  'the ML-KEM key of the offer': (_, offer) => ({ ...offer, kemKeyHash: new Uint8Array(32) }),
  'the ML-KEM exchange for nothing': (_, offer) => ({
    ...offer,
    kemCiphertext: new Uint8Array(0),
    kemKeyHash: new Uint8Array(0),
  }),
  'the end of the offer': (_, offer) => ({ ...offer, expires: plus(offer.expires, days(3650)) }),
};

const readOffer = (world: OverlayWorld, exit: Machine, signed: Signed): Offer => {
  const read = world.statements.checkOffer(exit.id, signed, world.clock.now());
  if (!read.ok) throw read.error;
  return read.value;
};

/** The supernode of the client changes grants on their way. */
function grantsOf(world: OverlayWorld, change: (grant: SessionGrant) => SessionGrant): void {
  world.node('a').tampering.sends = (message) =>
    message.kind === 'exit-response' && message.result.ok
      ? { ...message, result: { ok: true, value: change(message.result.value) } }
      : message;
}

/** The client refuses, says why, had no tunnel for a moment, and the session is ended everywhere. */
async function refuses(
  t: Test,
  world: OverlayWorld,
  expected: object = { code: 'bad-offer' },
  wish: { region?: string; exit?: string } = {},
): Promise<void> {
  let peers = 0;
  const client = world.node('c0');
  client.kernelFault = (change) => {
    if (change !== 'reconcile') peers += (change.put ?? []).filter((unit) => unit.kind === 'peer').length;
    return undefined;
  };
  t.match(await world.refusal('c0', wish), expected);
  t.equal(peers, 0, 'no tunnel to anybody');
  t.equal(client.print(), '');
  await world.advance(seconds(5));
  t.same(world.residue(), [], 'it told: nothing is kept for it');
}

for (const [what, swap] of Object.entries(SWAPS)) {
  t.test(`the client’s supernode swaps ${what}`, async (t) => {
    const world = await overlayWorld();
    const [exit, a] = [world.node('x0'), world.node('a')];
    grantsOf(world, (grant) => {
      const offer = swap(world, readOffer(world, exit, grant.offer));
      return { ...grant, offer: world.statements.signOffer(a.identity, offer) };
    });
    await refuses(t, world);
  });

  t.test(`the exit’s supernode swaps ${what}`, async (t) => {
    const world = await overlayWorld();
    const [exit, b] = [world.node('x0'), world.node('b')];
    b.tampering.answers = (response) => {
      const offer = swap(world, readOffer(world, exit, response.offer));
      return { ...response, offer: world.statements.signOffer(b.identity, offer) };
    };
    await refuses(t, world);
  });
}

t.test('a supernode asks the exit for a key of its own, to sit in the middle', async (t) => {
  const world = await overlayWorld();
  const own = world.node('a').wireguard.publicKey;
  world.node('a').tampering.asks = (request) => ({ ...request, clientKey: own });
  await refuses(t, world, { code: 'bad-offer', message: /told another key/ });
  world.node('a').tampering.asks = (request) => request;
  world.node('b').tampering.understands = (request) => ({ ...request, clientKey: own });
  await refuses(t, world, { code: 'bad-offer', message: /told another key/ });
});

t.test('both supernodes together cannot do it either', async (t) => {
  const world = await overlayWorld();
  const [a, b, exit] = [world.node('a'), world.node('b'), world.node('x0')];
  b.tampering.understands = (request) => ({ ...request, clientKey: a.wireguard.publicKey });
  grantsOf(world, (grant) => {
    const offer = readOffer(world, exit, grant.offer);
    return { ...grant, offer: world.statements.signOffer(b.identity, { ...offer, exitKey: b.wireguard.publicKey }) };
  });
  await refuses(t, world);
});

t.test('a supernode gives the exit an ML-KEM key of its own, to know the pre-shared key', async (t) => {
  const world = await overlayWorld();
  const [a, b] = [world.node('a'), world.node('b')];
  const own = world.crypto.kemKeyPair().publicKey;
  const another = { code: 'bad-offer', message: /another ML-KEM key/ };
  a.tampering.asks = (request) => ({ ...request, kemKey: own });
  await refuses(t, world, another);
  a.tampering.asks = (request) => request;
  b.tampering.understands = (request) => ({ ...request, kemKey: own });
  await refuses(t, world, another);

  // Both together: one swaps the key, the other the answer, for a ciphertext whose secret they know.
  grantsOf(world, (grant) => {
    const offer = readOffer(world, world.node('x0'), grant.offer);
    const sent = new Uint8Array(32).fill(1);
    return { ...grant, offer: world.statements.signOffer(b.identity, { ...offer, ...exchangeFor(world, sent) }) };
  });
  await refuses(t, world);
});

t.test('a supernode takes the ML-KEM key out, so that the tunnel has no post-quantum protection', async (t) => {
  const world = await overlayWorld();
  world.node('a').tampering.asks = (request) => ({ ...request, kemKey: new Uint8Array(0) });
  await refuses(t, world, { code: 'bad-offer', message: /no post-quantum key/ });
  world.node('a').tampering.asks = (request) => request;
  world.node('b').tampering.understands = (request) => ({ ...request, kemKey: new Uint8Array(0) });
  await refuses(t, world, { code: 'bad-offer', message: /no post-quantum key/ });
});

t.test('an exit says no to what is no ML-KEM key, and to nothing else', async (t) => {
  const world = await overlayWorld();
  world.node('a').tampering.asks = (request) => ({ ...request, kemKey: new Uint8Array(1184).fill(255) });
  await refuses(t, world, { code: 'exit-refused', message: /ML-KEM/ });
  world.node('a').tampering.asks = (request) => request;
  await world.up('c0');
  t.match(world.way('c0'), { ok: true });
});

t.test('an offer of an earlier session is worth nothing', async (t) => {
  const world = await overlayWorld();
  let old: SessionGrant | undefined;
  grantsOf(world, (grant) => {
    old ??= grant;
    return grant;
  });
  await world.up('c0');
  await world.down('c0');
  grantsOf(world, (grant) => ({ ...grant, offer: old?.offer ?? grant.offer }));
  await refuses(t, world, { code: 'bad-offer', message: /another session/ });
});

t.test('an offer under the session it names, which is not the one that was asked for', async (t) => {
  const world = await overlayWorld();
  grantsOf(world, (grant) => ({ ...grant, session: FOREIGN }));
  t.match(await world.refusal('c0'), { code: 'bad-offer', message: /another session/ });
  t.equal(world.node('c0').print(), '');
});

t.test('somebody else poses as the exit', async (t) => {
  const world = await overlayWorld({
    exits: [{ region: 'eu' }, { region: 'us' }],
    clients: [{ region: 'us' }, { region: 'us' }],
  });
  const exit = world.node('x0');
  const strangeBase = world.crypto.identityFromSeed(new Uint8Array(32).fill(3));
  const memberOf = (change: Partial<Membership>): Membership => ({
    peer: exit.id,
    roles: ['exit'],
    region: 'eu' as Region,
    pool: '',
    notBefore: world.clock.now(),
    notAfter: plus(world.clock.now(), days(1)),
    epoch: 0,
    ...change,
  });
  const signedByBase = (change: Partial<Membership>) =>
    world.statements.signMembership(world.base.identity, memberOf(change));
  const posing = (by: Machine, membership: Signed) =>
    grantsOf(world, (grant) => ({
      ...grant,
      offer: world.statements.signOffer(by.identity, {
        ...readOffer(world, exit, grant.offer),
        exitKey: by.wireguard.publicKey,
      }),
      exitMembership: membership,
    }));

  posing(world.node('c1'), signedByBase({ peer: world.node('c1').id, roles: ['client'] }));
  await refuses(t, world, { code: 'bad-offer', message: /no exit/ }, { region: 'eu' });

  posing(world.node('x1'), signedByBase({ peer: world.node('x1').id, region: 'us' as Region }));
  await refuses(t, world, { code: 'bad-offer', message: /region us/ }, { region: 'eu' });
  await refuses(t, world, { code: 'bad-offer', message: /another exit/ }, { exit: exit.id });

  posing(exit, world.statements.signMembership(strangeBase, memberOf({})));
  await refuses(t, world, { code: 'bad-membership' }, { region: 'eu' });

  posing(
    exit,
    signedByBase({ notBefore: plus(world.clock.now(), days(-9)), notAfter: plus(world.clock.now(), days(-8)) }),
  );
  await refuses(t, world, { code: 'membership-expired' }, { region: 'eu' });
});

t.test('a supernode that may not be an exit poses as one, under its own membership', async (t) => {
  const world = await overlayWorld();
  const [a, b, exit] = [world.node('a'), world.node('b'), world.node('x0')];
  const posing = (by: Machine, offer: Signed) => {
    const exitMembership = loadEnrolment(by.store.facts)?.membership;
    if (exitMembership === undefined) throw new Error(`${by.name} is not enrolled`);
    const own = { ...readOffer(world, exit, offer), exitKey: by.wireguard.publicKey };
    return { offer: world.statements.signOffer(by.identity, own), exitMembership };
  };
  b.tampering.answers = (response) => ({ ...response, ...posing(b, response.offer) });
  await refuses(t, world, { code: 'bad-offer', message: /no exit/ });
  b.tampering.answers = (response) => response;
  grantsOf(world, (grant) => ({ ...grant, ...posing(a, grant.offer), path: 'direct', via: [] }));
  await refuses(t, world, { code: 'bad-offer', message: /no exit/ });
});

t.test('the client’s supernode, which may be an exit, poses as the exit of a private session', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us', privacy: 'private' }] });
  const a = world.node('a');
  grantsOf(world, (grant) => ({
    ...grant,
    offer: world.statements.signOffer(a.identity, {
      ...readOffer(world, world.node('x0'), grant.offer),
      exitKey: a.wireguard.publicKey,
    }),
    exitMembership: world.statements.signMembership(world.base.identity, {
      peer: a.id,
      roles: ['supernode', 'exit'],
      region: 'us' as Region,
      pool: '',
      notBefore: world.clock.now(),
      notAfter: plus(world.clock.now(), days(1)),
      epoch: 0,
    }),
  }));
  await refuses(t, world, { code: 'bad-offer', message: /both ends/ });
});

t.test('a supernode gives a client what another session has', async (t) => {
  const world = await overlayWorld({ clients: [{ region: 'us' }, { region: 'us' }] });
  await world.up('c0');
  await world.advance(seconds(45));
  const before = world.node('x0').kernel.units();
  const victim = world
    .node('x0')
    .kernel.units()
    .find((unit) => unit.kind === 'peer');
  if (victim?.kind !== 'peer') throw new Error('the exit has no peer');
  const ipv4 = victim.allowedIps[0]?.split('/')[0] as IpAddress;
  const steals = {
    'its address': { innerIpv4: ipv4 },
    'its key': { clientKey: victim.publicKey },
    'the gateway’s address': { innerIpv4: '10.200.0.1' as IpAddress },
    'an address of the exit’s own network': { innerIpv4: '192.168.1.1' as IpAddress },
  };
  for (const [what, theft] of Object.entries(steals)) {
    world.node('a').tampering.asks = (request) => ({ ...request, ...theft });
    t.match(await world.refusal('c1'), { code: 'exit-refused' }, what);
    t.same(world.node('x0').kernel.units(), before, 'the victim keeps it');
    t.match(world.way('c0'), { ok: true });
    await world.advance(seconds(5));
  }
});

t.test('only the supernode that opened a session ends it', async (t) => {
  const world = await overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap' }],
    exits: [{ region: 'eu' }],
  });
  await world.up('c0', { region: 'eu' });
  const { sessionId: session = '' } = (await world.session('c0')) ?? {};
  const [b, c, exit] = [world.node('b'), world.node('c'), world.node('x0')];
  const identity = c.store.facts.get<{ certificate: string; tlsKey: string; ca: string }>('enrolment');
  if (identity === undefined) throw new Error('c is not enrolled');
  const stranger = world.internet.host('192.0.2.200' as IpAddress);
  const close = (certificate: string | undefined) =>
    world.outcome(
      stranger.call(
        {
          address: { host: b.ip, port: 443 as never },
          expect: { kind: 'supernode', id: b.id },
          ca: identity.ca,
          ...(certificate === undefined ? {} : { identity: () => ({ certificate, privateKey: identity.tlsKey }) }),
        },
        'closeSession',
        { session: session as SessionId, generation: 99, reason: 'because' },
        { timeout: seconds(5) },
      ),
    );
  t.match(await close(identity.certificate), { code: 'forbidden' });
  t.match(await close(undefined), { code: 'forbidden' });
  t.match(world.way('c0'), { ok: true });

  // The exit goes to another supernode for a while; that one has no say in the session either.
  world.crash('b');
  await world.advance(minutes(1));
  const meanwhile = (await world.upstream('x0'))?.supervisorId;
  t.ok(meanwhile === c.id || meanwhile === world.node('a').id, 'the exit is at another supernode');
  t.equal(exit.sessionUnits().length, 1, 'it keeps the session, which its own supernode will come back for');
  await world.restart('b');
  await world.advance(minutes(2));
  t.equal((await world.upstream('x0'))?.supervisorId, b.id, 'and returns');
  t.match(world.way('c0'), { ok: true });
});
