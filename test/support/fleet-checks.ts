import type { Capture } from '../../chaos/lab/index.js';
import { activeSession, type Fleet, type FleetOptions, type OverlayNode } from '../../chaos/overlay/index.js';
import type { SessionStatus } from '../../src/gen/vpnd/v1/admin_pb.js';
import { Path } from '../../src/gen/vpnd/v1/types_pb.js';
import { eventually } from './overlay-checks.js';

/** A client in one region, two exits in the other: whatever it uses goes over two relays at first. */
export const TWO_EXITS_ABROAD: FleetOptions = {
  supernodes: [
    { name: 'a', region: 'eu' },
    { name: 'b', region: 'us' },
  ],
  exits: [
    { name: 'x1', region: 'us' },
    { name: 'x2', region: 'us' },
  ],
  clients: [{ name: 'c1', region: 'eu' }],
};

/** The path of a client's active session as people say it; empty without one. */
export async function pathOf(client: OverlayNode): Promise<string> {
  const session = activeSession(await client.api.status());
  return session === undefined ? '' : Path[session.path].toLowerCase();
}

/** The session that carries a client's traffic. Throws when there is none. */
export async function activeOf(client: OverlayNode): Promise<SessionStatus> {
  const session = activeSession(await client.api.status());
  if (session === undefined) throw new Error(`${client.name} has no session`);
  return session;
}

/** The web server sees a request of this machine come from one of these addresses, sooner or later. */
export async function reaches(
  fleet: Fleet,
  client: OverlayNode,
  addresses: readonly string[],
  limitMs = 30_000,
): Promise<string> {
  const look = () =>
    fleet.seenIp(client.host, undefined, 2).catch((thrown: unknown) => `nobody: ${(thrown as Error).message}`);
  return eventually(look, (seen) => addresses.includes(seen), limitMs);
}

/** Names of what happened on a node, oldest first. */
export async function eventsOf(node: OverlayNode): Promise<string[]> {
  return (await node.api.events(0)).map(({ code }) => code);
}

/** What must not be seen of a client on the network underneath: anything but tunnels, control streams and probes. */
export async function strangePackets(recording: Capture): Promise<unknown[]> {
  const seen = await recording.stop();
  return [...seen.except('tls', 'wireguard', 'probe')];
}
