import { freezeMachine, killMachine, type OverlayNode, thawMachine } from '../../chaos/overlay/index.js';
import type { Bed, Stance } from './bed.js';
import { type BedEvent, recoveredAlways, recoveredWithin } from './event.js';

/** What nobody asked for: exits and relays that die, stand still, or are cut off. */

const WATCH_MS = 8000;
/** Twice the time in which all but one of a hundred are to be back. */
const EXIT_WATCH_MS = 5000;

/** Something happens to the exit in use; `undo` brings it back for the next run. */
function exitEvent(
  name: string,
  title: string,
  fault: (bed: Bed, exit: OverlayNode) => Promise<void>,
  undo: (bed: Bed, exit: OverlayNode) => Promise<void>,
  stance: Stance = { path: 'direct' },
): BedEvent {
  return {
    name,
    title,
    limits: recoveredWithin(1500, 2500),
    async once(bed) {
      const { exit } = await bed.ready(stance);
      bed.undo(() => undo(bed, bed.node(exit)));
      return bed.measure(() => fault(bed, bed.node(exit)), { watchMs: EXIT_WATCH_MS });
    },
  };
}

export const exitKilled = exitEvent(
  'exit-killed',
  'exit killed (SIGKILL of everything on it)',
  (_, exit) => killMachine(exit),
  (_, exit) => exit.start(),
);

export const exitFrozen = exitEvent(
  'exit-frozen',
  'exit frozen (SIGSTOP of everything on it, nothing closed)',
  (_, exit) => freezeMachine(exit),
  (_, exit) => thawMachine(exit),
);

export const exitUnplugged = exitEvent(
  'exit-unplugged',
  'exit’s host unplugged',
  (_, exit) => exit.host.unplug(),
  (_, exit) => exit.host.replug(),
);

export const exitFrozenBehindRelays = exitEvent(
  'exit-frozen-relayed',
  'exit frozen, behind two relays',
  (_, exit) => freezeMachine(exit),
  (_, exit) => thawMachine(exit),
  { path: 'private' },
);

/** It goes on answering probes: only itself can tell. */
export const exitCutOff: BedEvent = {
  name: 'exit-cut-off',
  title: 'exit reaches its supernode only, and answers probes',
  limits: [],
  runs: (asked) => Math.min(asked, 10),
  async once(bed) {
    const { exit } = await bed.ready({ path: 'private' });
    const home = bed.fleet.home(exit);
    bed.undo(() => home.openUplink());
    const status = await bed.node(exit).api.status();
    const own = bed.node(bed.names.get(status.upstream?.supervisorId ?? '') ?? '').host;
    return bed.measure(() => home.cutUplink([own.ipv4 ?? '']), { watchMs: 30_000 });
  },
};

export const relayUnplugged: BedEvent = {
  name: 'relay-unplugged',
  title: 'client’s relay host unplugged',
  limits: recoveredWithin(2000, 4000),
  async once(bed) {
    const { relay } = await bed.ready({ path: 'private' });
    const { host } = bed.node(relay);
    bed.undo(() => host.replug());
    return bed.measure(() => host.unplug(), { watchMs: WATCH_MS });
  },
};

export const natRebinding = (['direct', 'private'] as const).map(
  (path): BedEvent => ({
    name: path === 'direct' ? 'nat-rebinding' : 'nat-rebinding-relayed',
    title: `the client’s NAT maps anew, ${path === 'direct' ? 'direct path' : 'two relays'}`,
    limits: [recoveredAlways(3000)],
    async once(bed) {
      await bed.ready({ path });
      return bed.measure(() => bed.home.rebind(), { watchMs: WATCH_MS });
    },
  }),
);

export const addressChange = (['direct', 'private'] as const).map(
  (path): BedEvent => ({
    name: path === 'direct' ? 'address-change' : 'address-change-relayed',
    title: `the client moves to another network, ${path === 'direct' ? 'direct path' : 'two relays'}`,
    limits: [recoveredAlways(3000)],
    async once(bed) {
      await bed.ready({ path });
      return bed.measure(() => bed.move(), { watchMs: WATCH_MS });
    },
  }),
);
