import { partition } from '../faults/network.js';
import { CROWD, WIDE } from '../harness/places.js';
import type { Scenario } from '../harness/scenario.js';
import { killMachine } from '../overlay/index.js';

const REQUEST_LIMIT_MS = 90_000;

export const CONVERGENCE: readonly Scenario[] = [
  {
    id: 'V1',
    title: 'every daemon there is is killed at once, and all start together',
    holds: 'Not a packet is lost: kernels carry on, and every daemon takes up what it finds.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'its path never broke');
      await s.happens('all daemons are killed', () => Promise.all(s.fleet.nodes.map((node) => node.crash())));
      await s.passes(3);
      await s.mended('all start together', () => Promise.all(s.fleet.nodes.map((node) => node.start())));
      await s.settles();
      until();
    },
  },
  {
    id: 'V2',
    title: 'every machine but the client’s dies with its tunnels, and they start in any order',
    holds: 'Traffic is held meanwhile; in the end everybody has found everybody.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const others = s.fleet.nodes.filter(({ role }) => role !== 'client');
      await s.happens('base, supernodes and exits are killed', () => Promise.all(others.map(killMachine)));
      await s.passes(3);
      await s.mended('they start, exits first, base last', async () => {
        for (const node of [...others].reverse()) node.spawn();
        await Promise.all(others.map((node) => node.process.waitForLine(/ ready: /, 300_000)));
      });
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'V3',
    title: 'the internet falls into two halves for half a minute',
    holds: 'Each half goes on with what it has; healed, they are one overlay again, and what was orphaned is cleared.',
    place: WIDE,
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const { base, web } = s.fleet;
      const router = (name: string) => s.home(name).router;
      const [one, other] = [
        [base.host, s.node('a').host, router('c1'), web.host],
        [s.node('b').host, s.node('e').host, router('x1'), router('x2')],
      ];
      let heal: (() => Promise<void>) | undefined;
      await s.happens('base, supernode a and the client do not hear the others', async () => {
        heal = await partition(one, other);
      });
      await s.passes(30);
      await s.mended('the halves hear each other again', () => heal?.());
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'V4',
    title: 'six clients connect at the same moment, and their supernodes restart under them',
    holds: 'Everybody gets an exit, every address and port has one owner, and all of them get their pages in the end.',
    place: CROWD,
    async story(s) {
      const clients = s.fleet.clients.map(({ name }) => name);
      await Promise.all(clients.map((name) => s.connected(name, { alone: true })));
      await s.happens('the daemons of all supernodes are killed and started', async () => {
        await Promise.all(s.fleet.supernodes.map((node) => node.crash()));
        await Promise.all(s.fleet.supernodes.map((node) => node.start()));
      });
      for (const name of clients) await s.settles(name, { alone: true });
    },
  },
  {
    id: 'V5',
    title: 'a client asks for the same thing five times at once',
    holds: 'It is one client with one session: no request leaves anything behind.',
    async story(s) {
      await s.happens('five times vpnd up at once', async () => {
        const asked = Array.from({ length: 5 }, () =>
          s
            .node('c1')
            .api.up({}, AbortSignal.timeout(REQUEST_LIMIT_MS))
            .catch(() => undefined),
        );
        await Promise.all(asked);
      });
      await s.connected();
      await s.settles();
    },
  },
  {
    id: 'V6',
    title: 'every daemon is stopped and started in turn, as by an upgrade',
    holds:
      'Base, supernodes, exits, client, one after the other under traffic: the client gets its pages all the while.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      for (const node of s.fleet.nodes) {
        await s.happens(`${node.name} is stopped and started`, async () => {
          await node.stop();
          await node.start();
        });
        await s.carries();
      }
      await s.settles();
    },
  },
];
