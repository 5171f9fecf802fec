import t from 'tap';
import { CLOCK_TOLERANCE, enrolSigningInput, renewalSigningInput } from '../../src/core/auth.js';
import type { CertificateTools } from '../../src/core/ports/authority.js';
import type { Network } from '../../src/core/ports/network.js';
import type { FactStore } from '../../src/core/ports/store.js';
import { type HostPort, parseHostPort, parseIp, parsePort } from '../../src/model/address.js';
import { utf8 } from '../../src/model/bytes.js';
import { NO_LOAD, type SupernodeInfo } from '../../src/model/directory.js';
import { VpndError } from '../../src/model/errors.js';
import { keyOf, type PeerId } from '../../src/model/ids.js';
import type { JoinToken, RegisterPeerRequest, Renewal } from '../../src/model/messages.js';
import type { MemberRole, Region } from '../../src/model/role.js';
import { days, instantOf, minutes, plus } from '../../src/model/time.js';
import {
  caOf,
  enrol,
  loadEnrolment,
  notEnrolled,
  renewalQuestion,
  renewDirect,
  renewed,
  saveEnrolment,
  supernodeTargets,
} from '../../src/roles/common/enrol.js';
import { trustIn } from '../../src/roles/common/trust-anchors.js';
import { EU, streamWorld } from '../support/stream-world.js';

const hostPort = (text: string): HostPort => {
  const parsed = parseHostPort(text);
  if (!parsed.ok) throw new Error(text);
  return parsed.value;
};

/** base as a node enrolling with it sees it, with every answer open to change. */
function scene() {
  const world = streamWorld();
  const { clock, random, statements } = world;
  const caKeyHash = random.bytes(32);
  const asked: string[] = [];
  const registrations: RegisterPeerRequest[] = [];
  const renewals: Renewal[] = [];
  const down = new Set<string>();
  const answer = {
    baseKey: keyOf(world.base.id),
    signer: world.base,
    peer: undefined as PeerId | undefined,
    roles: undefined as readonly MemberRole[] | undefined,
    region: EU,
    serverTime: 0,
    certificate: 'CERTIFICATE',
    supernodes: [supernode(world.identity().id)] as readonly SupernodeInfo[],
    refusal: undefined as VpndError | undefined,
  };
  const membershipFor = (peer: PeerId, role: MemberRole) =>
    statements.signMembership(answer.signer, {
      peer: answer.peer ?? peer,
      roles: answer.roles ?? [role],
      region: answer.region,
      pool: '',
      notBefore: clock.now(),
      notAfter: plus(clock.now(), days(30)),
      epoch: 1,
    });
  const reach = (at: HostPort, what: string) => {
    asked.push(`${what} ${at.host}`);
    if (down.has(at.host)) throw new VpndError('unreachable', 'connection refused', { retryable: true });
    if (answer.refusal !== undefined) throw answer.refusal;
  };
  const answers = {
    registerPeer: (request: RegisterPeerRequest) => {
      registrations.push(request);
      return {
        membership: membershipFor(request.peer, request.role),
        baseKey: answer.baseKey,
        caCertificate: 'CA',
        certificate: request.csr.length > 0 ? answer.certificate : '',
        supernodes: answer.supernodes,
        serverTime: instantOf(clock.now() + answer.serverTime),
      };
    },
    renewMembership: (renewal: Renewal) => {
      renewals.push(renewal);
      return { membership: membershipFor(renewal.peer, 'exit'), certificate: renewal.csr.length > 0 ? 'NEWER' : '' };
    },
  };
  const network: Network = {
    fetchCa: async (address, hash) => {
      reach(address, 'ca');
      if (hash !== caKeyHash) throw new VpndError('wrong-ca', 'another CA');
      return 'CA';
    },
    call: async (target, method, request) => {
      reach(target.address, method);
      if (target.ca !== 'CA' || target.expect.kind !== 'base') throw new VpndError('wrong-ca', 'not pinned');
      const handle = answers[method as keyof typeof answers] as unknown as (request: unknown) => never;
      return handle(request);
    },
    dialControl: () => Promise.reject(new Error('not here')),
    serve: () => Promise.reject(new Error('not here')),
    close: async () => {},
  };
  const certificates: CertificateTools = {
    newRequest: async () => ({ csr: utf8('csr'), privateKey: 'PRIVATE KEY' }),
    validity: () => ({ notBefore: clock.now(), notAfter: plus(clock.now(), days(1)) }),
    openAuthority: () => Promise.reject(new Error('not here')),
    newAuthority: () => Promise.reject(new Error('not here')),
  };
  const token: JoinToken = {
    base: [hostPort('one.example:443'), hostPort('two.example:443')],
    caKeyHash,
    secret: random.bytes(32),
    role: 'exit',
    region: EU,
  };
  const identity = world.identity();
  const ports = { clock, network, certificates, statements, crypto: world.crypto, log: world.log };
  const join = (change: Partial<Parameters<typeof enrol>[0]> = {}) =>
    enrol({ token, role: 'exit', identity, ...change }, ports);
  const refusal = async (change: Partial<Parameters<typeof enrol>[0]> = {}): Promise<VpndError> =>
    join(change).then(
      () => new VpndError('internal', 'not refused'),
      (error: VpndError) => error,
    );
  return { world, token, identity, ports, join, refusal, answer, asked, down, registrations, renewals };
}

function supernode(id: PeerId): SupernodeInfo {
  const ip = parseIp('2001:db8::1');
  const port = parsePort(7_000);
  if (!ip.ok || !port.ok) throw new Error('fixture');
  return {
    id,
    region: EU,
    addresses: [hostPort('[2001:db8::1]:443'), hostPort('eu.example:443')],
    relayIps: [ip.value],
    probePort: port.value,
    draining: false,
    load: NO_LOAD,
  };
}

const facts = (): FactStore => {
  const kept = new Map<string, string>();
  return {
    get: (name) => {
      const text = kept.get(name);
      return text === undefined ? undefined : JSON.parse(text);
    },
    put: (name, value) => void kept.set(name, JSON.stringify(value)),
    remove: (name) => void kept.delete(name),
    names: () => [...kept.keys()],
  };
};

t.test('a node joins, and has afterwards what it needs without base', async (t) => {
  const { world, join, registrations, identity, token, answer } = scene();
  const enrolment = await join();
  const [request] = registrations;
  if (request === undefined) throw new Error('base was not asked');
  t.ok(
    world.crypto.verify(keyOf(identity.id), enrolSigningInput(request), request.signature),
    'the request is signed by the new identity',
  );
  t.same(request.tokenSecret, token.secret);
  t.equal(enrolment.region, EU);
  t.same(enrolment.anchors.trust.authorities, ['CA']);
  t.equal(enrolment.tlsKey, undefined);

  const store = facts();
  t.equal(loadEnrolment(store), undefined);
  saveEnrolment(store, enrolment);
  t.same(loadEnrolment(store), enrolment, 'kept and found again, whole');
  t.same(
    supernodeTargets(enrolment.supernodes, caOf(enrolment)).map(({ address }) => address.host),
    ['2001:db8::1', 'eu.example'],
  );
  t.same(enrolment.supernodes, answer.supernodes);
});

t.test('a supernode gets a certificate, and its key never leaves it', async (t) => {
  const { join, token, registrations, refusal, answer } = scene();
  const as = { token: { ...token, role: 'supernode' as const }, role: 'supernode' as const };
  const enrolment = await join(as);
  t.equal(enrolment.certificate, 'CERTIFICATE');
  t.equal(enrolment.tlsKey, 'PRIVATE KEY');
  t.notMatch(JSON.stringify(registrations), /PRIVATE/);
  const store = facts();
  saveEnrolment(store, enrolment);
  t.same(loadEnrolment(store), enrolment);
  answer.certificate = '';
  t.equal((await refusal(as)).code, 'bad-message', 'without one it cannot serve');
});

t.test('a token for something else is refused before base hears of it', async (t) => {
  const { refusal, asked } = scene();
  t.match(await refusal({ role: 'client' }), {
    code: 'wrong-role',
    message: 'this token is for role exit, not client; ask for one for role client',
  });
  t.match(await refusal({ region: 'us' as Region }), {
    code: 'wrong-region',
    message: 'this token is for region eu, not us; leave --region out, or ask for a token for us',
  });
  t.same(asked, []);
  t.match(notEnrolled('exit').message, /start it once with --join <token> .*vpnd token create --role exit/);
});

t.test('every address of base is tried while it cannot be reached, and no other after a refusal', async (t) => {
  const first = scene();
  first.down.add('one.example');
  await first.join();
  t.same(first.asked, ['ca one.example', 'ca two.example', 'registerPeer two.example', 'fetchAnchors two.example']);

  const none = scene();
  none.down.add('one.example').add('two.example');
  const error = await none.refusal();
  t.equal(error.code, 'unreachable');
  t.ok(error.retryable);
  t.match(error.message, /one\.example:443: connection refused; two\.example:443/);

  const refused = scene();
  refused.answer.refusal = new VpndError('token-used', 'this token has no uses left');
  t.equal((await refused.refusal()).code, 'token-used');
  t.same(refused.asked, ['ca one.example']);
});

t.test('a node is enrolled anew by the base that it knows, and by no other', async (t) => {
  const { join, refusal, asked, identity } = scene();
  const before = await join();
  t.match(before.token, /^[0-9a-f]{64}$/, 'it remembers which token that was, and not the token');
  t.same(await join({ before }), before);
  asked.length = 0;
  t.match(
    await refusal({ before: { ...before, anchors: { trust: trustIn(keyOf(identity.id), ['another']), chain: [] } } }),
    { code: 'wrong-ca', message: /another overlay/ },
  );
  t.same(asked, ['ca one.example'], 'the token is not sent');
});

t.test('what base answers is not taken on trust', async (t) => {
  const world = streamWorld(99);
  const cases: [string, Partial<ReturnType<typeof scene>['answer']>, string][] = [
    ['signed by another key', { signer: world.identity() }, 'bad-membership'],
    ["somebody else's", { peer: world.identity().id }, 'bad-membership'],
    ['for another role', { roles: ['client'] }, 'bad-membership'],
    ['for another region', { region: 'us' as Region }, 'bad-membership'],
    ['by a clock an hour ahead', { serverTime: minutes(60) }, 'clock-skew'],
  ];
  for (const [name, change, code] of cases) {
    const one = scene();
    Object.assign(one.answer, change);
    t.equal((await one.refusal()).code, code, name);
  }
  const late = scene();
  late.answer.serverTime = minutes(60);
  t.match((await late.refusal()).message, /clock is 60 min behind base's/);
});

t.test('a membership is renewed up the stream, or at base itself where it ran out', async (t) => {
  const { world, join, identity, ports, renewals, answer, down } = scene();
  const enrolment = await join();

  const question = renewalQuestion(identity, world.clock.now());
  const { renewal } = question.kind === 'renewal' ? question : { renewal: undefined };
  if (renewal === undefined) throw new Error('not a renewal');
  t.ok(world.crypto.verify(keyOf(identity.id), renewalSigningInput(renewal), renewal.signature));

  await world.clock.advance(days(40));
  down.add('one.example');
  const fresh = await renewDirect(enrolment, identity, ports);
  t.equal(renewals.length, 1);
  const checked = ports.statements.checkMembership(
    { keys: fresh.anchors.trust.baseKeys },
    fresh.membership,
    world.clock.now(),
  );
  t.ok(checked.ok, 'the fresh one holds now');

  answer.peer = world.identity().id;
  const forged = await renewDirect(enrolment, identity, ports).catch((error: VpndError) => error.code);
  t.equal(forged, 'bad-membership');
  answer.refusal = new VpndError('revoked', 'revoked');
  t.equal(await renewDirect(enrolment, identity, ports).catch((error: VpndError) => error.code), 'revoked');
});

t.test("a supernode's renewal brings a certificate for the new key", async (t) => {
  const { join, token, ports, world } = scene();
  const enrolment = await join({ token: { ...token, role: 'supernode' }, role: 'supernode' });
  const { membership } = enrolment;
  const next = renewed(enrolment, { membership, certificate: 'NEWER' }, 'NEWER KEY', ports);
  t.same([next.certificate, next.tlsKey], ['NEWER', 'NEWER KEY']);
  t.throws(() => renewed(enrolment, { membership, certificate: '' }, 'NEWER KEY', ports), { code: 'bad-message' });
  await world.clock.advance(days(31) + CLOCK_TOLERANCE);
  t.throws(() => renewed(enrolment, { membership, certificate: '' }, undefined, ports), { code: 'membership-expired' });
});

t.test('a damaged enrolment stops the daemon and is left alone', async (t) => {
  const { join } = scene();
  const store = facts();
  saveEnrolment(store, await join());
  const kept = store.get<Record<string, unknown>>('enrolment');
  const damages = [
    { peer: 'x' },
    { role: 'base' },
    { baseKey: '%%' },
    { supernodes: 'none' },
    { ca: 7 },
    { membership: {} },
  ];
  for (const damage of damages) {
    store.put('enrolment', { ...kept, ...damage });
    t.throws(() => loadEnrolment(store), { code: 'state-corrupt' }, JSON.stringify(damage));
  }
  t.same(store.names(''), ['enrolment']);
});
