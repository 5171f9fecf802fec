import t from 'tap';
import { type AuthExpectation, authSigningInput, checkAuthRequest, makeAuthRequest } from '../../src/core/auth.js';
import { toHex, utf8 } from '../../src/model/bytes.js';
import { keyOf, type PeerId } from '../../src/model/ids.js';
import type { AuthRequest } from '../../src/model/messages.js';
import type { Region } from '../../src/model/role.js';
import { days, hours, instantOf, minutes, plus, seconds } from '../../src/model/time.js';
import { CAPABILITIES, EU, streamWorld } from '../support/stream-world.js';

/** A server that awaits one node's AuthRequest, and that request. */
function scene() {
  const world = streamWorld();
  const node = world.node('exit');
  const challenge = world.random.bytes(32);
  const self = world.identity().id;
  const expectation: AuthExpectation = {
    challenge,
    challengeIssuedAt: world.clock.now(),
    self,
    serverKeyHash: world.serverKeyHash,
    baseKey: keyOf(world.base.id),
    roles: ['exit', 'client'],
    certified: undefined,
    requireCertificate: false,
    now: world.clock.now(),
  };
  const request = world.authRequest(node, { self }, challenge);
  const code = (request: AuthRequest, change: Partial<AuthExpectation> = {}): string => {
    const checked = checkAuthRequest(request, { ...expectation, ...change }, world);
    return checked.ok ? 'ok' : checked.error.code;
  };
  return { world, node, challenge, self, expectation, request, code };
}

const NONE = { sessions: 0, sessionCapacity: 0, streams: 0, cpuPercent: 0, txMbps: 0, rxMbps: 0 };

t.test('what is signed is the documented byte string', async (t) => {
  const peer = 'a'.repeat(52) as PeerId;
  const input = authSigningInput({
    protocolVersion: 1,
    challenge: new Uint8Array(32).fill(0xc1),
    clientNonce: new Uint8Array(32).fill(0xc2),
    peer,
    role: 'exit',
    region: EU,
    wireguardKey: undefined,
    server: undefined,
    serverKeyHash: new Uint8Array(32).fill(0xc3),
    timestamp: instantOf(0x0102_03040506),
  });
  const key = '00'.repeat(32);
  const expected = [
    `${toHex(utf8('vpnd/auth/v1'))}00`,
    '0000000400000001',
    `00000020${'c1'.repeat(32)}`,
    `00000020${'c2'.repeat(32)}`,
    `00000020${key}`,
    '0000000103',
    '000000026575',
    `00000020${key}`,
    `00000020${key}`,
    `00000020${'c3'.repeat(32)}`,
    '000000080000010203040506',
  ];
  t.equal(toHex(input), expected.join(''));
});

t.test('an honest request is accepted, with the membership that base signed', async (t) => {
  const { world, node, expectation, request } = scene();
  const checked = checkAuthRequest(request, expectation, world);
  t.ok(checked.ok);
  if (checked.ok) t.equal(checked.value.membership.peer, node.id);
});

t.test('a request is good for one connection only', async (t) => {
  const { world, self, code, request } = scene();
  t.equal(code(request, { challenge: world.random.bytes(32) }), 'bad-signature', 'replayed on another challenge');
  t.equal(code(request, { self: world.identity().id }), 'bad-signature', 'replayed to another server');
  t.equal(code(request, { self: undefined }), 'bad-signature', 'replayed to base');
  t.equal(code(request, { serverKeyHash: world.random.bytes(32) }), 'bad-signature', 'somebody between the two ends');
  t.equal(code(request, { self }), 'ok', 'and the test would notice');
});

t.test('no bit of what is signed can be flipped', async (t) => {
  const { request, code } = scene();
  const flip = (bytes: Uint8Array, bit: number) => {
    const changed = Uint8Array.from(bytes);
    changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    return changed;
  };
  const eachBit = (length: number) => Array.from({ length: length * 8 }, (_, bit) => bit);
  const { membership, signature, clientNonce } = request;
  const outcomes = [
    ...eachBit(signature.length).map((bit) => code({ ...request, signature: flip(signature, bit) })),
    ...eachBit(clientNonce.length).map((bit) => code({ ...request, clientNonce: flip(clientNonce, bit) })),
    ...eachBit(membership.body.length).map((bit) =>
      code({ ...request, membership: { ...membership, body: flip(membership.body, bit) } }),
    ),
    ...eachBit(membership.signature.length).map((bit) =>
      code({ ...request, membership: { ...membership, signature: flip(membership.signature, bit) } }),
    ),
  ];
  t.equal(outcomes.filter((outcome) => outcome === 'ok').length, 0);
  t.same([...new Set(outcomes)].sort(), ['bad-membership', 'bad-signature']);
  t.equal(code({ ...request, timestamp: plus(request.timestamp, seconds(1)) }), 'bad-signature');
  const other = scene().world.crypto.wireGuardKeyPair().publicKey;
  t.equal(code({ ...request, wireguardKey: other }), 'bad-signature');
});

t.test("somebody else's membership is of no use", async (t) => {
  const { world, code, challenge, self, node } = scene();
  const thief = world.node('exit');
  const request = world.authRequest({ ...thief, self: node.self }, { self }, challenge);
  t.equal(code(request), 'bad-signature');
});

t.test('each thing that can be wrong has its own word', async (t) => {
  const { world, code, request, challenge, self, node } = scene();
  const now = world.clock.now();
  const of = (change: Partial<AuthRequest>) => ({ ...request, ...change });
  const signed = (change: Parameters<typeof world.membership>[1], role = node.self.role, region = EU) =>
    world.authRequest(
      { ...node, self: { ...node.self, role, region, membership: world.membership(node.id, change) } },
      { self },
      challenge,
    );
  t.equal(code(of({ protocolVersion: 2 })), 'version-mismatch');
  t.equal(code(request, { challengeIssuedAt: instantOf(now - 30_001) }), 'unauthenticated', 'an old challenge');
  t.equal(code(request, { challengeIssuedAt: instantOf(now - 30_000) }), 'ok', 'a challenge of 30 s');
  t.equal(code(request, { roles: ['supernode'] }), 'wrong-role', 'a server for others');
  t.equal(code(signed({ roles: ['client'] })), 'wrong-role', 'a member, but not as an exit');
  t.equal(code(signed({ region: 'us' as Region })), 'wrong-region');
  t.equal(code(signed({ notBefore: instantOf(0), notAfter: instantOf(now - days(2)) })), 'membership-expired');
  t.equal(code(request, { baseKey: world.random.bytes(32) }), 'bad-membership', 'of another overlay');
  t.equal(code(request, { requireCertificate: true }), 'unauthenticated', 'no certificate where one is asked for');
  t.equal(code(request, { certified: world.identity().id }), 'unauthenticated', "another node's certificate");
  t.equal(code(request, { certified: node.id, requireCertificate: true }), 'ok');
  t.equal(
    code(
      of({
        supernode: {
          id: node.id,
          region: EU,
          addresses: [],
          relayIps: [],
          probePort: undefined,
          draining: false,
          load: NONE,
        },
      }),
    ),
    'bad-message',
    'an exit that describes a supernode',
  );
});

t.test('a supernode describes itself and nobody else', async (t) => {
  const { world, self, challenge, code } = scene();
  const node = world.node('supernode');
  const request = (id: PeerId, region = EU) =>
    makeAuthRequest(
      node.identity,
      {
        ...node.self,
        capabilities: CAPABILITIES,
        supernode: { id, region, addresses: [], relayIps: [], probePort: undefined, draining: false, load: NONE },
      },
      { id: self, challenge, serverKeyHash: world.serverKeyHash },
      world.clock.now(),
      world.random,
    );
  const base = { roles: ['supernode'] } as const;
  t.equal(code(request(node.id), base), 'ok');
  t.equal(code(request(world.identity().id), base), 'bad-message');
  t.equal(code(request(node.id, 'us' as Region), base), 'bad-message');
});

t.test('a clock that is off is told apart from a membership that ran out, and by how much', async (t) => {
  const { world, node, self, challenge, expectation } = scene();
  const refusal = (ahead: number) => {
    const request = makeAuthRequest(
      node.identity,
      node.self,
      { id: self, challenge, serverKeyHash: world.serverKeyHash },
      instantOf(world.clock.now() + ahead),
      world.random,
    );
    const before = world.verified;
    const checked = checkAuthRequest(request, expectation, world);
    t.equal(world.verified - before, checked.ok ? 2 : 0, 'no signature is checked for a timestamp that is off');
    return checked.ok ? 'ok' : checked.error;
  };
  const text = (ahead: number) => {
    const error = refusal(ahead);
    return error === 'ok' ? 'ok' : `${error.code}: ${error.message}`;
  };
  t.equal(
    text(minutes(61)),
    "clock-skew: this machine's clock is 61 min ahead of the supernode's; set it, e.g. timedatectl set-ntp true",
  );
  t.match(text(-hours(3)), /clock is 3 h behind the supernode's/);
  t.match(text(days(3650)), /clock is 3650 days ahead/);
  t.equal(text(minutes(5)), 'ok');
  t.equal(text(-minutes(5)), 'ok');
});
