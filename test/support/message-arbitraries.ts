import fc from 'fast-check';
import {
  type Cidr,
  type Endpoint,
  type HostPort,
  type IpAddress,
  type Port,
  parseCidr,
  parseHostPort,
  parseIp,
} from '../../src/model/address.js';
import { toHex } from '../../src/model/bytes.js';
import type { Command, Desired } from '../../src/model/command.js';
import type { ExitCandidate, Load, SupernodeInfo } from '../../src/model/directory.js';
import { type CommandId, peerIdOf, type SessionId } from '../../src/model/ids.js';
import { wireGuardPublicKeyOf } from '../../src/model/keys.js';
import type { Signed } from '../../src/model/membership.js';
import type {
  AddressPlan,
  ControlMessage,
  ExitFilter,
  InfoAnswer,
  InfoQuestion,
  News,
  Outcome,
  Refusal,
  Renewal,
  RenewalResult,
  UnaryCalls,
  UnaryName,
} from '../../src/model/messages.js';
import type { Revocation, RevocationChange, RevocationKind } from '../../src/model/revocation.js';
import type { Country, MemberRole, Path, Privacy, Region } from '../../src/model/role.js';
import type { ExitRequest, SessionDigest, SessionGrant } from '../../src/model/session.js';
import { instantOf, ms } from '../../src/model/time.js';

/** Everything the wire can carry, as fast-check arbitraries in the model's terms. */

function valid<T>(result: { ok: true; value: T } | { ok: false; error: unknown }): T {
  if (!result.ok) throw new Error(String(result.error));
  return result.value;
}

/** Plain objects, as the decoder makes them. */
const record = <T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> =>
  fc.record<T>(model, { noNullPrototype: true }) as fc.Arbitrary<T>;

const bytes = (min: number, max = min) => fc.uint8Array({ minLength: min, maxLength: max });
const u32 = fc.nat({ max: 0xffff_ffff });
const safe = fc.maxSafeNat();
const millis = u32.map(ms);
const instant = fc.nat({ max: 4_000_000_000_000 }).map(instantOf);
const quantity = fc.double({ min: 0, max: 1e12, noNaN: true }).map((value) => value + 0);
const wish = fc.option(fc.double({ min: 1e-3, max: 1e9, noNaN: true }), { nil: undefined });
const printable = (max: number) =>
  fc
    .string({ unit: 'grapheme', maxLength: max })
    .map((text) => text.replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Cs}]/gu, '').slice(0, max))
    .map((text) => text.replace(/\p{Surrogate}/gu, ''));
const text = printable(60);
const label = fc.stringMatching(/^[a-z0-9-]{1,20}$/);
const optionally = <T>(of: fc.Arbitrary<T>) => fc.option(of, { nil: undefined });

const peer = bytes(32).map((key) => valid(peerIdOf(key)));
const peers = fc.array(peer, { maxLength: 3 });
const session = bytes(16).map((id) => toHex(id) as SessionId);
const commandId = bytes(16).map((id) => toHex(id) as CommandId);
// Never all zero: that stands for "none".
const wireGuardKey = bytes(32).map((key) => valid(wireGuardPublicKeyOf(Uint8Array.of(1, ...key.slice(1)))));
const signed: fc.Arbitrary<Signed> = record({ body: bytes(1, 200), signature: bytes(64) });
const kemKey = fc.oneof(fc.constant(new Uint8Array()), bytes(1184));

const region = fc.stringMatching(/^[a-z][a-z0-9-]{0,10}[a-z0-9]$/).map((word) => word as Region);
const country = fc.stringMatching(/^[A-Z]{2}$/).map((word) => word as Country);
const pool = label;
const role = fc.constantFrom<MemberRole>('supernode', 'exit', 'client');
const path = fc.constantFrom<Path>('direct', 'relay', 'relay2');

const ipv4 = fc.ipV4().map((ip) => valid(parseIp(ip)));
const ipv6 = fc
  .ipV6()
  .map((ip) => parseIp(ip))
  .filter((ip) => ip.ok && ip.value.includes(':'))
  .map((ip) => valid(ip as { ok: true; value: IpAddress }));
const ip = fc.oneof(ipv4, ipv6);
const port = fc.integer({ min: 1, max: 65535 }).map((n) => n as Port);
const endpoint: fc.Arbitrary<Endpoint> = record({ ip, port });
const hostPort: fc.Arbitrary<HostPort> = fc
  .tuple(fc.oneof(ip, fc.stringMatching(/^[a-z][a-z0-9]{0,10}\.(example|test)$/)), port)
  .map(([host, at]) => valid(parseHostPort(host, at)));
const cidr = (ips: fc.Arbitrary<IpAddress>, max: number): fc.Arbitrary<Cidr> =>
  fc.tuple(ips, fc.nat({ max })).map(([at, bits]) => valid(parseCidr(`${at}/${bits}`)));

const load: fc.Arbitrary<Load> = record({
  sessions: u32,
  sessionCapacity: u32,
  streams: u32,
  cpuPercent: quantity,
  txMbps: quantity,
  rxMbps: quantity,
});
const supernode: fc.Arbitrary<SupernodeInfo> = record({
  id: peer,
  region,
  addresses: fc.array(hostPort, { maxLength: 3 }),
  relayIps: fc.array(ip, { maxLength: 2 }),
  probePort: optionally(port),
  draining: fc.boolean(),
  load,
});
const supernodes = fc.array(supernode, { maxLength: 3 });
const candidate: fc.Arbitrary<ExitCandidate> = record({
  id: peer,
  supernode: peer,
  region,
  country: optionally(country),
  pool,
  ipv6: fc.boolean(),
  load,
  maxMbps: quantity,
  latency: wish.map((value) => (value === undefined ? undefined : ms(value))),
  publicEndpoint: optionally(endpoint),
  egress: fc.boolean(),
  family: fc.constantFrom(4, 6),
});
const refusal: fc.Arbitrary<Refusal> = record({
  code: label,
  message: text,
  details: fc.dictionary(label, text, { maxKeys: 3, noNullPrototype: true }),
  retryable: fc.boolean(),
});
const outcome = <T>(of: fc.Arbitrary<T>): fc.Arbitrary<Outcome<T>> =>
  fc.oneof(
    of.map((value) => ({ ok: true as const, value })),
    refusal.map((error) => ({ ok: false as const, error })),
  );
const grant: fc.Arbitrary<SessionGrant> = record({
  session,
  generation: safe,
  lease: millis,
  endpoint,
  keepalive: fc.nat({ max: 65535 }),
  path,
  via: fc.array(peer, { maxLength: 2 }),
  offer: signed,
  exitMembership: signed,
  exitRegion: region,
  exitCountry: optionally(country),
  reasons: fc.array(text, { maxLength: 3 }),
});
const digest: fc.Arbitrary<SessionDigest> = record({ session, generation: safe });
const filter: fc.Arbitrary<ExitFilter> = record({
  region: optionally(region),
  country: optionally(country),
  pool: optionally(pool),
});
const exitRequest: fc.Arbitrary<ExitRequest> = record({
  requestId: safe,
  region: optionally(region),
  country: optionally(country),
  pool: optionally(pool),
  exit: optionally(peer),
  minMbps: wish,
  maxLatency: wish.map((value) => (value === undefined ? undefined : ms(value))),
  privacy: fc.constantFrom<Privacy>('auto', 'private', 'direct'),
  sessionKey: wireGuardKey,
  kemKey,
  standby: fc.boolean(),
  avoidExits: peers,
  avoidSupernodes: peers,
});
const addressPlan: fc.Arbitrary<AddressPlan> = record({
  blocksIpv4: fc.array(cidr(ipv4, 32), { maxLength: 3 }),
  blocksIpv6: fc.array(cidr(ipv6, 128), { maxLength: 3 }),
  gatewayIpv4: ipv4,
  gatewayIpv6: ipv6,
  poolIpv4: cidr(ipv4, 32),
  poolIpv6: cidr(ipv6, 128),
});
const renewal: fc.Arbitrary<Renewal> = record({
  peer,
  csr: bytes(0, 300),
  timestamp: instant,
  signature: bytes(64),
});
const pem = fc.constantFrom('', '-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n');
const renewalResult: fc.Arbitrary<RenewalResult> = record({ membership: signed, certificate: pem });

const kind = <K extends string>(word: K) => fc.constant(word);

const desired: fc.Arbitrary<Desired> = fc.oneof(
  record({
    kind: kind('setup-exit'),
    clientKey: wireGuardKey,
    inner: record({ ipv4, ipv6, gatewayIpv4: ipv4, gatewayIpv6: ipv6 }),
    endpoint: optionally(endpoint),
    keepalive: fc.nat({ max: 65535 }),
    kemKey,
  }),
  record({
    kind: kind('relay-setup'),
    port,
    localIp: ip,
    vouched: fc.array(ip, { maxLength: 4 }),
    next: fc.oneof(record({ kind: kind('hop'), endpoint }), record({ kind: kind('pair'), port })),
  }),
  record({ kind: kind('relay-update'), endpoint, keepalive: fc.nat({ max: 65535 }), path }),
  record({
    kind: kind('rotate-peer'),
    reason: text,
    leaveSupernode: fc.boolean(),
    urgent: fc.boolean(),
    avoidExits: peers,
  }),
  record({ kind: kind('disconnect'), reason: text }),
);
const command: fc.Arbitrary<Command> = record({ id: commandId, session, generation: safe, lease: millis, desired });

const question: fc.Arbitrary<InfoQuestion> = fc.oneof(
  record({ kind: kind('list-exits'), filter }),
  record({ kind: kind('renewal'), renewal }),
  record({ kind: kind('rekey'), session, kemKey: bytes(1184) }),
);
const answer: fc.Arbitrary<InfoAnswer> = fc.oneof(
  record({ kind: kind('exits'), exits: fc.array(candidate, { maxLength: 3 }) }),
  record({ kind: kind('renewal'), result: renewalResult }),
  record({ kind: kind('rekeyed'), offer: signed }),
);
const revocation: fc.Arbitrary<Revocation> = record({
  peer,
  kind: fc.constantFrom<RevocationKind>('peer', 'supernode'),
  at: instant,
});
const change: fc.Arbitrary<RevocationChange> = fc
  .record({
    head: signed,
    from: safe,
    added: fc.array(revocation, { maxLength: 4 }),
    removed: peers,
    parts: fc.integer({ min: 1, max: 8 }),
    at: fc.nat({ max: 7 }),
  })
  .map(({ at, ...rest }) => ({ ...rest, part: at % rest.parts }));
const news: fc.Arbitrary<News> = fc.oneof(
  record({ kind: kind('session-handshake'), session, took: millis }),
  record({ kind: kind('session-closed'), session, reason: text }),
  record({ kind: kind('session-renewed'), session, generation: safe, lease: millis }),
  record({ kind: kind('session-rekey'), session }),
  record({ kind: kind('sessions-move'), sessions: fc.array(session, { maxLength: 4 }), reason: text }),
  record({ kind: kind('anchors'), chain: fc.array(signed, { maxLength: 3 }) }),
  record({ kind: kind('directory'), supernodes }),
  record({ kind: kind('session-path'), session, path, reason: text }),
  record({ kind: kind('supernode'), supernode }),
  record({ kind: kind('revocations'), change }),
  record({ kind: kind('revocations-wanted') }),
  record({ kind: kind('problem'), code: label, message: text }),
);

type Kinds = { readonly [K in ControlMessage['kind']]: fc.Arbitrary<Extract<ControlMessage, { kind: K }>> };

export const CONTROL: Kinds = {
  'auth-request': record({
    kind: kind('auth-request'),
    protocolVersion: u32,
    clientNonce: bytes(32),
    membership: signed,
    role,
    region,
    wireguardKey: optionally(wireGuardKey),
    timestamp: instant,
    signature: bytes(64),
    capabilities: record({
      software: label,
      ipv6: fc.boolean(),
      publicEndpoint: optionally(endpoint),
      country: optionally(country),
      maxMbps: quantity,
      sessionCapacity: u32,
    }),
    sessions: fc.array(digest, { maxLength: 4 }),
    supernode: optionally(supernode),
    revocations: optionally(signed),
  }),
  'auth-response': record({
    kind: kind('auth-response'),
    serverTime: instant,
    pingInterval: millis,
    silenceLimit: millis,
    observed: endpoint,
    supernodes,
    addressPlan: optionally(addressPlan),
    probeToken: bytes(16),
    revocations: optionally(signed),
  }),
  ping: record({ kind: kind('ping'), id: safe, load: optionally(load) }),
  pong: record({ kind: kind('pong'), id: safe }),
  command: record({ kind: kind('command'), command }),
  'command-response': record({
    kind: kind('command-response'),
    id: commandId,
    result: outcome(record({ offer: optionally(signed) })),
  }),
  'info-request': record({ kind: kind('info-request'), requestId: safe, question }),
  'info-response': record({ kind: kind('info-response'), requestId: safe, result: outcome(answer) }),
  'exit-request': record({ kind: kind('exit-request'), request: exitRequest }),
  'exit-response': record({ kind: kind('exit-response'), requestId: safe, result: outcome(grant) }),
  event: record({ kind: kind('event'), news }),
  datagrams: record({
    kind: kind('datagrams'),
    session,
    packets: fc.array(bytes(1, 200), { minLength: 1, maxLength: 3 }),
  }),
};

type Unaries = {
  readonly [M in UnaryName]: readonly [fc.Arbitrary<UnaryCalls[M][0]>, fc.Arbitrary<UnaryCalls[M][1]>];
};

export const UNARY_MESSAGES: Unaries = {
  registerPeer: [
    record({
      tokenSecret: bytes(32),
      peer,
      role,
      region: optionally(region),
      csr: bytes(0, 300),
      timestamp: instant,
      signature: bytes(64),
    }),
    record({
      membership: signed,
      baseKey: bytes(32),
      caCertificate: pem,
      certificate: pem,
      supernodes,
      serverTime: instant,
    }),
  ],
  renewMembership: [renewal, renewalResult],
  fetchAnchors: [fc.constant({}), record({ chain: fc.array(signed, { maxLength: 3 }) })],
  requestExitRegion: [
    record({ region: optionally(region) }),
    record({ supernodes, regions: fc.array(region, { maxLength: 4 }) }),
  ],
  requestExitPeer: [
    record({
      region: optionally(region),
      country: optionally(country),
      pool: optionally(pool),
      exit: optionally(peer),
      minMbps: wish,
      maxLatency: wish.map((value) => (value === undefined ? undefined : ms(value))),
      limit: u32,
    }),
    record({ exits: fc.array(candidate, { maxLength: 3 }) }),
  ],
  openSession: [
    record({
      session,
      generation: safe,
      exit: peer,
      clientKey: wireGuardKey,
      kemKey,
      innerIpv4: ipv4,
      innerIpv6: ipv6,
      lease: millis,
      path,
      previousHop: optionally(endpoint),
    }),
    record({ endpoint, offer: signed, exitMembership: signed }),
  ],
  closeSession: [record({ session, generation: safe, reason: text }), fc.constant({})],
  updateSession: [
    record({ session, generation: safe, path, clientEndpoint: optionally(endpoint), settled: fc.boolean() }),
    record({ endpoint }),
  ],
  moveSessions: [
    record({
      sessions: fc.array(session, { maxLength: 3 }),
      reason: text,
      leaveExit: fc.boolean(),
      rekey: fc.boolean(),
      urgent: fc.boolean(),
    }),
    fc.constant({}),
  ],
};
