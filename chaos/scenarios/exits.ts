import { killProgram } from '../faults/machines.js';
import { COMMON } from '../harness/places.js';
import type { Scenario } from '../harness/scenario.js';
import { FAILOVER_SECONDS } from '../harness/story.js';
import { freezeDaemon, freezeMachine, killMachine, thawDaemon, thawMachine } from '../overlay/index.js';

export const EXITS: readonly Scenario[] = [
  {
    id: 'X1',
    title: 'the exit in use is killed',
    holds:
      'Traffic goes on over the standby by the other exit, within seconds. When the dead exit is back, it keeps nobody’s peer, and the client has a standby again.',
    async story(s) {
      const { exit, standby } = await s.connected();
      await s.happens(`exit ${exit} is killed, daemon and tunnels`, () => killMachine(s.node(exit)));
      await s.carries('c1', [standby], FAILOVER_SECONDS);
      await s.mended(`exit ${exit} starts again`, () => s.node(exit).start());
      await s.settles();
    },
  },
  {
    id: 'X2',
    title: 'the exit in use freezes',
    holds:
      'One that stands still and closes nothing is as dead as a killed one; thawed, it does not get the traffic back.',
    async story(s) {
      const { exit, standby } = await s.connected();
      await s.happens(`everything on exit ${exit} stands still`, () => freezeMachine(s.node(exit)));
      await s.carries('c1', [standby], FAILOVER_SECONDS);
      await s.mended(`exit ${exit} goes on`, () => thawMachine(s.node(exit)));
      await s.settles();
      await s.carries('c1', [standby]);
    },
  },
  {
    id: 'X3',
    title: 'the cable of the exit in use is pulled',
    holds: 'Traffic goes on by the other exit. Plugged in again, the exit drops what it had and can be used.',
    async story(s) {
      const { exit, standby } = await s.connected();
      await s.happens(`exit ${exit} loses its cable`, () => s.node(exit).host.unplug());
      await s.carries('c1', [standby], FAILOVER_SECONDS);
      await s.mended(`exit ${exit} is plugged in again`, () => s.node(exit).host.replug());
      await s.settles();
    },
  },
  {
    id: 'X4',
    title: 'the exit in use loses its internet, but not its supernode',
    holds: 'It answers every probe, so only itself can tell: it says so, and its clients are sent elsewhere.',
    async story(s) {
      const { exit, standby } = await s.connected('c1', { privacy: 'private' });
      const status = await s.node(exit).api.status();
      const own = s.node(s.names.get(status.upstream?.supervisorId ?? '') ?? '').host.ipv4 ?? '';
      await s.happens(`exit ${exit} reaches nothing but its supernode`, () => s.home(exit).cutUplink([own]));
      await s.carries('c1', [standby]);
      await s.mended(`exit ${exit} reaches the internet again`, () => s.home(exit).openUplink());
      await s.settles();
    },
  },
  {
    id: 'X5',
    title: 'the data plane process of the exit in use is killed, its daemon lives',
    holds:
      'Its tunnels are gone at once, so the client goes elsewhere; the exit makes its device anew and can be used.',
    async story(s) {
      const { exit } = await s.connected();
      await s.happens(`wireguard-go on exit ${exit} is killed`, async () => {
        const killed = await killProgram(s.node(exit), 'wireguard-go');
        // Where WireGuard is the kernel's, there is none to kill: the device goes instead.
        if (killed === 0) await s.node(exit).host.ip('link del wg-exit');
      });
      await s.carries('c1', [], FAILOVER_SECONDS);
      await s.settles();
    },
  },
  {
    id: 'X6',
    title: 'the daemon of the exit in use freezes for 40 seconds, its kernel works on',
    holds: 'Its supernode takes it for lost, and not a packet is: the tunnel needs no daemon.',
    async story(s) {
      const { exit } = await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'the exit’s kernel never stopped');
      await s.happens(`the daemon of exit ${exit} stands still`, () => freezeDaemon(s.node(exit)));
      await s.passes(40);
      await s.mended(`the daemon of exit ${exit} goes on`, () => thawDaemon(s.node(exit)));
      await s.settles();
      until();
    },
  },
  {
    id: 'X7',
    title: 'every exit is killed, and one comes back',
    holds: 'Traffic is held and nothing leaves in the open; with the first exit that is there again it flows.',
    async story(s) {
      await s.connected();
      await s.happens('all exits are killed', () => Promise.all(s.fleet.exits.map(killMachine)));
      await s.passes(8);
      await s.mended('exit x1 starts again', () => s.node('x1').start());
      await s.carries('c1', ['x1']);
      await s.mended('exit x2 starts again', () => s.node('x2').start());
      await s.settles();
    },
  },
  {
    id: 'X8',
    title: 'the daemon of the exit in use is killed and started again, three times in a row',
    holds: 'It takes up its device, peers and rules each time: not a packet is lost.',
    async story(s) {
      const { exit } = await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'the exit’s kernel never stopped');
      for (let time = 1; time <= 3; time++) {
        await s.happens(`the daemon of exit ${exit} is killed`, () => s.node(exit).crash());
        await s.mended(`exit ${exit} starts again`, () => s.node(exit).start());
      }
      await s.settles();
      until();
    },
  },
  {
    id: 'X9',
    title: 'the owner of the exit in use wants the line back, and lends it again',
    holds: 'Its clients go elsewhere make before break, not a packet is lost; later it is there for a standby.',
    async story(s) {
      const { exit, standby } = await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'a rotation is make before break');
      await s.happens(`exit ${exit} is paused by its owner`, () => s.node(exit).api.pause(0));
      await s.carries('c1', [standby]);
      until();
      await s.mended(`exit ${exit} is lent again`, () => s.node(exit).api.resume());
      await s.settles();
    },
  },
  {
    id: 'X10',
    title: 'the exit in use dies and comes back again and again',
    holds: 'After the first death the client stays with the other exit: one that flaps is not chosen again for it.',
    place: COMMON,
    async story(s) {
      const { exit, standby } = await s.connected();
      for (let time = 1; time <= 3; time++) {
        await s.happens(`exit ${exit} is killed`, () => killMachine(s.node(exit)));
        await s.carries('c1', [standby], FAILOVER_SECONDS);
        await s.mended(`exit ${exit} starts again`, () => s.node(exit).start());
        await s.carries('c1', [standby]);
      }
      await s.settles();
      await s.carries('c1', [standby]);
    },
  },
];
