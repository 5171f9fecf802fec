import { NO_AUDIT } from '../../src/core/ports/audit.js';
import type { Datagrams } from '../../src/core/ports/datagrams.js';
import type { DialedStream, Network, StreamEnd } from '../../src/core/ports/network.js';
import type { NetworkState } from '../../src/core/ports/network-watch.js';
import { parseProbeQuestion, probeAnswer } from '../../src/core/probe.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import { type Load, NO_LOAD, type SupernodeInfo } from '../../src/model/directory.js';
import { VpndError } from '../../src/model/errors.js';
import { keyOf, type PeerId } from '../../src/model/ids.js';
import type { ControlMessage } from '../../src/model/messages.js';
import type { MemberRole, Region } from '../../src/model/role.js';
import { type Millis, ms } from '../../src/model/time.js';
import { saveEnrolment } from '../../src/roles/common/enrolment-facts.js';
import { joinOverlay, type MemberHandlers } from '../../src/roles/common/member.js';
import { trustIn } from '../../src/roles/common/trust-anchors.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { memoryCertificates } from '../../src/transport/memory/certificates.js';
import { endpoint, type FakeStream, type FakeStreamOptions } from './fake-stream.js';
import { exitConfig } from './overlay-world/configs.js';
import { CAPABILITIES, streamWorld } from './stream-world.js';

export interface MemberWorldOptions {
  readonly role?: MemberRole;
  readonly region?: string;
  /** By name, in the order base publishes them: region, and round trip from the node in ms. */
  readonly supernodes: Readonly<Record<string, readonly [region: string, rtt: number]>>;
  readonly handlers?: Partial<MemberHandlers>;
  readonly seed?: number;
}

/**
 * One node as `joinOverlay` makes it, among real stream managers as its supernodes. A test has its hands on the
 * supernodes, on the network between, and on what the node says its homes are.
 */
export async function memberWorld(options: MemberWorldOptions) {
  const world = streamWorld(options.seed);
  const { clock, random, crypto } = world;
  const role = options.role ?? 'exit';
  const region = (options.region ?? 'eu') as Region;
  const events: string[] = [];
  const dials: string[] = [];
  const probes: string[] = [];
  const vouches: string[] = [];
  const streams: { readonly to: string; readonly cable: FakeStream }[] = [];
  const state = {
    homes: [] as string[],
    draining: new Set<string>(),
    /** Connections are refused. */
    down: new Set<string>(),
    /** Silent: a machine that is off. */
    dead: new Set<string>(),
    udp: true,
    /** WireGuard datagrams that came up a stream. */
    carried: 0,
    /** How often the node's NAT has forgotten all connections. */
    forgotten: 0,
    /** Whether the node has any network at all. */
    network: { fingerprint: 'wlan0 192.0.2.7', connected: true } as NetworkState,
  };

  const supernodes = Object.entries(options.supernodes).map(([name, [where, rtt]], i) => ({
    name,
    region: where as Region,
    rtt: ms(rtt),
    ip: `198.51.100.${i + 1}` as IpAddress,
    ...world.supervisor(
      {},
      {
        welcome: async () => ({ supernodes: directory(), addressPlan: undefined }),
        datagrams: (_, __, packets) => {
          state.carried += packets.length;
        },
      },
    ),
  }));
  const named = (name: string) => {
    const found = supernodes.find((one) => one.name === name);
    if (found === undefined) throw new Error(`no supernode is called ${name}`);
    return found;
  };
  const nameOf = (id: PeerId | undefined) => supernodes.find((one) => one.self === id)?.name ?? '-';
  const load: Load = NO_LOAD;
  const directory = (): readonly SupernodeInfo[] =>
    supernodes.map(({ name, self, region: where, ip }) => ({
      id: self,
      region: where,
      addresses: [{ host: name, port: 443 as Port }],
      relayIps: [ip],
      probePort: 3478 as Port,
      draining: state.draining.has(name),
      load,
    }));
  const reaches = (name: string) => state.network.connected && !state.dead.has(name);

  const refused = (why: string) => new VpndError('unreachable', why, { retryable: true });
  const network: Network = {
    dialControl: (target, { timeout, signal }) =>
      new Promise<DialedStream>((resolve, reject) => {
        const { host } = target.address;
        dials.push(host);
        const later = (after: Millis, act: () => void) => {
          const cancel = clock.after(after, act);
          signal?.addEventListener('abort', () => {
            cancel();
            reject(signal.reason);
          });
        };
        if (!state.network.connected) return later(ms(1), () => reject(refused('network is unreachable')));
        if (state.dead.has(host)) return later(timeout, () => reject(refused('no answer')));
        later(named(host).rtt, () => {
          if (!reaches(host) || state.down.has(host)) return reject(refused('nobody there'));
          const born = state.forgotten;
          const filter: FakeStreamOptions['filter'] = (from) => {
            if (born < state.forgotten && from === 'peer') clock.after(named(host).rtt, () => cable.cut());
            return reaches(host) && born === state.forgotten ? 'pass' : 'drop';
          };
          const { cable, challenge } = named(host).open({ latency: ms(named(host).rtt / 2), filter });
          streams.push({ to: host, cable });
          resolve({ stream: cable.peer, challenge, serverKeyHash: world.serverKeyHash });
        });
      }),
    call: () => Promise.reject(refused('nobody there')),
    fetchCa: () => Promise.reject(refused('nobody there')),
    serve: () => Promise.reject(refused('not here')),
    close: async () => {},
  };

  const datagrams: Datagrams = {
    serve: () => Promise.reject(new Error('not here')),
    ask: (to, question, accept, timeout) =>
      new Promise((resolve) => {
        const at = supernodes.find((one) => one.ip === to.ip);
        const parsed = parseProbeQuestion(question);
        if (at === undefined || parsed === undefined) throw new Error(`nobody is asked at ${to.ip}`);
        (parsed.kind === 'plain' ? probes : vouches).push(at.name);
        const answers = state.udp && reaches(at.name);
        const answer = probeAnswer(parsed.nonce, endpoint('203.0.113.9:50000'));
        clock.after(answers ? at.rtt : timeout, () => resolve(answers && accept(answer) ? answer : undefined));
      }),
  };

  const listeners = new Set<(next: NetworkState) => void>();
  const identity = crypto.identityFromSeed(random.bytes(32));
  const store = openMemoryStore();
  const id = identity.id;
  saveEnrolment(store.facts, {
    peer: id,
    role,
    region,
    membership: world.membership(id, { roles: [role], region }),
    anchors: { trust: trustIn(keyOf(world.base.id), ['']), chain: [] },
    baseAddresses: [],
    supernodes: directory(),
  });
  const member = await joinOverlay(
    role,
    { ...exitConfig('x') },
    {
      clock,
      random,
      crypto,
      statements: world.statements,
      certificates: memoryCertificates(random),
      network,
      store,
      log: world.log,
      audit: NO_AUDIT,
      metrics: world.metrics,
      version: 'test',
      datagrams,
      networkWatch: {
        current: () => state.network,
        listen: (listener) => {
          listeners.add(listener);
          return () => listeners.delete(listener);
        },
      },
    },
    { identity, wireguard: crypto.wireGuardKeyPair(), joinToken: undefined },
    {
      wireguardKey: undefined,
      capabilities: () => CAPABILITIES,
      sessions: () => [],
      homes: () => state.homes.map((name) => named(name).self),
    },
    {
      up: (_, at) => void events.push(`up ${nameOf(at)}`),
      down: (end: StreamEnd, at) => void events.push(`down ${nameOf(at)} ${end.error?.details.replaced ?? ''}`.trim()),
      woke: () => events.push('woke'),
      networkChanged: (next) => events.push(`network ${next.connected ? next.fingerprint : 'gone'}`),
      changed: () => {},
      ...options.handlers,
    },
  );

  return {
    ...world,
    state,
    events,
    dials,
    probes,
    vouches,
    streams,
    member,
    id,
    named,
    nameOf,
    directory,
    supernodes,
    advance: (duration: number) => clock.advance(duration),
    /** Where each line is connected: `-` for one that is not. */
    at: () => member.lines().map((line) => (line.isUp() ? nameOf(line.supervisor()) : '-')),
    main: () => nameOf(member.main().supervisor()),
    /** How many streams of the node each supernode has that it knows to be alive. */
    connectedAt: () => supernodes.filter((one) => one.manager.peer(id) !== undefined).map((one) => one.name),
    send: (name: string, message: ControlMessage) => named(name).manager.send(id, message),
    /** `name` announces itself as draining to the node, as a supernode does; the others hear of it too. */
    drain: (name: string) => {
      state.draining.add(name);
      named(name).manager.send(id, { kind: 'event', news: { kind: 'directory', supernodes: directory() } });
    },
    /** The machine of `name` loses power: what is open stays open, and silent. */
    kill: (name: string) => void state.dead.add(name),
    /** It starts again: the streams it had are gone, and their peers learn so as soon as they send. */
    revive: (name: string) => {
      for (const one of streams) if (one.to === name) one.cable.cut();
      state.dead.delete(name);
    },
    /** The NAT before the node begins anew: what a supernode sends is lost, and what the node sends is answered by a reset. */
    rebind: () => {
      state.forgotten++;
    },
    /** The node's machine is on another network, or on none. */
    changeNetwork: (next: NetworkState, streamsLive = false) => {
      state.network = next;
      if (next.connected && !streamsLive) for (const one of streams) one.cable.silence();
      for (const listener of listeners) listener(next);
    },
  };
}

export type MemberWorld = Awaited<ReturnType<typeof memberWorld>>;
