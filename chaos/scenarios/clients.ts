import { asleep } from '../faults/machines.js';
import { LEASE_SECONDS } from '../harness/places.js';
import type { Scenario } from '../harness/scenario.js';
import { killMachine } from '../overlay/index.js';

export const CLIENTS: readonly Scenario[] = [
  {
    id: 'C1',
    title: 'the lid is closed for 20 seconds',
    holds: 'The session is still there: traffic flows again within seconds of waking, and nothing leaves in the open.',
    async story(s) {
      await s.connected();
      await s.happens('the client’s machine sleeps', () => asleep(s.node('c1'), 20));
      await s.mended('it wakes', () => undefined);
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'C2',
    title: 'the lid is closed for longer than a lease',
    holds: 'Everybody else has cleared the session away; the client that wakes gets another one by itself.',
    async story(s) {
      await s.connected();
      await s.happens('the client’s machine sleeps', () => asleep(s.node('c1'), LEASE_SECONDS + 20));
      await s.mended('it wakes', () => undefined);
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'C3',
    title: 'the client’s machine is carried to another home',
    holds:
      'Another router, other addresses: the same session goes on, and nothing leaves in the open on either network.',
    async story(s) {
      await s.connected();
      const elsewhere = await s.fleet.newHome('elsewhere');
      await s.happens('the machine is carried to another network', () => s.carriedTo('c1', elsewhere));
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'C4',
    title: 'the client’s router forgets its mappings, twice',
    holds: 'Ports change under the tunnels, and relays and exits follow within seconds.',
    async story(s) {
      await s.connected();
      for (let time = 1; time <= 2; time++) {
        await s.happens('the NAT maps anew', () => s.home('c1').rebind());
        await s.carries();
      }
      await s.settles();
    },
  },
  {
    id: 'C5',
    title: 'the client’s daemon is killed, and starts five seconds later',
    holds: 'Not a packet is lost, and the daemon takes its tunnels up again.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'its tunnels are the kernel’s business');
      await s.happens('the client’s daemon is killed', () => s.node('c1').crash());
      await s.passes(5);
      await s.mended('it starts again', () => s.node('c1').start());
      await s.settles();
      until();
    },
  },
  {
    id: 'C6',
    title: 'the exit dies while the client’s daemon is dead too',
    holds:
      'Nobody is there to go elsewhere, so traffic is held, not let out; the daemon that starts finds another exit.',
    async story(s) {
      const { exit, standby } = await s.connected();
      await s.happens('the client’s daemon is killed', () => s.node('c1').crash());
      await s.happens(`exit ${exit} is killed`, () => killMachine(s.node(exit)));
      await s.passes(5);
      await s.mended('the client’s daemon starts again', () => s.node('c1').start());
      await s.carries('c1', [standby]);
      await s.mended(`exit ${exit} starts again`, () => s.node(exit).start());
      await s.settles();
    },
  },
  {
    id: 'C7',
    title: 'the client’s cable is out for 15 seconds',
    holds:
      'It is the network and not the exit: no session is given up, and traffic flows again when the cable is back.',
    async story(s) {
      const { exit } = await s.connected();
      await s.happens('the client loses its cable', () => s.node('c1').host.unplug());
      await s.passes(15);
      await s.mended('it is plugged in again', () => s.node('c1').host.replug());
      const by = await s.carries();
      s.figure('the exit is the same', by === exit ? 'yes' : 'no');
      await s.settles();
    },
  },
  {
    id: 'C8',
    title: 'the provider gives the client’s home another address',
    holds: 'The session goes on from there.',
    async story(s) {
      await s.connected();
      await s.happens('the home’s public address changes', () => s.home('c1').changeAddress('198.51.100.77'));
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'C9',
    title: 'from cable to Wi-Fi and back',
    holds: 'The second network takes over when the first one goes, and nothing leaves in the open over either card.',
    async story(s) {
      await s.connected();
      const { host } = s.node('c1');
      await s.home('c1').connect(host, { device: 'wlan0', metric: 600 });
      await s.happens('the cable is pulled, Wi-Fi stays', () => host.linkDown('eth0'));
      await s.carries();
      await s.mended('the cable is back', async () => {
        await host.linkUp('eth0');
        await host.ip(`route replace default via ${gatewayOf(s.home('c1').publicIpv4)} dev eth0`);
      });
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'C10',
    title: 'the client changes networks five times in ten seconds',
    holds: 'However long a train of thought that is for the daemon: in the end it is where the machine is.',
    async story(s) {
      await s.connected();
      const homes = [await s.fleet.newHome('elsewhere'), s.home('c1')];
      for (let time = 0; time < 5; time++) {
        const home = homes[time % 2] ?? s.home('c1');
        await s.happens('the machine is carried to the other network', () => s.carriedTo('c1', home));
        await s.passes(2);
      }
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'C11',
    title: 'somebody types vpnd up and vpnd down ten times in a row',
    holds: 'The last word counts; every session in between is cleared away everywhere.',
    async story(s) {
      await s.connected('c1', { alone: true });
      const { api } = s.node('c1');
      await s.happens('down and up, ten times, each before the last is done', async () => {
        const asked: Promise<unknown>[] = [];
        for (let time = 0; time < 10; time++) {
          asked.push(api.down().catch(() => undefined));
          await s.passes(0.1);
          asked.push(api.up({}, AbortSignal.timeout(60_000)).catch(() => undefined));
          await s.passes(0.1);
        }
        await Promise.all(asked);
        await api.up({}, AbortSignal.timeout(60_000));
      });
      // In between it was down, and so its packets were in the open as they should be.
      s.protectedFromNow();
      await s.carries();
      await s.settles();
    },
  },
];

/** Homes of a fleet are 192.168.<last number of their public address>.0/24, with the router at .1. */
const gatewayOf = (publicIpv4: string): string => `192.168.${publicIpv4.split('.')[3]}.1`;
