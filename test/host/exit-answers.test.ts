import t from 'tap';
import { freezeDaemon, Overlay, Transfer, thawDaemon } from '../../chaos/overlay/index.js';

/** What of an exit's own network is a client's, by the inner address in it. */
const INNER = /^10\.20\d\./;

t.test('answers to clients leave an exit by its tunnels or not at all', async (t) => {
  const overlay = await Overlay.start({ clientArgs: ['--standby', 'off'] });
  t.teardown(() => overlay.close());
  const { exit, exitHome, client, web } = overlay;
  t.equal((await client.cli('up', '--privacy', 'private')).code, 0);
  const recording = await exitHome.router.capture('lan0');
  // The server goes on sending for a while, whoever is there to hear it.
  const transfer = await Transfer.start(client.host, web, { seconds: 4, mbps: 4 });
  // Nobody is there to make the interface again.
  freezeDaemon(exit);
  await exit.host.ip('link del wg-exit');
  const download = await transfer.ended();
  t.notOk(download.intact, 'the tunnel is gone');
  thawDaemon(exit);
  const { packets } = await recording.stop();
  const fromServer = packets.filter(({ packet: { ip } }) => ip?.from === web.host.ipv4);
  t.ok(fromServer.length > 0, `${fromServer.length} packets came from the server`);
  const strays = packets.filter(({ packet: { ip } }) => INNER.test(ip?.to ?? ''));
  t.equal(strays.length, 0, 'none went on to the router with a client’s inner address on it');
});
