import { clockOff, HOUR_MS } from '../faults/clock.js';
import { emptyDisk, fillDisk, smallDisk } from '../faults/disks.js';
import { COMMON } from '../harness/places.js';
import type { Scenario } from '../harness/scenario.js';
import { freezeDaemon, thawDaemon } from '../overlay/index.js';

const REQUEST_LIMIT_MS = 60_000;
const withAnotherClient = { ...COMMON, clients: [...COMMON.clients, { name: 'c2', region: 'eu' }] };

export const BASE: readonly Scenario[] = [
  {
    id: 'B1',
    title: 'base is down for half a minute, and life goes on',
    holds:
      'Meanwhile a second client connects and the first one changes its exit; not a packet of a healthy path is lost.',
    place: withAnotherClient,
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'nothing of its path is base’s');
      await s.happens('base is killed', () => s.fleet.base.crash());
      await s.connected('c2', { alone: true });
      await s.node('c1').api.rotate({ reason: 'a scenario' }, AbortSignal.timeout(REQUEST_LIMIT_MS));
      await s.passes(15);
      await s.mended('base starts again', () => s.fleet.base.start());
      await s.settles();
      until();
    },
  },
  {
    id: 'B2',
    title: 'everybody else is restarted while base is down',
    holds: 'What each has on record is enough: streams, session and new sessions are there without base.',
    place: withAnotherClient,
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'its path never broke');
      await s.happens('base is killed', () => s.fleet.base.crash());
      await s.happens('every other daemon is killed and started', async () => {
        const others = s.fleet.nodes.filter(({ role }) => role !== 'base');
        await Promise.all(others.map((node) => node.crash()));
        // A supernode says that it is ready once it has found base; without it works all the same.
        for (const node of others) node.spawn();
        await s.eventually('everybody answers', async () => {
          await Promise.all(others.map(({ api }) => api.status()));
          return '';
        });
      });
      await s.connected('c2', { alone: true });
      await s.settles();
      until();
      await s.mended('base starts again', () => s.fleet.base.start());
    },
  },
  {
    id: 'B3',
    title: 'base freezes for 40 seconds',
    holds: 'Half open, closing nothing: a second client connects all the same, and not a packet is lost.',
    place: withAnotherClient,
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'nothing of its path is base’s');
      await s.happens('base stands still', () => freezeDaemon(s.fleet.base));
      await s.connected('c2', { alone: true });
      await s.passes(35);
      await s.mended('base goes on', () => thawDaemon(s.fleet.base));
      await s.settles();
      until();
    },
  },
  {
    id: 'B4',
    title: 'base’s disk is full',
    holds: 'It says so, and enrols nobody; sessions do not notice. With room again it works as before.',
    async prepared(fleet) {
      await smallDisk(fleet.base);
    },
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'nothing of its path is base’s');
      const token = () => s.fleet.base.json('token', 'create', '--role', 'client', '--region', 'eu');
      await s.happens('base’s disk is full', () => fillDisk(s.fleet.base));
      const said = await token().then(
        () => 'a token',
        (thrown: Error) => thrown.message,
      );
      s.claim('base says that its disk is full', /disk is full|no space|full/i.test(said), said);
      await s.passes(5);
      await s.mended('there is room again', () => emptyDisk(s.fleet.base));
      await s.eventually('base makes a token', () => token().then(() => ''));
      await s.settles();
      until();
    },
  },
  {
    id: 'B5',
    title: 'base comes back with its clock an hour behind',
    holds:
      'Supernodes do not believe it and go on without; sessions do not notice. With the clock put right it is base again.',
    place: withAnotherClient,
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'nothing of its path is base’s');
      await s.happens('base starts again, its clock an hour behind', async () => {
        await s.fleet.base.crash();
        s.fleet.base.spawn({ env: clockOff(-HOUR_MS) });
      });
      await s.passes(10);
      await s.connected('c2', { alone: true });
      await s.mended('base’s clock is put right', async () => {
        await s.fleet.base.stop();
        await s.fleet.base.start();
      });
      await s.settles();
      until();
    },
  },
  {
    id: 'B6',
    title: 'a client is revoked while base cannot be reached by anybody',
    holds:
      'When base is back, the news reaches everybody: the client’s tunnels and streams end within seconds and stay away.',
    place: withAnotherClient,
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      await s.connected('c2', { privacy: 'private' });
      const until = s.losesNothing('c1', 'it is the other one that is shut out');
      const status = await s.node('c2').api.status();
      await s.happens('base loses its cable, and revokes c2', async () => {
        await s.fleet.base.host.unplug();
        await s.fleet.base.api.revokeMember({ peer: status.peerId, reason: 'a scenario' });
      });
      await s.passes(5);
      await s.mended('base is plugged in again', () => s.fleet.base.host.replug());
      await s.shutOut('c2');
      await s.settles();
      until();
    },
  },
];
