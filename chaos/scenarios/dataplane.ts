import { deleteDevices, deletePeers, deleteRules, deleteTables, ourTables } from '../faults/kernel.js';
import { type Mood, SpoiltProgram } from '../faults/programs.js';
import { COMMON } from '../harness/places.js';
import type { Scenario } from '../harness/scenario.js';
import type { Story } from '../harness/story.js';

const REQUEST_LIMIT_MS = 90_000;
const withAnotherClient = { ...COMMON, clients: [...COMMON.clients, { name: 'c2', region: 'eu' }] };

function all(spoilt: readonly SpoiltProgram[], mood: Mood): void {
  for (const one of spoilt) one.now(mood);
}

/** A node has tables of ours again, as many as before. */
const hasTables = (s: Story, name: string, count: number): Promise<void> =>
  s.eventually(`${name} has its tables again`, async () => {
    const found = await ourTables(s.node(name));
    return found.length >= count ? '' : `it has ${found.length} of ${count}`;
  });

export const DATAPLANE: readonly Scenario[] = [
  {
    id: 'D1',
    title: 'somebody deletes the relay’s tables on every supernode',
    holds: 'They are made again from what each daemon has on record, at its next look, and traffic passes as before.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      await s.happens('all tables of ours are deleted on every supernode', async () => {
        for (const node of s.fleet.supernodes) if ((await ourTables(node)).length > 0) await deleteTables(node);
      });
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'D2',
    title: 'somebody empties the tables of both exits',
    holds: 'NAT and contract are back at the next look; no client reaches what it must not meanwhile.',
    async story(s) {
      await s.connected();
      await s.happens('all rules of ours are flushed on every exit', () =>
        Promise.all(s.fleet.exits.map((node) => deleteTables(node, 'flush'))),
      );
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'D3',
    title: 'somebody deletes the client’s kill switch',
    holds: 'It is back at the next look; the routes alone keep everything in the tunnel until then.',
    async story(s) {
      await s.connected();
      const had = (await ourTables(s.node('c1'))).length;
      await s.happens('the client’s tables are deleted', () => deleteTables(s.node('c1')));
      await hasTables(s, 'c1', had);
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'D4',
    title: 'somebody deletes the client’s routing rules',
    holds: 'Traffic would go out in the open, and the kill switch holds it until the rules are back.',
    async story(s) {
      await s.connected();
      await s.happens('the client’s rules are deleted', () => deleteRules(s.node('c1')));
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'D5',
    title: 'somebody deletes the client’s tunnels',
    holds: 'Their traffic is held; the client has its tunnels again, the same or other ones.',
    async story(s) {
      await s.connected();
      await s.happens('all interfaces of the client’s tunnels are deleted', () =>
        deleteDevices(s.node('c1'), 'wg-client'),
      );
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'D6',
    title: 'somebody removes every peer of the exits',
    holds: 'Sessions are back by themselves, by repair or by another session.',
    async story(s) {
      // On one path for good: a change of path would put its peers in place by itself.
      await s.connected('c1', { privacy: 'private' });
      await s.happens('the exits’ peers are removed', () => Promise.all(s.fleet.exits.map(deletePeers)));
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'D7',
    title: 'somebody deletes the exits’ WireGuard interfaces',
    holds: 'They are made again, with their peers, addresses and port, and traffic flows.',
    async story(s) {
      await s.connected();
      await s.happens('the exits’ interfaces are deleted', () =>
        Promise.all(s.fleet.exits.map((node) => deleteDevices(node, 'wg-exit'))),
      );
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'D8',
    title: 'nft fails on every supernode while a second client asks for an exit',
    holds:
      'The request is refused, and nothing of it is left; the session that is there loses nothing. Mended, the second client connects.',
    place: withAnotherClient,
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'nobody touched its path');
      const spoilt = await Promise.all(s.fleet.supernodes.map((node) => SpoiltProgram.on(node, '/usr/sbin/nft')));
      await s.happens('nft fails on every supernode', () => all(spoilt, 'fails'));
      const refused = await s
        .node('c2')
        .api.up({}, AbortSignal.timeout(REQUEST_LIMIT_MS))
        .then(() => '')
        .catch((thrown: unknown) => (thrown instanceof Error ? thrown.message : String(thrown)));
      s.claim('c2 hears that it cannot be done', refused !== '');
      s.figure('c2 hears', refused);
      await s.mended('nft works again', () => all(spoilt, 'works'));
      await s.node('c2').api.down();
      await s.connected('c2', { alone: true });
      await s.settles();
      until();
    },
  },
  {
    id: 'D9',
    title: 'nft hangs on every supernode while a second client asks for an exit',
    holds:
      'Nobody waits for it without end, streams stay, the session that is there loses nothing. Mended, the second client connects.',
    place: withAnotherClient,
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'nobody touched its path');
      const spoilt = await Promise.all(s.fleet.supernodes.map((node) => SpoiltProgram.on(node, '/usr/sbin/nft')));
      await s.happens('nft hangs on every supernode', () => all(spoilt, 'hangs'));
      const refused = await s
        .node('c2')
        .api.up({}, AbortSignal.timeout(REQUEST_LIMIT_MS))
        .then(() => '')
        .catch((thrown: unknown) => (thrown instanceof Error ? thrown.message : String(thrown)));
      s.figure('c2 hears', refused === '' ? 'that it is connected' : refused);
      await s.mended('nft works again', () => all(spoilt, 'works'));
      if (refused !== '')
        await s
          .node('c2')
          .api.down()
          .catch(() => undefined);
      await s.connected('c2', { alone: true });
      await s.settles();
      until();
    },
  },
  {
    id: 'D10',
    title: 'ip fails on the client while it has to go to another exit',
    holds:
      'What it cannot do it does not half: traffic is carried or held, never let out, and flows when ip works again.',
    async story(s) {
      const { exit } = await s.connected();
      const spoilt = await SpoiltProgram.on(s.node('c1'), '/usr/sbin/ip');
      await s.happens('ip fails on the client', () => spoilt.now('fails'));
      await s.happens(`exit ${exit} loses its cable`, () => s.node(exit).host.unplug());
      await s.passes(15);
      await s.mended('ip works again', () => spoilt.now('works'));
      await s.carries();
      await s.mended(`exit ${exit} is plugged in again`, () => s.node(exit).host.replug());
      await s.settles();
    },
  },
  {
    id: 'D11',
    title: 'a firewall is reloaded everywhere: every table of ours is gone at once, on every machine',
    holds: 'Each machine makes its own again; nothing leaves in the open, and other people’s tables stay.',
    async story(s) {
      await s.connected();
      await s.happens('all tables of ours are deleted on every machine', async () => {
        const nodes = s.fleet.nodes.filter(({ role }) => role !== 'base');
        for (const node of nodes) if ((await ourTables(node)).length > 0) await deleteTables(node);
      });
      await s.carries();
      await s.settles();
    },
  },
];
