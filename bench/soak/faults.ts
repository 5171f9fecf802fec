import { setTimeout as pause } from 'node:timers/promises';
import { freezeDaemon, freezeMachine, killMachine, thawDaemon, thawMachine } from '../../chaos/overlay/index.js';
import type { SoakBed } from './bed.js';

/** Something that goes wrong, and is over again when it resolves. */
export interface SoakFault {
  readonly name: string;
  readonly title: string;
  act(bed: SoakBed): Promise<void>;
}

const seconds = (n: number): Promise<void> => pause(n * 1000);

/** Whatever happens in between, what was done is undone. */
async function during(begin: Promise<void> | void, lasts: number, end: () => Promise<void> | void): Promise<void> {
  await begin;
  try {
    await seconds(lasts);
  } finally {
    await end();
  }
}

/**
 * In this order, again and again. `x3`, `c` and `guest2` are those whose daemons die; the others live from the begin to
 * the end, so that what they hold can be followed for as long as the run takes.
 */
export const FAULTS: readonly SoakFault[] = [
  {
    name: 'nat-rebinding',
    title: 'NATs of a client and of an exit map anew',
    act: async ({ fleet }) => {
      await fleet.home('steady').rebind();
      await fleet.home('x1').rebind();
    },
  },
  {
    name: 'exit-killed',
    title: 'machine of x3 killed, back after 5 s',
    act: async (bed) => {
      const exit = bed.node('x3');
      await during(killMachine(exit), 5, () => exit.start());
    },
  },
  {
    name: 'base-away',
    title: 'base cut off for 40 s',
    act: ({ fleet }) => during(fleet.base.host.silence(), 40, () => fleet.base.host.unsilence()),
  },
  {
    name: 'supernode-killed',
    title: 'daemon of c killed, back after 2 s',
    act: async (bed) => {
      const node = bed.node('c');
      await during(node.crash(), 2, () => node.start());
    },
  },
  {
    name: 'exit-frozen',
    title: 'machine of x2 stands still for 8 s',
    act: async (bed) => {
      const exit = bed.node('x2');
      await during(freezeMachine(exit), 8, () => thawMachine(exit));
    },
  },
  {
    name: 'relay-unplugged',
    title: 'cable of b pulled for 5 s',
    act: (bed) => during(bed.node('b').host.unplug(), 5, () => bed.node('b').host.replug()),
  },
  {
    name: 'client-killed',
    title: 'daemon of guest2 killed, back after 1 s',
    act: async (bed) => {
      const client = bed.node('guest2');
      await during(client.crash(), 1, () => client.start());
    },
  },
  {
    name: 'supernode-stalled',
    title: 'daemon of a stands still for 4 s',
    act: (bed) => during(freezeDaemon(bed.node('a')), 4, () => thawDaemon(bed.node('a'))),
  },
  {
    name: 'udp-blocked',
    title: 'no UDP at the home of guest1 for 30 s',
    act: ({ fleet }) => during(fleet.home('guest1').blockUdp(), 30, () => fleet.home('guest1').allowUdp()),
  },
  {
    name: 'supernode-restarted',
    title: 'c stopped politely and started again',
    act: async (bed) => {
      const node = bed.node('c');
      await node.stop();
      await node.start();
    },
  },
];
