import type { Spawned } from '../../../chaos/lab/index.js';
import { addressOf, DEVICE, deviceUp, endAll, INNER } from './bed.js';
import type { TunnelSystem } from './systems.js';

const PORT = 7654;
const MACS = { client: '02:00:00:00:00:01', exit: '02:00:00:00:00:02' } as const;
/** With its header of 84 bytes, an Ethernet header and what encryption and LZO add, what fits 1500. */
const MTU = 1320;

/** Ends that find each other by a supernode, and then go direct where they can. */
export const n2nTunnel: TunnelSystem = {
  name: 'n2n',
  cipher: 'Twofish-CBC, no authentication',
  mtu: MTU,
  setUp: `edge -r -M ${MTU}, a supernode on the relay's machine`,
  start: async (bed) => {
    const running = new Map<keyof typeof MACS | 'supernode', Spawned>();
    const supernode = async () => {
      running.set('supernode', bed.relay.spawn(['supernode', '-l', String(PORT)]));
      await new Promise((resolve) => setTimeout(resolve, 300));
    };
    const edge = async (name: keyof typeof MACS) => {
      const argv = ['edge', '-d', DEVICE, '-a', INNER[name], '-c', 'bench', '-m', MACS[name], '-M', String(MTU), '-r'];
      const one = bed[name].spawn([...argv, '-l', `${addressOf(bed.relay)}:${PORT}`], { env: { N2N_KEY: 'bench' } });
      running.set(name, one);
      await deviceUp(bed[name], one);
      await one.waitForLine(/Ready/);
      if (name === 'client') await bed.routeWeb(INNER.exit);
    };
    const end = async (name: keyof typeof MACS | 'supernode') =>
      endAll([running.get(name)].filter((one) => one !== undefined));
    await supernode();
    await edge('exit');
    await edge('client');
    await bed.reaches();
    return {
      pids: () => [...running.values()].map(({ pid }) => pid),
      client: { begin: () => edge('client'), end: () => end('client') },
      middle: { kill: () => end('supernode'), restore: supernode },
      stop: () => endAll([...running.values()]),
    };
  },
};
