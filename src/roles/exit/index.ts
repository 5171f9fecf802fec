import type { ExitConfig } from '../../config/types.js';
import { newCommand } from '../../core/commands.js';
import { CommandExecutor } from '../../core/executor.js';
import { sleep } from '../../core/ports/clock.js';
import type { SessionRecord } from '../../core/ports/store.js';
import { steadyClock } from '../../core/steady-clock.js';
import { NO_LOAD } from '../../model/directory.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { AddressPlan } from '../../model/messages.js';
import { ms, seconds } from '../../model/time.js';
import { Changes } from '../common/changes.js';
import { Erasing } from '../common/erasing.js';
import { History } from '../common/history.js';
import type { NodeKeys } from '../common/keys.js';
import { joinOverlay, type Member } from '../common/member.js';
import { Periodic } from '../common/periodic.js';
import { PresharedKeys } from '../common/preshared-keys.js';
import { adopted, reconcileRegularly } from '../common/reconciler.js';
import { Retention } from '../common/retention.js';
import { nodeStatus, type StatusInit } from '../common/status.js';
import { whereabouts } from '../common/whereabouts.js';
import type { ForwardingPorts, RunningRole } from '../ports.js';
import { Account } from './account.js';
import { contractStatus } from './contract.js';
import { Doors } from './doors.js';
import { KeySchedule, keyFact, rotateKey } from './key-schedule.js';
import { exitProjection } from './projection.js';
import { exitSessions } from './status.js';
import { anchorsOf, UplinkCheck } from './uplink-check.js';
import { WayKeeper } from './way-keeper.js';
import { WayOpener } from './way-opener.js';
import { WireGuardKeys } from './wireguard-keys.js';

const PLAN_FACT = 'address-plan';
const COUNT_EVERY = seconds(5);
const ACCOUNT_EVERY = seconds(15);
/** A supernode's relay ports take packets from an address that was vouched for a moment later. */
const RELAYS_FOLLOW = ms(250);

/**
 * An exit: a stream up to a supernode, and to a second one while that owns sessions here too; one WireGuard device, one
 * peer on it per session. Rejects with what enrolment or the data plane rejects with; the kernel is as it was then.
 */
export async function startExit(config: ExitConfig, ports: ForwardingPorts, keys: NodeKeys): Promise<RunningRole> {
  const { log, dataplane, store, metrics } = ports;
  const changes = new Changes();
  const history = new History({ facts: store.facts, clock: ports.clock, log });
  const retention = new Retention(config, { store, history, clock: ports.clock, log });
  const arrived = whereabouts(history, () => member.main());
  const ipv6 = config.ipv6 === 'on' || (config.ipv6 === 'auto' && (await dataplane.uplinks()).ipv6);
  const timeZone = config.timeZone ?? Intl.DateTimeFormat().resolvedOptions().timeZone;
  let plan = store.facts.get<AddressPlan>(PLAN_FACT);

  const reproject = (session: SessionId, change: () => void) => executor.reproject(session, change);
  const observe = () => dataplane.observePeers();
  const opener = new WayOpener({ ...ports, observe, reproject });
  const keeper = new WayKeeper({ log, reproject });
  const erasing = new Erasing(ports);
  const wireguard = new WireGuardKeys({
    facts: store.facts,
    clock: ports.clock,
    interface: config.interface,
    port: config.wireguardPort,
    first: () => keys.wireguard,
    keep: (pair) => keys.keepWireguard?.(pair),
  });
  const preshared = new PresharedKeys({
    ...ports,
    pq: config.pq,
    exitKey: (record) => wireguard.of(record).pair.publicKey,
    sessions: () => executor.sessions(),
    observe,
    reproject,
    erase: () => erasing.soon(),
  });
  const executor: CommandExecutor = new CommandExecutor(
    { ...ports, clock: steadyClock(ports.clock), ledger: store.ledger },
    opener.around(
      preshared.around(
        keeper.around(
          exitProjection({
            config,
            keys,
            wireguard,
            sessions: () => executor.sessions(),
            statements: ports.statements,
            clock: ports.clock,
            ipv6,
            plan: () => plan,
            closed: () => doors.closed,
            ended: (session, why) => {
              schedule.ended();
              const owner = store.ledger.session(session)?.owner;
              const line = owner === undefined ? member.main() : member.lineTo(owner);
              line?.upstream.tell({ kind: 'session-closed', session, reason: why });
              history.record(
                'session-closed',
                why === 'expired' ? 'nobody renewed its lease' : 'it was closed',
                session,
              );
              changes.notify();
            },
          }),
        ),
      ),
    ),
  );
  const member: Member = await joinOverlay(
    'exit',
    config,
    ports,
    keys,
    {
      get wireguardKey() {
        return wireguard.current.pair.publicKey;
      },
      capabilities: () => ({
        software: ports.version,
        ipv6,
        // Where another key has the port, clients do not reach the present one there.
        publicEndpoint: wireguard.portIsTaken ? undefined : config.publicEndpoint,
        country: config.country,
        maxMbps: config.maxMbps,
        sessionCapacity: config.sessionCapacity,
      }),
      sessions: (supervisor) => executor.sessions().filter((one) => one.owner === supervisor),
      homes: () => ownersOf(executor.sessions()),
      load: () => ({ ...NO_LOAD, sessions: executor.sessions().length, sessionCapacity: config.sessionCapacity }),
    },
    {
      up: async (welcome, supervisor) => {
        uplink.connected();
        schedule.connected();
        doors.connected();
        void speakUp(supervisor);
        const next = welcome.addressPlan;
        if (next === undefined || JSON.stringify(next) === JSON.stringify(plan)) return;
        plan = next;
        store.facts.put(PLAN_FACT, next);
        await executor.reconcile();
      },
      command: async (command, supervisor) => {
        const isNew = executor.session(command.session) === undefined;
        const done = await executor.execute(command, supervisor);
        if (isNew && executor.session(command.session) !== undefined) {
          history.record('session-opened', `by supernode ${shortId(supervisor)}`, command.session);
        }
        count();
        changes.notify();
        return done;
      },
      revoked: () => leaveBanned(),
      networkChanged: () => {
        uplink.lookNow();
        // Other networks are around this machine, which clients are not to reach.
        executor
          .reconcile()
          .catch((err: unknown) => log.warn('the data plane does not follow the network yet', { err }));
        void keeper.speakUp(executor.sessions());
      },
      changed: () => {
        arrived();
        changes.notify();
      },
    },
  );
  const tellAll = (code: string, message: string): void => {
    for (const line of member.lines()) line.upstream.tell({ kind: 'problem', code, message });
  };
  const doors: Doors = new Doors({
    ...ports,
    hours: config.hours,
    timeZone,
    facts: store.facts,
    history,
    tell: tellAll,
    putOut: (reason) => end(executor.sessions(), reason),
    changed: () => changes.notify(),
  });
  const account = new Account({ ...ports, timeZone, facts: store.facts });
  const uplink = new UplinkCheck({
    ...ports,
    history,
    hasRoute: async () => {
      const { ipv4, ipv6 } = await dataplane.uplinks();
      return ipv4 || ipv6;
    },
    anchors: () => anchorsOf(config, member),
    tell: tellAll,
    changed: () => changes.notify(),
  });
  const schedule: KeySchedule = new KeySchedule({
    ...ports,
    keys: wireguard,
    every: config.wireguardKeyEvery,
    history,
    executor,
    ask: (owner, sessions, reason) =>
      member.lineTo(owner)?.upstream.tell({ kind: 'sessions-move', sessions, reason }) === 'sent',
    end,
    portMoved: () => {
      for (const line of member.lines()) if (line.isUp()) line.upstream.redial();
    },
    erase: () => erasing.soon(),
    changed: () => changes.notify(),
  });
  adopted(await executor.start(), log);
  leaveBanned();
  const reconciler = reconcileRegularly(executor, ports, history);
  const gauges = new Periodic('counting', COUNT_EVERY, count, ports);
  const accounts = new Periodic(
    'reading what clients were refused',
    ACCOUNT_EVERY,
    async () => void (await account.look()),
    ports,
  );
  count();
  await account.look();
  preshared.start();
  accounts.start();
  schedule.start();
  reconciler.start();
  retention.start();
  gauges.start();
  uplink.start();
  doors.start();
  member.start();
  log.info('exit started', { peer_id: keys.identity.id, region: member.membership().region });

  const status = async (): Promise<StatusInit> => {
    const seen = await account.show();
    return {
      ...withProblem(nodeStatus('exit', config, ports, member), uplink.problem),
      dataplane: dataplane.engine,
      sessions: exitSessions(executor.sessions(), await dataplane.observePeers()),
      facts: {
        ipv6: ipv6 ? 'carried' : 'not carried',
        post_quantum: config.pq,
        wireguard_key: keyFact(wireguard, executor.sessions()),
        lent: doors.closed === undefined ? 'open' : `closed: ${doors.closed}`,
      },
      contract: contractStatus(config, timeZone, ipv6, doors, account, seen),
    };
  };
  return {
    local: {
      status,
      statusChanged: (signal) => changes.next(signal),
      rotateKey: (request) => rotateKey(schedule, request),
      pause: async ({ forMs }) => {
        doors.pause(forMs <= 0n ? undefined : ms(Number(forMs)));
        return await status();
      },
      resume: async () => {
        doors.resume();
        return await status();
      },
      ...history.local,
    },
    health: () => member.health(),
    stop: async () => {
      await uplink.stop();
      doors.stop();
      await accounts.stop();
      account.keep();
      await schedule.stop();
      await member.stop();
      await gauges.stop();
      await reconciler.stop();
      await preshared.stop();
      await executor.stop();
      erasing.stop();
      await retention.stop();
      history.close();
      if (executor.sessions().length > 0) {
        log.info('stopping with sessions in force', { count: executor.sessions().length });
        return dataplane.inventory();
      }
      // Nobody uses it: nothing has to stay.
      await dataplane.reconcile([]);
      return [];
    },
  };

  /** Nothing of a banned supernode's sessions stays: it can neither renew nor end them any more. */
  function leaveBanned(): void {
    end(
      executor.sessions().filter(({ owner }) => member.revocations.has(owner)),
      'its supernode was banned',
    );
  }

  /** Ends sessions by this exit's own decision. */
  function end(sessions: readonly SessionRecord[], reason: string): void {
    for (const { session, owner, generation } of sessions) {
      const command = newCommand(ports.random, session, generation + 1, ms(0), { kind: 'disconnect', reason });
      executor
        .execute(command, owner)
        .catch((err: unknown) => log.warn('a session that is to end is still there', { session_id: session, err }));
    }
  }

  /** The way to it may be another one than before, which its relay ports learn from a packet, once it is vouched for. */
  async function speakUp(supervisor: PeerId | undefined): Promise<void> {
    const sessions = () => executor.sessions().filter((one) => one.owner === supervisor);
    if (supervisor === undefined || sessions().length === 0) return;
    await member.lineTo(supervisor)?.vouch();
    await sleep(ports.clock, RELAYS_FOLLOW);
    await keeper.speakUp(sessions());
  }

  function count(): void {
    const { length } = executor.sessions();
    metrics.sessions.set(length);
    metrics.wgPeers.set(length);
  }
}

const withProblem = (status: StatusInit, problem: string | undefined): StatusInit =>
  problem === undefined ? status : { ...status, problems: [...(status.problems ?? []), problem] };

/** Supernodes with sessions here, the one with most first: the fewest wait should one of them have no line. */
function ownersOf(sessions: readonly SessionRecord[]): readonly PeerId[] {
  const counts = new Map<PeerId, number>();
  for (const { owner } of sessions) counts.set(owner, (counts.get(owner) ?? 0) + 1);
  return [...counts].sort(([, a], [, b]) => b - a).map(([owner]) => owner);
}
