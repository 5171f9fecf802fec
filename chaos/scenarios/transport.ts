import { Path } from '../../src/gen/vpnd/v1/types_pb.js';
import { crawl, lose, partition, resetInTheMiddle, silenceTcp } from '../faults/network.js';
import type { Scenario } from '../harness/scenario.js';
import { activeSession, freezeDaemon, Transfer, thawDaemon } from '../overlay/index.js';

export const TRANSPORT: readonly Scenario[] = [
  {
    id: 'T1',
    title: 'the client’s streams are reset in the middle of what it says, for ten seconds',
    holds: 'It comes back each time, and in the end for good. Not a packet is lost.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'tunnels need no stream');
      let trouble: { lifted(): Promise<void> } | undefined;
      await s.happens('every piece of data to a supernode is answered with a reset', async () => {
        trouble = await resetInTheMiddle(s.home('c1').router);
      });
      await s.passes(10);
      await s.mended('nobody resets any more', () => trouble?.lifted());
      await s.settles();
      until();
    },
  },
  {
    id: 'T2',
    title: 'TCP vanishes without a word for 45 seconds, UDP passes',
    holds: 'Both sides end the half-open stream by its silence, and open another one later. Not a packet is lost.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'tunnels need no stream');
      let trouble: { lifted(): Promise<void> } | undefined;
      await s.happens('the client’s router drops all TCP', async () => {
        trouble = await silenceTcp(s.home('c1').router);
      });
      await s.passes(45);
      await s.mended('TCP passes again', () => trouble?.lifted());
      await s.settles();
      until();
    },
  },
  {
    id: 'T3',
    title: 'the client reads at a crawl',
    holds: 'A slow reader is never buffered for without end, and costs nobody else anything; its traffic goes on.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'tunnels need no stream');
      let trouble: { lifted(): Promise<void> } | undefined;
      await s.happens('200 bytes a second reach the client from supernodes', async () => {
        trouble = await crawl(s.home('c1').router, 200);
      });
      await s.passes(40);
      await s.mended('it reads as fast as before', () => trouble?.lifted());
      await s.settles();
      until();
    },
  },
  {
    id: 'T4',
    title: 'a fifth of all packets at the client’s home is lost, for 20 seconds',
    holds: 'A bad line is no dead exit: it is used all the while, and everything is well again when the line is.',
    async story(s) {
      await s.connected();
      let trouble: { lifted(): Promise<void> } | undefined;
      await s.happens('a fifth of all packets is lost', async () => {
        trouble = await lose(s.home('c1').router, 20);
      });
      await s.passes(20);
      await s.mended('the line is good again', () => trouble?.lifted());
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'T5',
    title: 'UDP is blocked under an open session, and allowed again',
    holds: 'The tunnel’s datagrams go inside the stream to the supernode until UDP is through again.',
    async story(s) {
      await s.connected();
      await s.happens('the client’s network lets no UDP through', () => s.home('c1').blockUdp());
      await s.carries();
      await s.mended('it does again', () => s.home('c1').allowUdp());
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'T6',
    title: 'the exit’s stream goes silent for 45 seconds',
    holds: 'Its supernode takes the exit for gone and offers it to nobody; the session over it loses nothing.',
    async story(s) {
      const { exit } = await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'tunnels need no stream');
      let trouble: { lifted(): Promise<void> } | undefined;
      await s.happens(`the router of exit ${exit} drops all TCP`, async () => {
        trouble = await silenceTcp(s.home(exit).router);
      });
      await s.passes(45);
      await s.mended('TCP passes again', () => trouble?.lifted());
      await s.settles();
      until();
    },
  },
  {
    id: 'T7',
    title: 'the two supernodes of a path do not hear each other for 20 seconds',
    holds:
      'The client finds a way around where there is one; nothing leaves in the open, and after the partition all is one again.',
    async story(s) {
      const { supernode } = await s.connected('c1', { privacy: 'private' });
      const others = s.fleet.supernodes.filter(({ name }) => name !== supernode).map(({ host }) => host);
      let heal: (() => Promise<void>) | undefined;
      await s.happens(`supernode ${supernode} and the others do not hear each other`, async () => {
        heal = await partition([s.node(supernode).host], others);
      });
      await s.passes(20);
      await s.mended('they do again', () => heal?.());
      await s.carries();
      await s.settles();
    },
  },
  {
    id: 'T8',
    title: 'the client’s line takes packets of 1400 bytes on the way to it, under a direct path',
    holds: 'The exit’s machine is told, and cuts what is too large: a download comes whole.',
    async story(s) {
      await s.connected();
      const { api, host } = s.node('c1');
      await s.eventually('the path is direct', async () => {
        const status = await api.setPath({ path: Path.DIRECT }, AbortSignal.timeout(60_000));
        return activeSession(status)?.path === Path.DIRECT ? '' : 'it goes over a relay';
      });
      await s.happens('the line’s MTU falls to 1400', () => s.home('c1').router.ip('link set lan0 mtu 1400'));
      const transfer = await Transfer.start(host, s.fleet.web, { seconds: 5, mbps: 4 });
      const { intact, trouble } = await transfer.ended();
      s.claim('the download is whole', intact, trouble);
      await s.mended('the line is as it was', () => s.home('c1').router.ip('link set lan0 mtu 1500'));
    },
  },
  {
    id: 'T9',
    title: 'the client’s daemon stands still for 40 seconds',
    holds:
      'To its supernode that is a half-open peer: the stream ends, the session does not, and not a packet is lost.',
    async story(s) {
      await s.connected('c1', { privacy: 'private' });
      const until = s.losesNothing('c1', 'tunnels need no daemon');
      await s.happens('the client’s daemon stands still', () => freezeDaemon(s.node('c1')));
      await s.passes(40);
      await s.mended('it goes on', () => thawDaemon(s.node('c1')));
      await s.settles();
      until();
    },
  },
];
