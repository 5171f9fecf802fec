import type { ClientConfig } from '../../../src/config/types.js';
import { seconds } from '../../../src/model/time.js';
import { type OverlayWorld, overlayWorld, type WorldOptions } from '../overlay-world.js';
import type { NatKind } from './nat.js';
import type { Way } from './packet-plane.js';

/**
 * Three regions: the client's own without exits, one with two exits, one with one. The client has a standby, and every
 * session goes the way it will go: direct, or with `random` routers over relays.
 */
export async function warm(
  options: WorldOptions & { readonly nat?: NatKind; readonly client?: Partial<ClientConfig> } = {},
): Promise<OverlayWorld> {
  const { nat = 'port-preserving', client, exits = [{ region: 'eu' }, { region: 'ap' }, { region: 'eu' }] } = options;
  const world = await overlayWorld({
    supernodes: [{ region: 'us' }, { region: 'eu' }, { region: 'ap' }],
    clients: [{ standby: true, nat, ...client, region: 'us' }],
    ...options,
    exits: exits.map((exit) => ({ nat, ...exit })),
  });
  await world.up('c0');
  if (client?.standby !== false) await standbyReady(world);
  await world.advance(seconds(5));
  return world;
}

/** Waits until the client has a standby that carries packets. */
export async function standbyReady(world: OverlayWorld, name = 'c0', limit = 60_000): Promise<void> {
  const giveUpAt = world.clock.monotonic() + limit;
  for (;;) {
    const standby = await world.session(name, 'standby');
    if (standby?.state === 'up' && world.way(name, standby.device).ok) return;
    if (world.clock.monotonic() > giveUpAt)
      throw new Error(`${name} has no standby: ${JSON.stringify(await said(world, name))}`);
    await world.advance(100);
  }
}

/** The exit behind a client's active tunnel, or another of its tunnels. */
export async function exitOf(world: OverlayWorld, name = 'c0', use = 'active'): Promise<string> {
  const id = (await world.session(name, use))?.exitId;
  const found = world.all().find((one) => one.id === id);
  if (found === undefined) throw new Error(`${name} has no ${use} tunnel`);
  return found.name;
}

/** Names of the supernodes that a client's packets pass. */
export const relaysOf = (way: Way): readonly string[] =>
  way.ok ? [...new Set(way.hops.slice(0, -1).map((hop) => hop.split(':')[0] ?? ''))] : [];

async function said(world: OverlayWorld, name: string) {
  const { sessions, problems } = await world.status(name);
  return { sessions: sessions?.map(({ use, state }) => `${use} ${state}`), problems };
}
