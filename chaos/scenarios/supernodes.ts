import { clockOff, HOUR_MS } from '../faults/clock.js';
import { COMMON, LEASE_SECONDS, WIDE } from '../harness/places.js';
import type { Scenario } from '../harness/scenario.js';
import { FAILOVER_SECONDS } from '../harness/story.js';
import { freezeDaemon, killMachine, thawDaemon } from '../overlay/index.js';

const REQUEST_LIMIT_MS = 90_000;
const DRAIN_LIMIT_MS = 60_000;

export const SUPERNODES: readonly Scenario[] = [
  {
    id: 'S1',
    title: 'the daemon of the client’s supernode is killed, and starts five seconds later',
    holds: 'Not a packet is lost: the kernel relays on. The daemon takes up what it finds in the kernel.',
    async story(s) {
      const { supernode } = await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'its path never broke');
      await s.happens(`the daemon of supernode ${supernode} is killed`, () => s.node(supernode).crash());
      await s.passes(5);
      await s.mended(`supernode ${supernode} starts again`, () => s.node(supernode).start());
      await s.settles();
      until();
    },
  },
  {
    id: 'S2',
    title: 'the client’s supernode is drained and ends',
    holds: 'Its sessions go to the other supernode of the region, make before break: not a packet is lost.',
    async story(s) {
      const { supernode } = await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'a drain is make before break');
      await s.happens(`supernode ${supernode} is drained`, async () => {
        const signal = AbortSignal.timeout(DRAIN_LIMIT_MS + 10_000);
        for await (const { done, timedOut } of s
          .node(supernode)
          .api.drain({ timeoutMs: BigInt(DRAIN_LIMIT_MS) }, signal)) {
          if (done) s.claim('the drain has come to its end', !timedOut, 'its time was over');
        }
      });
      await s.happens(`supernode ${supernode} ends`, () => s.node(supernode).stop());
      await s.carries();
      until();
      await s.mended(`supernode ${supernode} starts again`, () => s.node(supernode).start());
      await s.settles();
    },
  },
  {
    id: 'S3',
    title: 'the daemon of the client’s supernode freezes for 40 seconds',
    holds:
      'Half-open streams end after 30 s of silence, clients go to the other supernode for their streams, not a packet is lost.',
    async story(s) {
      const { supernode } = await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'its path never broke');
      await s.happens(`the daemon of supernode ${supernode} stands still`, () => freezeDaemon(s.node(supernode)));
      await s.passes(40);
      await s.mended(`the daemon of supernode ${supernode} goes on`, () => thawDaemon(s.node(supernode)));
      await s.settles();
      until();
    },
  },
  {
    id: 'S4',
    title: 'the cable of the client’s supernode is pulled',
    holds:
      'The standby goes over the other supernode and takes over; what the unplugged one still holds ends with its lease or its return.',
    async story(s) {
      const { supernode } = await s.connected('c1', { privacy: 'private' });
      await s.happens(`supernode ${supernode} loses its cable`, () => s.node(supernode).host.unplug());
      await s.carries('c1', [], FAILOVER_SECONDS);
      await s.mended(`supernode ${supernode} is plugged in again`, () => s.node(supernode).host.replug());
      await s.settles();
    },
  },
  {
    id: 'S5',
    title: 'the daemons of all supernodes are killed at once',
    holds: 'Not a packet is lost, and everybody finds everybody again.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'its path never broke');
      await s.happens('the daemons of all supernodes are killed', () =>
        Promise.all(s.fleet.supernodes.map((node) => node.crash())),
      );
      await s.passes(3);
      await s.mended('they start again', () => Promise.all(s.fleet.supernodes.map((node) => node.start())));
      await s.settles();
      until();
    },
  },
  {
    id: 'S6',
    title: 'the exit’s supernode dies as a machine',
    holds:
      'The standby to an exit of another supernode takes over. Back again, the dead one knows of no session that is not.',
    place: WIDE,
    async story(s) {
      const { exit } = await s.connected('c1', { privacy: 'private' });
      const status = await s.node(exit).api.status();
      const its = s.names.get(status.upstream?.supervisorId ?? '') ?? '';
      await s.happens(`supernode ${its} of exit ${exit} dies: nothing passes its kernel`, async () => {
        await s.node(its).host.unplug();
        await s.node(its).crash();
        await s.node(its).host.nft('flush ruleset\n');
        await s.node(its).host.nft(FOREIGN_AGAIN);
      });
      await s.carries('c1', [], FAILOVER_SECONDS);
      await s.mended(`supernode ${its} boots`, async () => {
        await s.node(its).host.replug();
        await s.node(its).start();
      });
      await s.settles();
    },
  },
  {
    id: 'S7',
    title: 'the exit’s supernode is killed before it acknowledges what it was asked for',
    holds: 'The request fails or finds another way; whatever was begun is undone when the supernode is back.',
    place: { ...WIDE, clients: [...WIDE.clients, { name: 'c2', region: 'eu' }] },
    async story(s) {
      const { exit } = await s.connected('c1', { privacy: 'private' });
      const status = await s.node(exit).api.status();
      const its = s.names.get(status.upstream?.supervisorId ?? '') ?? '';
      const until = s.losesNothing('c1', 'its path never broke');
      for (const delayMs of [20, 60, 150]) {
        const asking = s
          .node('c2')
          .api.up({ region: 'us' }, AbortSignal.timeout(REQUEST_LIMIT_MS))
          .catch((thrown: unknown) => thrown);
        await s.happens(`c2 asks for an exit, ${delayMs} ms later supernode ${its} is killed`, async () => {
          await s.passes(delayMs / 1000);
          await s.node(its).crash();
        });
        await s.mended(`supernode ${its} starts again`, () => s.node(its).start());
        await asking;
        await s.node('c2').api.down();
      }
      await s.settles();
      until();
    },
  },
  {
    id: 'S8',
    title: 'the client’s supernode is killed at the moment it has granted a session',
    holds: 'What it has answered is on its record: the session lives on, and vpnd down still ends it everywhere.',
    async story(s) {
      const { supernode } = await s.connected('c1', { privacy: 'private', alone: true });
      await s.happens(`supernode ${supernode} is killed right after its answer`, () => s.node(supernode).crash());
      await s.carries();
      await s.mended(`supernode ${supernode} starts again`, () => s.node(supernode).start());
      await s.settles();
    },
  },
  {
    id: 'S9',
    title: 'the client’s supernode comes back with its clock an hour ahead',
    holds:
      'Nobody believes it, everybody goes to the other one of the region; with the clock put right it belongs again.',
    async story(s) {
      const { supernode } = await s.connected('c1', { privacy: 'private' });
      await s.happens(`supernode ${supernode} starts again, its clock an hour ahead`, async () => {
        await s.node(supernode).crash();
        s.node(supernode).spawn({ env: clockOff(HOUR_MS) });
      });
      await s.passes(15);
      await s.carries();
      await s.mended(`the clock of supernode ${supernode} is put right`, async () => {
        await s.node(supernode).stop();
        await s.node(supernode).start();
      });
      await s.settles();
    },
  },
  {
    id: 'S10',
    title: 'the client’s supernode is gone for good',
    holds:
      'Traffic goes on over the other one. What the far ends hold for the dead one ends with its lease, with nobody there to say so.',
    place: COMMON,
    async story(s) {
      const { supernode } = await s.connected('c1', { privacy: 'private' });
      await s.happens(`supernode ${supernode} is cut off for longer than a lease`, () =>
        s.node(supernode).host.unplug(),
      );
      await s.carries('c1', [], FAILOVER_SECONDS);
      await s.passes(LEASE_SECONDS + 15);
      await s.mended(`supernode ${supernode} is plugged in again`, () => s.node(supernode).host.replug());
      await s.settles();
    },
  },
  {
    id: 'S11',
    title: 'the exit’s supernode dies, its state is lost, and it enrols anew',
    holds: 'A supernode that remembers nothing takes away what its kernel still holds, and serves again.',
    place: WIDE,
    async story(s) {
      const { exit } = await s.connected('c1', { privacy: 'private' });
      const status = await s.node(exit).api.status();
      const its = s.names.get(status.upstream?.supervisorId ?? '') ?? '';
      await s.happens(`supernode ${its} is killed, its state directory deleted, and joins again`, async () => {
        await s.node(its).crash();
        await s.node(its).host.exec(['rm', '-rf', s.node(its).stateDir]);
        await s.fleet.join(its);
      });
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'S12',
    title: 'a supernode’s machine loses power while a client connects by it',
    holds: 'The client comes by the other one; nothing is left of the half that was done.',
    async story(s) {
      const asking = s.connected('c1', { privacy: 'private', alone: true });
      await s.happens('supernode a loses power', async () => {
        await s.passes(0.1);
        await killMachine(s.node('a'));
        await s.node('a').host.unplug();
      });
      await asking;
      await s.carries();
      await s.mended('supernode a boots', async () => {
        await s.node('a').host.replug();
        await s.node('a').start();
      });
      await s.settles();
    },
  },
];

/** What the harness has left on every machine and looks for at the end: a flushed rule set takes it along. */
const FOREIGN_AGAIN =
  'table inet mine { chain input { type filter hook input priority 5; policy accept; tcp dport 9999 drop; }; }\n';
