import { create } from '@bufbuild/protobuf';
import type { BaseConfig } from '../../src/config/types.js';
import { enrolSigningInput, makeAuthRequest, renewalSigningInput } from '../../src/core/auth.js';
import type { Identity } from '../../src/core/ports/crypto.js';
import type { Network, ServeOptions, UnaryContext } from '../../src/core/ports/network.js';
import { CreateTokenRequestSchema } from '../../src/gen/vpnd/v1/admin_pb.js';
import { Role } from '../../src/gen/vpnd/v1/types_pb.js';
import { parseJoinToken } from '../../src/identity/join-token.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements as openStatements } from '../../src/identity/statements.js';
import { type Cidr, type IpAddress, type Port, parseCidr } from '../../src/model/address.js';
import { type Bytes, utf8 } from '../../src/model/bytes.js';
import { NO_LOAD, type SupernodeInfo } from '../../src/model/directory.js';
import type { Signed } from '../../src/model/membership.js';
import type {
  AuthResponse,
  ControlMessage,
  JoinToken,
  News,
  RegisterPeerRequest,
  RegisterPeerResponse,
  Renewal,
  RequestExitRegionResponse,
} from '../../src/model/messages.js';
import type { MemberRole, Region } from '../../src/model/role.js';
import { days, hours, type Instant, instantOf, minutes } from '../../src/model/time.js';
import { openAudit } from '../../src/obs/audit.js';
import { startBase } from '../../src/roles/base/index.js';
import type { RunningRole } from '../../src/roles/ports.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { fakeCertificates } from './fake-certificates.js';
import { endpoint, fakeStream } from './fake-stream.js';
import { seededRandom } from './seeded-random.js';
import { testLog } from './test-log.js';
import { testMetrics } from './test-metrics.js';
import { VirtualClock } from './virtual-clock.js';

const { crypto } = await openSodium();
const WIRE: Record<MemberRole, Role> = { supernode: Role.SUPERNODE, exit: Role.EXIT, client: Role.CLIENT };
const ADDRESS = '198.51.100.7' as IpAddress;
const SERVER_KEY = new Uint8Array(32).fill(9);

const cidr = (text: string): Cidr => {
  const parsed = parseCidr(text);
  if (!parsed.ok) throw new Error(text);
  return parsed.value;
};

export const CONFIG: BaseConfig = {
  role: 'base',
  stateDir: '/nowhere',
  socket: '/nowhere/vpnd.sock',
  user: undefined,
  metricsListen: undefined,
  logLevel: 'info',
  logPrivacy: 'strict',
  listen: { host: '127.0.0.1', port: 443 as Port },
  advertise: [{ host: 'base.example.org', port: 443 as Port }],
  poolIpv4: cidr('10.200.0.0/13'),
  poolIpv6: cidr('fd76:706e:64::/48'),
  blockLength: 22,
  membershipTtl: days(30),
  certificateTtl: hours(24),
  retainAudit: days(365),
};

export type BaseWorld = Awaited<ReturnType<typeof baseWorld>>;
export interface Node {
  readonly identity: Identity;
  readonly role: MemberRole;
  readonly enrolled: RegisterPeerResponse;
  readonly region: Region;
}

/** base by itself, and nodes that a test plays by hand, in memory and virtual time. */
export async function baseWorld(change: Partial<BaseConfig> = {}, seed = 1) {
  const config = { ...CONFIG, ...change };
  const clock = new VirtualClock();
  const random = seededRandom(seed);
  const log = testLog();
  const metrics = testMetrics();
  const statements = openStatements(crypto);
  const certificates = fakeCertificates();
  const identity = (): Identity => crypto.identityFromSeed(random.bytes(32));
  const keys = { identity: identity(), authority: (await certificates.newAuthority(clock.now())).authority };
  let store = openMemoryStore();
  let serving: ServeOptions | undefined;
  let renewals = 0;
  let closed = 0;

  const refuse = () => Promise.reject(new Error('base dials nobody'));
  const network: Network = {
    dialControl: refuse,
    call: refuse,
    fetchCa: refuse,
    async serve(options) {
      serving = options;
      return {
        address: endpoint('127.0.0.1:443'),
        renewed: () => {
          renewals++;
        },
        close: async () => {
          closed++;
        },
      };
    },
    close: async () => {},
  };
  const start = (): Promise<RunningRole> =>
    startBase(
      config,
      {
        clock,
        random,
        crypto,
        statements,
        certificates,
        network,
        store,
        log,
        audit: openAudit({ store: store.audit, facts: store.facts, identity: keys.identity, crypto, clock, log }),
        metrics,
        version: 'vpnd/test',
      },
      keys,
    );
  let running = await start();

  const served = (): ServeOptions => {
    if (serving === undefined) throw new Error('base does not serve');
    return serving;
  };
  const context = (from: Partial<UnaryContext> = {}): UnaryContext => ({
    remote: ADDRESS,
    certified: undefined,
    signal: new AbortController().signal,
    ...from,
  });

  const tokenText = async (
    role: MemberRole,
    options: { region?: string; uses?: number; ttl?: number; pool?: string; note?: string; egress?: boolean } = {},
  ): Promise<{ text: string; id: string; token: JoinToken }> => {
    const made = await running.local.createToken?.(
      create(CreateTokenRequestSchema, {
        role: WIRE[role],
        region: options.region ?? 'eu',
        pool: options.pool ?? '',
        ttlMs: BigInt(options.ttl ?? hours(24)),
        uses: options.uses ?? 1,
        note: options.note ?? '',
        egress: options.egress ?? false,
      }),
    );
    const text = made?.token ?? '';
    const parsed = parseJoinToken(text, crypto.sha256);
    if (!parsed.ok) throw parsed.error;
    return { text, id: made?.summary?.tokenId ?? '', token: parsed.value };
  };

  /** A signed request; `ahead` is how far the node's clock is off. */
  const registration = (
    from: Identity,
    token: JoinToken,
    change: Partial<RegisterPeerRequest> & { ahead?: number } = {},
  ): RegisterPeerRequest => {
    const { ahead = 0, ...fields } = change;
    const role = fields.role ?? token.role;
    const unsigned = {
      tokenSecret: token.secret,
      peer: from.id,
      role,
      region: undefined,
      csr: role === 'supernode' ? utf8(`csr of ${from.id}`) : new Uint8Array(),
      timestamp: instantOf(clock.now() + ahead),
      ...fields,
    };
    return { ...unsigned, signature: fields.signature ?? from.sign(enrolSigningInput(unsigned)) };
  };

  const register = async (request: RegisterPeerRequest, from: Partial<UnaryContext> = {}) => {
    const handler = served().unary.registerPeer;
    if (handler === undefined) throw new Error('base does not serve registerPeer');
    return handler(request, context(from));
  };

  /** A node that enrolled with a token made for it. */
  const enrol = async (role: MemberRole, region = 'eu', egress = false): Promise<Node> => {
    const { token } = await tokenText(role, { region, egress });
    const own = identity();
    return { identity: own, role, region: region as Region, enrolled: await register(registration(own, token)) };
  };

  const renewal = (from: Identity, change: { csr?: Bytes; ahead?: number } = {}): Renewal => {
    const unsigned = {
      peer: from.id,
      csr: change.csr ?? new Uint8Array(),
      timestamp: instantOf(clock.now() + (change.ahead ?? 0)),
    };
    return { ...unsigned, signature: from.sign(renewalSigningInput(unsigned)) };
  };
  const renew = async (request: Renewal, from: Partial<UnaryContext> = {}) => {
    const handler = served().unary.renewMembership;
    if (handler === undefined) throw new Error('base does not serve renewMembership');
    return handler(request, context(from));
  };

  const exitRegion = async (
    region: string | undefined,
    from: Partial<UnaryContext>,
  ): Promise<RequestExitRegionResponse> => {
    const handler = served().unary.requestExitRegion;
    if (handler === undefined) throw new Error('base does not serve requestExitRegion');
    return handler({ region: region as Region | undefined }, context(from));
  };

  /** Opens a node's stream and lets it authenticate. */
  const connect = async (
    node: Node,
    info: Partial<SupernodeInfo> = {},
    membership = node.enrolled.membership,
    revocations: Signed | undefined = undefined,
  ) => {
    const cable = fakeStream({ clock });
    const received: ControlMessage[] = [];
    const challenge = random.bytes(32);
    served().control({ stream: cable.server, challenge, serverKeyHash: SERVER_KEY, certified: node.identity.id });
    cable.peer.listen({
      message: (message) => {
        received.push(message);
        if (message.kind === 'ping') cable.peer.send({ kind: 'pong', id: message.id });
      },
      ended: () => {},
    });
    const supernode: SupernodeInfo = {
      id: node.identity.id,
      region: node.region,
      addresses: [{ host: `${node.identity.id.slice(0, 8)}.example.org`, port: 443 as Port }],
      relayIps: ['203.0.113.9' as IpAddress],
      probePort: undefined,
      draining: false,
      load: { ...NO_LOAD, sessionCapacity: 100 },
      ...info,
    };
    const capabilities = {
      software: 'vpnd/test',
      ipv6: true,
      publicEndpoint: undefined,
      country: undefined,
      maxMbps: 0,
      sessionCapacity: 100,
    };
    cable.peer.send(
      makeAuthRequest(
        node.identity,
        {
          membership,
          role: node.role,
          region: node.region,
          wireguardKey: undefined,
          capabilities,
          sessions: [],
          supernode: node.role === 'supernode' ? supernode : undefined,
          revocations,
        },
        { id: undefined, challenge, serverKeyHash: SERVER_KEY },
        clock.now(),
        random,
      ),
    );
    await clock.advance(100);
    const welcome = received.find((message): message is AuthResponse => message.kind === 'auth-response');
    const news = (): readonly News[] => received.flatMap((message) => (message.kind === 'event' ? [message.news] : []));
    /** The newest directory that was pushed. */
    const directory = () => {
      const last = news().findLast((one) => one.kind === 'directory');
      return last?.kind === 'directory' ? last.supernodes.map(({ id }) => id) : undefined;
    };
    /** Tells base what has changed about itself. */
    const say = (change: Partial<SupernodeInfo>) =>
      cable.peer.send({ kind: 'event', news: { kind: 'supernode', supernode: { ...supernode, ...change } } });
    const tell = (news: News) => cable.peer.send({ kind: 'event', news });
    return { cable, received, welcome, news, directory, say, tell, refusal: () => cable.endOf('peer')?.error };
  };

  const enrolAndConnect = async (region = 'eu', info: Partial<SupernodeInfo> = {}) => {
    const node = await enrol('supernode', region);
    return { node, id: node.identity.id, ...(await connect(node, info)) };
  };

  return {
    config,
    clock,
    random,
    log,
    keys,
    statements,
    crypto,
    identity,
    tokenText,
    registration,
    register,
    enrol,
    renewal,
    renew,
    exitRegion,
    connect,
    enrolAndConnect,
    served,
    /** Where most requests come from. */
    address: ADDRESS,
    get local() {
      return running.local;
    },
    get store() {
      return store;
    },
    get running() {
      return running;
    },
    get renewals() {
      return renewals;
    },
    get closed() {
      return closed;
    },
    /** The process dies and is started again on the same disk. */
    async restart() {
      await clock.run(running.stop());
      store = store.reopen();
      running = await start();
    },
    later: (at: number): Instant => instantOf(clock.now() + at),
    farOff: minutes(61),
  };
}
