import type { ClientConfig } from '../../config/types.js';
import type { ExitCandidate } from '../../model/directory.js';
import { VpndError } from '../../model/errors.js';
import type { PeerId } from '../../model/ids.js';
import { seconds } from '../../model/time.js';
import { Changes } from '../common/changes.js';
import type { NodeKeys } from '../common/keys.js';
import { joinOverlay } from '../common/member.js';
import { Periodic } from '../common/periodic.js';
import type { ForwardingPorts, RunningRole } from '../ports.js';
import { clientStatus, exitSummaries } from './status.js';
import { Tunnel } from './tunnel.js';
import { exitWishOf } from './wish.js';

/** How long `vpnd up` waits for a supernode before it says that none is reached. */
const UPSTREAM_LIMIT = seconds(10);
/** Four candidates of five seconds each, and some more. */
const REQUEST_LIMIT = seconds(40);
const ASK_LIMIT = seconds(10);
/** How long `vpnd down` waits for the supernode that the session belongs to, when another one is connected. */
const HOMING_LIMIT = seconds(4);
const CHECK_EVERY = seconds(10);

/** A client: one stream up to a supernode, at most one tunnel. */
export async function startClient(config: ClientConfig, ports: ForwardingPorts, keys: NodeKeys): Promise<RunningRole> {
  const { log, dataplane } = ports;
  const changes = new Changes();
  const member = await joinOverlay(
    'client',
    config,
    ports,
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
      sessions: (supervisor) => tunnel.digest(supervisor),
      home: () => tunnel.supervisor(),
    },
    {
      up: () => tunnel.refreshExemptions(),
      command: async (command) => {
        if (command.desired.kind !== 'disconnect') {
          throw new VpndError('not-supported', `${command.desired.kind} is not supported yet`);
        }
        tunnel.disconnected(command.session, command.desired.reason);
        return { offer: undefined };
      },
      news: (news) => {
        if (news.kind === 'session-renewed') tunnel.renewed(news.session, news.generation, news.lease);
      },
      changed: () => changes.notify(),
    },
  );
  const { upstream } = member;
  const tunnel: Tunnel = new Tunnel({
    config,
    ports,
    baseKey: member.baseKey,
    supernodes: () => member.supernodes(),
    requestExit: async (wish, sessionKey) => {
      await upstream.whenUp(UPSTREAM_LIMIT);
      return upstream.requestExit(
        { ...wish, sessionKey, kemKey: new Uint8Array(0), standby: false, avoidExits: [], avoidSupernodes: [] },
        REQUEST_LIMIT,
      );
    },
    supervisor: () => {
      const { expect } = upstream.status().supervisor ?? {};
      return expect?.kind === 'supernode' ? expect.id : undefined;
    },
    goHome: async () => {
      upstream.redial();
      await upstream.whenUp(HOMING_LIMIT).catch(() => {});
    },
    tell: (news) => upstream.tell(news) === 'sent',
    changed: () => changes.notify(),
  });
  await tunnel.start();
  const checks = new Periodic('looking after the tunnel', CHECK_EVERY, () => tunnel.check(), ports);
  checks.start();
  member.start();
  log.info('client started', { peer_id: keys.identity.id });

  const exits = async (): Promise<readonly ExitCandidate[]> => {
    await upstream.whenUp(UPSTREAM_LIMIT);
    const filter = { region: undefined, country: undefined, pool: undefined };
    const answer = await upstream.ask({ kind: 'list-exits', filter }, ASK_LIMIT);
    return answer.kind === 'exits' ? answer.exits : [];
  };
  const status = () => clientStatus(config, ports, member, tunnel);
  return {
    local: {
      status,
      statusChanged: (signal) => changes.next(signal),
      up: async (request, signal) => {
        const wish = await exitWishOf(request, config.privacy, async () =>
          (await exits()).map((one): PeerId => one.id),
        );
        await tunnel.up(wish, signal);
        return status();
      },
      down: async () => {
        const { wasUp, releasedEverywhere } = await tunnel.down();
        return { wasUp, releasedEverywhere };
      },
      listExits: async (request) => ({ exits: exitSummaries(await exits(), request.region) }),
    },
    health: () => member.health(),
    stop: async () => {
      await checks.stop();
      await tunnel.stop();
      await member.stop();
      return dataplane.inventory();
    },
  };
}
