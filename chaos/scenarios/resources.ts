import { emptyDisk, fillDisk, smallDisk } from '../faults/disks.js';
import { limit } from '../faults/limits.js';
import { hogs } from '../faults/machines.js';
import { COMMON } from '../harness/places.js';
import type { Scenario } from '../harness/scenario.js';
import { FAILOVER_SECONDS } from '../harness/story.js';
import type { Fleet, OverlayNode } from '../overlay/index.js';

const REQUEST_LIMIT_MS = 60_000;
const withAnotherClient = { ...COMMON, clients: [...COMMON.clients, { name: 'c2', region: 'eu' }] };

interface FullDisks extends Pick<Scenario, 'id' | 'title' | 'holds'> {
  readonly what: string;
  readonly whose: (fleet: Fleet) => readonly OverlayNode[];
}

function fullDisks({ what, whose, ...told }: FullDisks): Scenario {
  return {
    ...told,
    place: withAnotherClient,
    async prepared(fleet) {
      for (const node of whose(fleet)) await smallDisk(node);
    },
    async story(s) {
      const nodes = whose(s.fleet);
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'its path never broke');
      await s.happens(what, () => Promise.all(nodes.map(fillDisk)));
      const said = await s
        .node('c2')
        .api.up({}, AbortSignal.timeout(REQUEST_LIMIT_MS))
        .then(() => 'that it is connected')
        .catch((thrown: unknown) => (thrown instanceof Error ? thrown.message : String(thrown)));
      s.figure('c2 hears', said);
      await s.mended('there is room again', () => Promise.all(nodes.map(emptyDisk)));
      await s.node('c2').api.down();
      await s.connected('c2', { alone: true });
      await s.settles();
      until();
    },
  };
}

export const RESOURCES: readonly Scenario[] = [
  fullDisks({
    id: 'R1',
    title: 'the exits’ disks are full',
    holds:
      'An order that cannot be written down is refused and undone; open sessions lose nothing. With room again a second client connects.',
    what: 'the disks of both exits are full',
    whose: (fleet) => fleet.exits,
  }),
  fullDisks({
    id: 'R2',
    title: 'the disks of all supernodes are full',
    holds:
      'No session is half there: a request is refused, what is open goes on. With room again a second client connects.',
    what: 'the disks of all supernodes are full',
    whose: (fleet) => fleet.supernodes,
  }),
  {
    id: 'R3',
    title: 'the client’s disk is full while its exit goes away',
    holds: 'Going to the standby needs no disk: traffic flows.',
    async prepared(fleet) {
      for (const client of fleet.clients) await smallDisk(client);
    },
    async story(s) {
      const { exit, standby } = await s.connected();
      await s.happens('the client’s disk is full', () => fillDisk(s.node('c1')));
      await s.happens(`exit ${exit} loses its cable`, () => s.node(exit).host.unplug());
      await s.carries('c1', [standby], FAILOVER_SECONDS);
      await s.mended('there is room again', () => emptyDisk(s.node('c1')));
      await s.mended(`exit ${exit} is plugged in again`, () => s.node(exit).host.replug());
      await s.settles();
    },
  },
  {
    id: 'R4',
    title: 'the client’s supernode runs out of file descriptors under connections of strangers',
    holds:
      'Streams that are there stay or come back, the session loses nothing, and when the strangers are gone everybody is served.',
    place: withAnotherClient,
    async story(s) {
      const { supernode } = await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'its path never broke');
      const node = s.node(supernode);
      const stranger = s.fleet.web.host;
      const flood = stranger.spawn([process.execPath, '-e', STRANGERS, node.host.ipv4 ?? '', '443', '300']);
      await s.happens(`supernode ${supernode} may open few files, 300 strangers connect`, async () => {
        await limit(node, '--nofile=96:');
        await flood.waitForLine(/connected|refused/);
      });
      await s.passes(15);
      await s.mended('the strangers leave', async () => {
        await flood.stop();
        await limit(node, '--nofile=4096:');
      });
      await s.connected('c2', { alone: true });
      await s.settles();
      until();
    },
  },
  {
    id: 'R5',
    title: 'other programs take all the CPU, for 15 seconds',
    holds: 'Everything is slow and nothing is lost for good: no session ends, and afterwards all is as it was.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      let end: (() => Promise<void>) | undefined;
      await s.happens('six programs compute without end', () => {
        end = hogs(s.fleet.base.host, 6);
      });
      await s.passes(15);
      await s.mended('they end', () => end?.());
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'R6',
    title: 'the client’s supernode has little memory, and dies of it',
    holds: 'It ends as a process that is killed: its kernel relays on, and the next start takes up what is there.',
    async story(s) {
      const { supernode } = await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'its path never broke');
      await s.happens(`supernode ${supernode} gets no more memory`, async () => {
        const node = s.node(supernode);
        await limit(node, '--data=1:', '--as=1:');
        await s.passes(10);
        // Whatever it did with that, it is started anew, as systemd would.
        await node.crash().catch(() => undefined);
      });
      await s.mended(`supernode ${supernode} starts again`, () => s.node(supernode).start());
      await s.settles();
      until();
    },
  },
];

/** `<ip> <port> <count>`: opens connections, says nothing, and leaves when it is told to. */
const STRANGERS = `
const { connect } = require('node:net');
const [ip, port, count] = process.argv.slice(1);
let left = Number(count);
const told = () => { if (--left === 0) console.log('connected'); };
for (let n = 0; n < Number(count); n++) {
  const socket = connect(Number(port), ip);
  socket.once('connect', told);
  socket.once('error', told);
}
setTimeout(() => console.log('refused'), 5000);
setInterval(() => undefined, 1000);
`;
