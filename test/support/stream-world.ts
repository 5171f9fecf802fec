import { makeAuthRequest, type SelfDescription } from '../../src/core/auth.js';
import type { Identity } from '../../src/core/ports/crypto.js';
import type { AcceptedStream, DialedStream, DialTarget, Network } from '../../src/core/ports/network.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements as openStatements } from '../../src/identity/statements.js';
import type { Endpoint } from '../../src/model/address.js';
import { type Bytes, toHex } from '../../src/model/bytes.js';
import type { Command, Desired } from '../../src/model/command.js';
import { VpndError } from '../../src/model/errors.js';
import type { CommandId, PeerId, SessionId } from '../../src/model/ids.js';
import { keyOf } from '../../src/model/ids.js';
import type { Membership } from '../../src/model/membership.js';
import type { AuthRequest, Capabilities } from '../../src/model/messages.js';
import type { MemberRole, Region } from '../../src/model/role.js';
import { days, plus, seconds } from '../../src/model/time.js';
import { Upstream, type UpstreamHandlers, type UpstreamOptions } from '../../src/roles/common/upstream.js';
import { type StreamHandlers, StreamManager, type StreamManagerOptions } from '../../src/transport/stream-manager.js';
import { endpoint, type FakeStream, type FakeStreamOptions, fakeStream } from './fake-stream.js';
import { seededRandom } from './seeded-random.js';
import { testLog } from './test-log.js';
import { testMetrics } from './test-metrics.js';
import { VirtualClock } from './virtual-clock.js';

export const CAPABILITIES: Capabilities = {
  software: 'test',
  ipv6: true,
  publicEndpoint: undefined,
  country: undefined,
  maxMbps: 0,
  sessionCapacity: 10,
};

export const EU = 'eu' as Region;

const { crypto: sodium } = await openSodium();

export type StreamWorld = ReturnType<typeof streamWorld>;

/** A supervisor with its stream manager and as many peers as a test wants, in memory and virtual time. */
export function streamWorld(seed = 1) {
  const clock = new VirtualClock();
  const random = seededRandom(seed);
  const log = testLog();
  const metrics = testMetrics();
  let verified = 0;
  const crypto = {
    ...sodium,
    verify: (key: Bytes, input: Bytes, signature: Bytes) => {
      verified++;
      return sodium.verify(key, input, signature);
    },
  };
  const statements = openStatements(crypto);
  const identity = (): Identity => sodium.identityFromSeed(random.bytes(32));
  const base = identity();
  const serverKeyHash = random.bytes(32);

  const membership = (peer: PeerId, change: Partial<Membership> = {}) =>
    statements.signMembership(base, {
      peer,
      roles: ['exit'],
      region: EU,
      pool: '',
      notBefore: clock.now(),
      notAfter: plus(clock.now(), days(30)),
      epoch: 1,
      ...change,
    });

  /** A node that could connect, and what it says of itself. */
  const node = (role: MemberRole = 'exit', change: Partial<SelfDescription> = {}) => {
    const own = identity();
    const self: SelfDescription = {
      membership: membership(own.id, { roles: [role] }),
      role,
      region: EU,
      wireguardKey: undefined,
      capabilities: CAPABILITIES,
      sessions: [],
      supernode: undefined,
      ...change,
    };
    return { identity: own, id: own.id, self };
  };

  const supervisor = (options: Partial<StreamManagerOptions> = {}, handlers: Partial<StreamHandlers> = {}) => {
    const self = identity().id;
    const events: string[] = [];
    const manager = new StreamManager(
      {
        self,
        baseKey: keyOf(base.id),
        roles: ['exit', 'client'],
        requireCertificate: false,
        capacity: 10_000,
        ...options,
      },
      { clock, random, crypto, statements, log, metrics },
      {
        connected: (peer) => events.push(`connected ${peer.role}`),
        disconnected: (peer, end) => events.push(`disconnected ${peer.role} ${end.by}`),
        welcome: async () => ({ supernodes: [], addressPlan: undefined }),
        ...handlers,
      },
    );
    /** A stream to this supervisor, handed to its manager. */
    const open = (stream: Partial<FakeStreamOptions> = {}, accepted: Partial<AcceptedStream> = {}) => {
      const cable = fakeStream({ clock, ...stream });
      const challenge = random.bytes(32);
      manager.accept({ stream: cable.server, challenge, serverKeyHash, certified: undefined, ...accepted });
      return { cable, challenge };
    };
    return { manager, self, events, open };
  };

  type Supervisor = ReturnType<typeof supervisor>;
  type Node = ReturnType<typeof node>;

  /** The AuthRequest that this node would send on this stream; `seen` is what a man in the middle changes. */
  const authRequest = (
    from: Node,
    to: { readonly self: PeerId },
    challenge: Bytes,
    seen: { serverKeyHash?: Bytes } = {},
  ): AuthRequest =>
    makeAuthRequest(
      from.identity,
      from.self,
      { id: to.self, challenge, serverKeyHash: seen.serverKeyHash ?? serverKeyHash },
      clock.now(),
      random,
    );

  /** A connected peer driven by hand: what it is sent lands in `received`. */
  const join = async (to: Supervisor, from: Node, stream: Partial<FakeStreamOptions> = {}) => {
    const { cable, challenge } = to.open(stream);
    const received: string[] = [];
    cable.peer.listen({
      message: (message) => {
        received.push(message.kind);
        if (message.kind === 'ping') cable.peer.send({ kind: 'pong', id: message.id });
      },
      ended: () => {},
    });
    cable.peer.send(authRequest(from, to, challenge));
    await clock.advance(100);
    return { cable, received };
  };

  /** A network of these supervisors by name; `down` ones refuse. */
  const network = (
    supervisors: Readonly<Record<string, Supervisor>>,
    remote: Endpoint = endpoint('203.0.113.9:50000'),
  ) => {
    const down = new Set<string>();
    const dials: string[] = [];
    const cables: FakeStream[] = [];
    const options: { filter?: NonNullable<FakeStreamOptions['filter']> } = {};
    const refuse = () => Promise.reject(new VpndError('unreachable', 'nobody there', { retryable: true }));
    const port: Network = {
      dialControl: async (target): Promise<DialedStream> => {
        const { host } = target.address;
        dials.push(host);
        const supervisor = supervisors[host];
        if (supervisor === undefined || down.has(host)) return refuse();
        const { cable, challenge } = supervisor.open({ remote, ...options });
        cables.push(cable);
        return { stream: cable.peer, challenge, serverKeyHash };
      },
      call: refuse,
      fetchCa: refuse,
      serve: refuse,
      close: async () => {},
    };
    return { port, down, dials, cables, options };
  };

  const target = (host: string, to: Supervisor): DialTarget => ({
    address: { host, port: endpoint('192.0.2.1:443').port },
    expect: { kind: 'supernode', id: to.self },
    ca: '',
  });

  const upstream = (
    from: Node,
    net: { readonly port: Network },
    targets: readonly DialTarget[],
    handlers: Partial<UpstreamHandlers> = {},
    options: Partial<UpstreamOptions> = {},
  ) => {
    const events: string[] = [];
    const link = new Upstream(
      {
        identity: from.identity,
        role: from.self.role,
        region: EU,
        membership: () => from.self.membership,
        capabilities: () => CAPABILITIES,
        sessions: () => [],
        targets: () => targets,
        ...options,
      },
      { clock, random, crypto, network: net.port, log, metrics, version: 'test' },
      {
        up: (_, to) => events.push(`up ${to.address.host}`),
        down: (end) => events.push(`down ${end.by} ${end.error?.code ?? ''}`.trim()),
        ...handlers,
      },
    );
    return { link, events };
  };

  const command = (desired: Desired = { kind: 'disconnect', reason: 'test' }): Command => ({
    id: toHex(random.bytes(16)) as CommandId,
    session: toHex(random.bytes(16)) as SessionId,
    generation: 1,
    lease: seconds(60),
    desired,
  });

  return {
    clock,
    random,
    log,
    metrics,
    crypto,
    statements,
    base,
    serverKeyHash,
    identity,
    membership,
    node,
    supervisor,
    authRequest,
    join,
    network,
    target,
    upstream,
    command,
    /** Signature checks so far. */
    get verified() {
      return verified;
    },
  };
}
