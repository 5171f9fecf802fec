import type { MessageInitShape } from '@bufbuild/protobuf';
import type { SupernodeConfig } from '../../config/types.js';
import { newCommand } from '../../core/commands.js';
import { CommandExecutor } from '../../core/executor.js';
import { type RankingContext, rankExits } from '../../core/ranking.js';
import { steadyClock } from '../../core/steady-clock.js';
import type { DrainProgressSchema, DrainRequest } from '../../gen/vpnd/v1/admin_pb.js';
import type { Desired } from '../../model/command.js';
import { NO_LOAD, type SupernodeInfo } from '../../model/directory.js';
import { VpndError } from '../../model/errors.js';
import type { SessionId } from '../../model/ids.js';
import type { AddressPlan } from '../../model/messages.js';
import { err, ok } from '../../model/result.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import { type ConnectedPeer, StreamManager } from '../../transport/stream-manager.js';
import { Changes } from '../common/changes.js';
import { Erasing } from '../common/erasing.js';
import { History } from '../common/history.js';
import type { NodeKeys } from '../common/keys.js';
import { joinOverlay } from '../common/member.js';
import { Periodic } from '../common/periodic.js';
import { PresharedKeys } from '../common/preshared-keys.js';
import { adopted, reconcileRegularly } from '../common/reconciler.js';
import { Retention } from '../common/retention.js';
import type { ForwardingPorts, RunningRole } from '../ports.js';
import { BackSessions, RelayPorts } from './back.js';
import { callsOf } from './calls.js';
import { Carrier, withoutCarried } from './carrier.js';
import { whatPeersGoBy } from './directory-news.js';
import { Drain } from './drain.js';
import { ExitBook } from './exits.js';
import { FrontSessions } from './front.js';
import { serveOn } from './listeners.js';
import { Mesh } from './mesh.js';
import { Moves } from './moves.js';
import { supernodeProjection } from './plane.js';
import { Quarantine } from './quarantine.js';
import { Questions } from './questions.js';
import { Reflector } from './reflector.js';
import { ShuttingOut } from './revocations.js';
import { supernodeStatus } from './status.js';
import { Uplinks } from './uplinks.js';

const PLAN_FACT = 'address-plan';
/** Candidates each other supernode is asked for. */
const CANDIDATES = 4;
/** The other one only passes it on. */
const MOVE_TIMEOUT: Millis = seconds(5);
const KEY_LOST = 'its exit has lost the pre-shared key';
const NO_EXIT =
  'this supernode may not be an exit: enrol it with a token made with vpnd token create --role supernode --egress';

/**
 * A supernode: streams of its exits and clients, sessions for them, relay ports in the kernel, one stream up to base.
 * Rejects with what enrolment, the data plane or the listening port reject with, and with `wrong-role` when it shall be
 * an exit and base did not say that it may.
 */
export async function startSupernode(
  config: SupernodeConfig,
  ports: ForwardingPorts,
  keys: NodeKeys,
): Promise<RunningRole> {
  const { clock, random, dataplane, log, metrics, store, crypto, statements } = ports;
  const steady = steadyClock(clock);
  const self = keys.identity.id;
  const changes = new Changes();
  // Who uses which exit is nobody's business later on: events here name sessions, never clients.
  const history = new History({ facts: store.facts, clock, log });
  const retention = new Retention(config, { store, history, clock, log });
  const ipv6 = (await dataplane.uplinks()).ipv6;
  let plan = store.facts.get<AddressPlan>(PLAN_FACT);
  /** What peers were told last of the directory. */
  let toldPeers = '';

  const member = await joinOverlay(
    'supernode',
    config,
    ports,
    keys,
    {
      wireguardKey: config.egress ? keys.wireguard.publicKey : undefined,
      capabilities: () => ({
        software: ports.version,
        ipv6,
        publicEndpoint: undefined,
        country: config.country,
        maxMbps: 0,
        sessionCapacity: config.sessionCapacity,
      }),
      sessions: () => [],
      load,
      supernode: ownInfo,
    },
    {
      up: async (welcome) => {
        mesh.learn(welcome.supernodes);
        if (welcome.addressPlan !== undefined) await usePlan(welcome.addressPlan);
      },
      news: (news) => {
        if (news.kind !== 'directory') return;
        mesh.learn(news.supernodes);
        tellDirectory();
      },
      revoked: (change) => shuttingOut.changed(change),
      certified: () => {
        ports.audit.note({ code: 'membership-renewed', by: 'base', on: `supernode:${self}` });
        server?.renewed();
      },
      anchored: () => {
        const { serial } = member.enrolment().anchors.trust;
        ports.audit.note({ code: 'key-rotated', by: 'base', on: 'anchors', detail: { statement: serial } });
        server?.renewed();
        const news = { kind: 'anchors', chain: member.anchors() } as const;
        streams.broadcast('exit', news);
        streams.broadcast('client', news);
      },
      changed: () => changes.notify(),
    },
  );

  const mayBeExit = () => member.membership().roles.includes('exit');
  if (config.egress && !mayBeExit()) throw new VpndError('wrong-role', NO_EXIT);

  const mesh = new Mesh({
    self,
    clock,
    network: ports.network,
    facts: store.facts,
    log,
    ca: () => member.ca(),
    identity: () => member.tlsIdentity(),
    baseTargets: () => member.baseTargets(),
    refusal: (id) => member.revocations.refusal(id),
  });
  const erasing = new Erasing({ clock, log, store });
  const preshared = new PresharedKeys({
    pq: config.egress ? 'prefer' : 'off',
    crypto,
    clock,
    log,
    exitKey: () => keys.wireguard.publicKey,
    sessions: () => executor.sessions(),
    observe: () => dataplane.observePeers(),
    reproject: (session, change) => executor.reproject(session, change),
    erase: () => erasing.soon(),
  });
  const executor: CommandExecutor = new CommandExecutor(
    { clock: steady, crypto, ledger: store.ledger, dataplane, log, metrics },
    withoutCarried(
      preshared.around(
        supernodeProjection({
          config,
          keys,
          statements,
          clock,
          ipv6,
          addressPlan: () => plan,
          ended,
        }),
      ),
      // Made below, since it asks the executor; the executor asks nothing before it is started.
      { carries: (session) => carrier.carries(session), learned: (port) => carrier.learned(port) },
    ),
  );
  const reflector = new Reflector({ clock, crypto, streams: () => streams, moved });
  const relayPorts = new RelayPorts(config.relayPorts);
  const shared = {
    self,
    config,
    clock: steady,
    random,
    log,
    facts: store.facts,
    ports: relayPorts,
    restingPorts: new Quarantine('ports', relayPorts, { facts: store.facts, clock: steady, log }),
    relays: () => dataplane.observeRelays(),
    order: (session: SessionId, lease: Millis, desired: Desired) =>
      executor.execute(newCommand(random, session, executor.nextGeneration(session), lease, desired), self),
    streams: () => streams,
    vouched: (peer: ConnectedPeer) => reflector.addressesOf(peer),
  };
  const back = new BackSessions({
    ...shared,
    addressPlan: () => plan,
    ownMembership: () => member.enrolment().membership,
    keyLost: (session, origin) => {
      if (origin === self) moves.rekey(front.all().filter((one) => one.session === session));
      else moves.askSupernode(origin, [session], { reason: KEY_LOST, leaveExit: false, urgent: false, rekey: true });
    },
    relayIpsOf: (id) => (id === self ? config.relayIps : (mesh.info(id)?.relayIps ?? [])),
  });
  const exits = new ExitBook({
    self,
    region: member.membership().region,
    config,
    streams: () => streams,
    sessionsAt: (exit) => back.countAt(exit),
    ipv6,
    egressReady: () => plan !== undefined && mayBeExit(),
  });
  const front = new FrontSessions({
    ...shared,
    metrics,
    regions: () => [...new Set([...mesh.regions(), member.membership().region])].sort(),
    rank: async (peer, request) => {
      const ask = { ...request, limit: CANDIDATES + request.avoidExits.length };
      const context = rankingContext(peer);
      const there = await mesh.candidates(ask);
      return rankExits([...exits.all(), ...there], request, context);
    },
    openAt: (supernode, request) =>
      supernode === self ? back.open(self, request) : mesh.call(supernode, 'openSession', request),
    updateAt: (supernode, request) =>
      supernode === self ? back.update(self, request) : mesh.call(supernode, 'updateSession', request),
    carried: (session) => carrier.carries(session),
    moved: (session, path, why) => {
      history.record(path === 'direct' ? 'path-direct' : 'path-relay', why, session);
      changes.notify();
    },
    closeAt: async (supernode, request) => {
      if (supernode === self) await back.close(self, request);
      else await mesh.call(supernode, 'closeSession', request, seconds(25));
    },
  });
  const carrier: Carrier = new Carrier({
    clock,
    log,
    udpSockets: ports.udpSockets,
    dataplane,
    front: (session) => front.get(session),
    record: (session) => executor.session(session),
    reproject: (session, change) => executor.reproject(session, change),
    offer: (client, message) => streams.offer(client, message),
  });
  const moves = new Moves({
    random,
    log,
    lease: config.lease,
    front,
    streams: () => streams,
    moveAt: (supernode, request) => mesh.call(supernode, 'moveSessions', request, MOVE_TIMEOUT),
  });
  const shuttingOut: ShuttingOut = new ShuttingOut({
    self,
    clock,
    log,
    audit: ports.audit,
    revocations: () => member.revocations,
    streams: () => streams,
    front,
    back,
    moves,
  });
  const uplinks = new Uplinks({ self, clock, log, back, exits, moves });
  const questions = new Questions({
    exits,
    mesh,
    front,
    network: ports.network,
    baseTargets: () => member.baseTargets(),
  });
  const drain = new Drain({
    self,
    clock,
    random,
    log,
    history,
    front,
    back,
    moves,
    streams: () => streams,
    elsewhere: () => mesh.anyServing(),
    next: () => mesh.next(),
    announce: () => {
      // Base may be away: it hears when this supernode's stream is back, and peers hear it from here in any case.
      member.upstream.tell({ kind: 'supernode', supernode: ownInfo() });
      tellDirectory();
    },
    changed: () => changes.notify(),
  });
  const streams: StreamManager = new StreamManager(
    {
      self,
      baseKey: member.baseKey,
      roles: ['exit', 'client'],
      requireCertificate: false,
      capacity: config.sessionCapacity * 2,
    },
    { clock, random, crypto, statements, log, metrics },
    {
      barred: (claimed) => member.revocations.refusal(claimed),
      revocations: () => member.revocations.head,
      connected: (peer) => {
        shuttingOut.greet(peer);
        const chain = member.anchors();
        if (chain.length > 0) streams.send(peer.id, { kind: 'event', news: { kind: 'anchors', chain } });
        if (peer.role === 'exit') exitMoved(peer);
        else front.clientConnected(peer);
        changes.notify();
      },
      disconnected: (peer) => {
        member.revocations.forget(peer.id);
        if (peer.role === 'client') void carrier.clientGone(peer.id);
        changes.notify();
      },
      datagrams: (peer, session, packets) => carrier.datagrams(peer.id, session, packets),
      welcome: async (peer) => ({
        supernodes: near(directory(), peer),
        addressPlan:
          peer.role === 'exit' && plan !== undefined ? { ...plan, blocksIpv4: [], blocksIpv6: [] } : undefined,
      }),
      authorize: (peer) => {
        if (!drain.takes(peer)) return err(drain.refusal());
        return peer.role === 'exit' && plan === undefined
          ? err(new VpndError('full', 'this supernode has not got its addresses from base yet', { retryable: true }))
          : ok(undefined);
      },
      exitRequest: (peer, request) => {
        if (peer.role !== 'client') throw new VpndError('forbidden', 'only clients ask for an exit');
        if (drain.draining) throw drain.refusal();
        return front
          .request(peer, request)
          .then(async (grant) => {
            const refusal = member.revocations.refusal(peer.id);
            if (refusal !== undefined) {
              // It was shut out while its session was being set up.
              await front.closeFor(peer.id, grant.session, 'revoked');
              throw refusal;
            }
            history.record('session-opened', 'for a client here', grant.session);
            return grant;
          })
          .finally(() => changes.notify());
      },
      info: (peer, question) => questions.answer(peer, question),
      news: (peer, news) => {
        if (news.kind === 'revocations' || news.kind === 'revocations-wanted') {
          shuttingOut.heard(peer.id, news);
        } else if (peer.role === 'client' && news.kind === 'session-closed') {
          const isHere = front.all().some((one) => one.session === news.session && one.client === peer.id);
          void front
            .closeFor(peer.id, news.session, news.reason)
            .then(() => isHere && history.record('session-closed', 'its client here has left', news.session))
            .catch((thrown: unknown) => log.warn('a session was not closed', { session_id: news.session, err: thrown }))
            .finally(() => changes.notify());
        } else if (peer.role === 'client' && news.kind === 'session-handshake') {
          front.established(peer.id, news.session, news.took);
        } else if (peer.role === 'client' && news.kind === 'session-path') {
          front.pathWanted(peer.id, news.session, news.path, news.reason);
        } else if (peer.role === 'exit' && news.kind === 'sessions-move') {
          uplinks.move(peer, news.sessions, news.reason);
        } else if (news.kind === 'problem') {
          log.warn('a peer reports a problem', { peer_id: peer.id, code: news.code, reason: news.message });
          if (peer.role !== 'exit') return;
          if (news.code === 'uplink-down' || news.code === 'uplink-up') {
            uplinks.told(peer, 'internet', news.code === 'uplink-down');
          } else if (news.code === 'exit-closed' || news.code === 'exit-open') {
            uplinks.told(peer, 'owner', news.code === 'exit-closed');
          }
        }
      },
    },
  );

  // Sessions first: what is in force must be known before a peer's digest is held against it.
  back.load();
  front.load(plan);
  shared.restingPorts.load();
  adopted(await executor.start(), log);
  // What the disk knows of who is out holds with base away, too.
  shuttingOut.enforce();
  const probes =
    config.probePort === undefined
      ? undefined
      : await ports.datagrams.serve(config.probePort, (q, from) => reflector.answer(q, from));
  const server = await serveOn(ports.network, [config.listen, ...config.listenAlso], {
    ca: () => member.ca(),
    identity: () => member.tlsIdentity(),
    control: (accepted) => streams.accept(accepted),
    unary: callsOf({ callerOf: (certified) => shuttingOut.caller(certified), back, exits, moves, drain, history }),
  }).catch(async (thrown: unknown) => {
    await probes?.close();
    throw thrown;
  });
  const reconciler = reconcileRegularly(executor, ports, history);
  const gauges = new Periodic('counting', seconds(5), count, ports);
  preshared.start();
  reconciler.start();
  retention.start();
  gauges.start();
  front.start();
  member.start();
  log.info('supernode started', { peer_id: self, region: member.membership().region });

  return {
    local: {
      status: () =>
        supernodeStatus({ config, ports, member, streams, front, back, relayPorts, plan, server, drain, carrier }),
      statusChanged: (signal) => changes.next(signal),
      ...history.local,
      drain: (request, signal) => drainFor(request, signal),
    },
    health: () => {
      // Base may be down: peers connect, reconnect and get exits all the same.
      const link = member.health();
      return { ok: true, detail: `${streams.count()} streams; base: ${link.detail}` };
    },
    stop: async () => {
      await drain.leave(config.drainTimeout);
      drain.stop();
      await gauges.stop();
      await reconciler.stop();
      await preshared.stop();
      await front.stop();
      await carrier.stop();
      await member.stop();
      await streams.close(new VpndError('closed', 'the supernode is shutting down', { retryable: true }));
      await server.close();
      await probes?.close();
      await executor.stop();
      erasing.stop();
      await retention.stop();
      history.close();
      if (executor.sessions().length > 0) return dataplane.inventory();
      await dataplane.reconcile([]);
      return [];
    },
  };

  async function usePlan(next: AddressPlan): Promise<void> {
    if (JSON.stringify(next) === JSON.stringify(plan)) return;
    plan = next;
    store.facts.put(PLAN_FACT, next);
    front.usePlan(next);
    if (config.egress) await executor.reconcile();
  }

  /** Everybody as base published them, and this supernode as it is. */
  function directory(): readonly SupernodeInfo[] {
    return member.supernodes().map((one) => (one.id === self ? { ...one, draining: drain.draining } : one));
  }

  function tellDirectory(): void {
    const supernodes = directory();
    const goneBy = whatPeersGoBy(supernodes);
    if (goneBy === toldPeers) return;
    toldPeers = goneBy;
    const news = { kind: 'directory', supernodes } as const;
    streams.broadcast('exit', news);
    streams.broadcast('client', news);
  }

  async function* drainFor(
    request: DrainRequest,
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof DrainProgressSchema>> {
    const asked = Number(request.timeoutMs);
    const limit = asked > 0 ? ms(asked) : config.drainTimeout;
    await drain.begin({ force: limit === 0 });
    yield* drain.watch(limit, signal);
  }

  function ended(session: SessionId, why: 'disconnect' | 'expired'): void {
    carrier.ended(session);
    if (why !== 'expired') return;
    history.record('session-closed', 'nobody renewed its lease', session);
    back.expired(session);
    front.expired(session);
  }

  function moved(peer: ConnectedPeer): void {
    if (peer.role === 'client') front.clientMoved(peer);
    else exitMoved(peer);
  }

  function exitMoved(peer: ConnectedPeer): void {
    back.exitConnected(peer);
    front.exitMoved(peer.id);
  }

  function rankingContext(peer: ConnectedPeer): RankingContext {
    return {
      self,
      relayIps: config.relayIps,
      clientIps: reflector.addressesOf(peer),
      clientLatency: peer.latency,
      latencyTo: (id) => mesh.latencyTo(id),
      relayIpsOf: (id) => mesh.info(id)?.relayIps ?? [],
      unusable: (exit) => member.revocations.refusal(exit)?.message ?? exits.unusable(exit),
    };
  }

  function load() {
    const { cpuPercent, txMbps, rxMbps } = ports.hostLoad();
    return {
      ...NO_LOAD,
      sessions: front.all().length + back.all().length,
      sessionCapacity: config.sessionCapacity,
      streams: streams.count(),
      cpuPercent,
      txMbps,
      rxMbps,
    };
  }

  function ownInfo(): SupernodeInfo {
    return {
      id: self,
      region: member.membership().region,
      addresses: config.advertise,
      relayIps: config.relayIps,
      probePort: config.probePort,
      draining: drain.draining,
      load: load(),
    };
  }

  function count(): void {
    back.sweep(steady.now());
    metrics.relaySessions.set(executor.sessions().length);
    metrics.sessions.set(front.all().length);
  }
}

/** A peer's list of supernodes: its own region's first. */
function near(supernodes: readonly SupernodeInfo[], peer: ConnectedPeer): readonly SupernodeInfo[] {
  const own = supernodes.filter((one) => one.region === peer.region);
  return [...own, ...supernodes.filter((one) => one.region !== peer.region)];
}
