import { setTimeout as pause } from 'node:timers/promises';
import type { NodeStatus, SessionStatus } from '../../src/gen/vpnd/v1/admin_pb.js';
import { Path } from '../../src/gen/vpnd/v1/types_pb.js';
import type { OverlayNode } from './node.js';

/** What a client's status says of its tunnels. */

export const activeSession = (status: NodeStatus): SessionStatus | undefined =>
  status.sessions.find(({ use }) => use === 'active' || use === '');

export const standbySession = (status: NodeStatus): SessionStatus | undefined =>
  status.sessions.find(({ use }) => use === 'standby');

export const isUp = (session: SessionStatus | undefined): session is SessionStatus => session?.state === 'up';

/** Slow machines exist; this only decides when to stop waiting for what never comes. */
const PATIENCE_MS = 60_000;
const LOOK_MS = 50;

/** The first status that fits; throws with the one seen last. */
export async function statusOf(
  node: OverlayNode,
  fits: (status: NodeStatus) => boolean,
  patienceMs = PATIENCE_MS,
): Promise<NodeStatus> {
  const giveUp = Date.now() + patienceMs;
  for (;;) {
    const status = await node.api.status();
    if (fits(status)) return status;
    if (Date.now() > giveUp) throw new Error(`${node.name}, waited for in vain, says: ${told(status)}`);
    await pause(LOOK_MS);
  }
}

/** Connected, with a warm standby. */
export const withStandby = (node: OverlayNode): Promise<NodeStatus> =>
  statusOf(node, (status) => isUp(activeSession(status)) && isUp(standbySession(status)));

function told({ sessions, problems }: NodeStatus): string {
  const lines = sessions.map(
    ({ use, state, path, lastChange }) => `${use || 'session'} ${state} ${Path[path]} (${lastChange})`,
  );
  return [...lines, ...problems].join('; ').slice(0, 800) || 'no session';
}
