import type { ClientConfig } from '../../config/types.js';
import type { Network } from '../../core/ports/network.js';
import { Path as WirePath } from '../../gen/vpnd/v1/types_pb.js';
import { parseIp } from '../../model/address.js';
import type { ExitCandidate, SupernodeInfo } from '../../model/directory.js';
import type { PeerId } from '../../model/ids.js';
import { hours, ms, seconds } from '../../model/time.js';
import { Changes } from '../common/changes.js';
import { History } from '../common/history.js';
import type { NodeKeys } from '../common/keys.js';
import { joinOverlay } from '../common/member.js';
import { Retention } from '../common/retention.js';
import { whereabouts } from '../common/whereabouts.js';
import type { ForwardingPorts, RunningRole } from '../ports.js';
import { BaseReach } from './base-reach.js';
import { openCarrier } from './carrier.js';
import { Connection } from './connection.js';
import { LoginWatch } from './login-watch.js';
import { PortalKeeper } from './portal.js';
import { clientStatus, exitSummaries } from './status.js';
import { exitWishOf } from './wish.js';

/** How long `vpnd exits` waits for a supernode before it says that none is reached. */
const UPSTREAM_LIMIT = seconds(10);
const ASK_LIMIT = seconds(10);
/** Nobody takes an hour to log in. */
const LONGEST_PORTAL = hours(1);

/** A client: a stream to a supernode, another one for its standby, and its tunnels. */
export async function startClient(config: ClientConfig, ports: ForwardingPorts, keys: NodeKeys): Promise<RunningRole> {
  const { log, dataplane, clock, store } = ports;
  const changes = new Changes();
  const history = new History({ facts: store.facts, clock, log });
  const retention = new Retention(config, { store, history, clock, log });
  const arrived = whereabouts(history, () => member.main());
  let started = false;
  const baseReach = new BaseReach(clock, async () => {
    // At a start there are no tunnels yet, and nothing is held.
    if (started) await connection.exempt();
  });
  const member = await joinOverlay(
    'client',
    config,
    {
      ...ports,
      network: outsideTunnels(
        ports.network,
        () => connection,
        () => member.supernodes(),
        baseReach,
      ),
    },
    keys,
    {
      // A fresh key per session instead: an exit then cannot tell that two of them are one person's.
      wireguardKey: undefined,
      capabilities: () => ({
        software: ports.version,
        ipv6: false,
        publicEndpoint: undefined,
        country: undefined,
        maxMbps: 0,
        sessionCapacity: 0,
      }),
      sessions: (supervisor) => connection.digest(supervisor),
      homes: () => connection.homes(),
      lastChoice: () => connection.lastChoice(),
      never: () => connection.never(),
      discreet: config.privacy === 'private',
    },
    {
      up: () => {
        arrived();
        return connection.lineUp();
      },
      command: (command, supervisor) => connection.orders.command(command, supervisor),
      news: (news, supervisor) => {
        if (news.kind === 'session-renewed') connection.renewed(news.session, news.generation, news.lease);
        if (news.kind === 'session-rekey') connection.keeper.rekeying.wanted(news.session, supervisor);
      },
      revoked: () => connection.orders.leaveShutOut(),
      datagrams: (session, packets, supervisor) => connection.datagrams(session, packets, supervisor),
      networkChanged: ({ connected }) => {
        history.record('network-changed', connected ? 'another network underneath' : 'no network underneath');
        underneath('the network changed');
      },
      woke: () => {
        history.record('woke', 'this machine had been asleep');
        underneath('this machine was asleep');
      },
      changed: () => {
        logins.look();
        changes.notify();
      },
    },
  );
  const logins = new LoginWatch({
    clock,
    find: ports.findLoginPage,
    isUp: () => member.main().isUp(),
    supernodes: () => member.supernodes(),
    happened: (code, text) => history.record(code, text),
    changed: () => changes.notify(),
  });
  started = true;
  const connection: Connection = new Connection({
    config,
    ports,
    besides: () => baseReach.exemptions(),
    baseKey: member.baseKey,
    revocations: member.revocations,
    supernodes: () => member.supernodes(),
    lines: () => member.lines(),
    main: () => member.main(),
    lineTo: (supernode) => member.lineTo(supernode),
    wantSecond: (want) => member.wantSecond(want),
    openCarrier: (options) => openCarrier(options, ports),
    happened: (code, text, session) => history.record(code, text, session),
    changed: () => changes.notify(),
  });
  const portal = new PortalKeeper({
    clock,
    log,
    portal: ports.portal,
    isHeld: () => connection.protection.isOn,
    isUp: () => member.main().isUp(),
    page: () => logins.url,
    isInTheWay: () => logins.isInTheWay(),
    happened: (code, text) => history.record(code, text),
    changed: () => changes.notify(),
  });
  await portal.start();
  await connection.start();
  connection.orders.leaveShutOut();
  retention.start();
  member.start();
  logins.look();
  log.info('client started', { peer_id: keys.identity.id });

  const exits = async (): Promise<readonly ExitCandidate[]> => {
    const { upstream } = member.main();
    await upstream.whenUp(UPSTREAM_LIMIT);
    const filter = { region: undefined, country: undefined, pool: undefined };
    const answer = await upstream.ask({ kind: 'list-exits', filter }, ASK_LIMIT);
    return answer.kind === 'exits' ? answer.exits : [];
  };
  const status = async () => {
    const found = await clientStatus(config, ports, member, connection);
    const more = [logins.problem, connection.dns.problem].filter((problem) => problem !== undefined);
    const facts = { ...found.facts, ...(portal.text === undefined ? {} : { portal: portal.text }) };
    return { ...found, facts, problems: [...(found.problems ?? []), ...more] };
  };
  return {
    local: {
      status,
      statusChanged: (signal) => changes.next(signal),
      ...history.local,
      up: async (request, signal) => {
        const wish = await exitWishOf(request, config.privacy, async () =>
          (await exits()).map((one): PeerId => one.id),
        );
        await connection.up(wish, signal);
        return status();
      },
      down: async () => {
        const { wasUp, releasedEverywhere } = await connection.down();
        return { wasUp, releasedEverywhere, lockedDown: connection.protection.lockdown };
      },
      setPortal: async (forMs) => {
        if (forMs === 0) await portal.close('asked for by hand');
        const open = forMs === 0 ? undefined : await portal.open(ms(Math.min(forMs, LONGEST_PORTAL)));
        return { url: open?.url ?? '', resolvers: [...(open?.resolvers ?? [])], untilMs: BigInt(open?.until ?? 0) };
      },
      setLockdown: async (on) => {
        await connection.lockDown(on);
        return status();
      },
      rotate: async (request) => {
        await connection.rotate(request.reason || 'asked for by hand');
        return status();
      },
      setPath: async (request, signal) => {
        const path =
          request.path === WirePath.DIRECT ? 'direct' : request.path === WirePath.UNSPECIFIED ? 'auto' : 'relay';
        await connection.setPath(path, signal);
        return status();
      },
      listExits: async (request) => ({ exits: exitSummaries(await exits(), request.region) }),
    },
    health: () => member.health(),
    stop: async () => {
      logins.stop();
      await portal.stop();
      await connection.stop();
      await member.stop();
      await retention.stop();
      history.close();
      return dataplane.inventory();
    },
  };

  function underneath(why: string): void {
    connection.networkChanged(why).catch((err: unknown) => log.warn('following the network failed', { err }));
    changes.notify();
  }
}

/**
 * The same network; streams are dialled once the way to them is exempt. A supernode's name leads through the tunnel like every other,
 * and where that is to be had from it there would be neither: its addresses are known.
 */
const outsideTunnels = (
  network: Network,
  connection: () => Connection,
  supernodes: () => readonly SupernodeInfo[],
  base: BaseReach,
): Network => ({
  dialControl: async (target, options) => {
    await connection().exempt();
    const { expect } = target;
    const { dns, protection } = connection();
    const isForced = (dns.isForced || protection.isOn) && !parseIp(target.address.host).ok;
    const known = supernodes().find((one) => expect.kind === 'supernode' && one.id === expect.id);
    const ips = isForced ? (known?.relayIps ?? []) : [];
    return inTurn([...ips, target.address.host], (host) =>
      network.dialControl({ ...target, address: { ...target.address, host } }, options),
    );
  },
  call: async (target, method, request, options) => {
    await base.ask(target.address, target.expect);
    return network.call(target, method, request, options);
  },
  fetchCa: async (address, caKeyHash, options) => {
    await base.ask(address);
    return network.fetchCa(address, caKeyHash, options);
  },
  serve: (options) => network.serve(options),
  close: () => network.close(),
});

/** What the first of them gives that gives anything; rejects as the last one does. */
async function inTurn<T>(hosts: readonly string[], attempt: (host: string) => Promise<T>): Promise<T> {
  const [first = '', ...more] = hosts;
  if (more.length === 0) return attempt(first);
  return attempt(first).catch(() => inTurn(more, attempt));
}
