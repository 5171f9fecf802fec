import t from 'tap';
import { ADDRESSES, Overlay, Pings } from '../../chaos/overlay/index.js';
import { eventually, relayElements, sessionsOf, wireGuardPeers } from '../support/overlay-checks.js';

t.test('kill -9 of any daemon stops no traffic, and its restart takes up what it finds', async (t) => {
  // What goes direct and what stands by comes and goes by itself; here everything is to stay as it is.
  const overlay = await Overlay.start({ clientArgs: ['--privacy', 'private', '--standby', 'off'] });
  t.teardown(() => overlay.close());
  const { base, a, b, exit, client } = overlay;
  t.equal((await client.cli('up')).code, 0);
  const elements = [await relayElements(a), await relayElements(b)];
  const peers = await wireGuardPeers(exit);

  for (const node of [base, a, b, exit, client]) {
    await t.test(node.name, async (t) => {
      const pings = await Pings.start(overlay.client.host, overlay.web);
      await node.crash();
      t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'a new connection works while it is dead');
      await node.start();
      t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'and after it is back');
      const { sent, lost } = await pings.stop();
      t.equal(lost, 0, `of ${sent} packets none was lost`);
      t.match(await sessionsOf(client), [{ state: 'up' }]);
    });
  }

  t.same([await relayElements(a), await relayElements(b)], elements, 'the relays hold what they held');
  t.same(await wireGuardPeers(exit), peers, 'and the exit');

  await t.test('and vpnd down still finds and ends everything', async (t) => {
    await eventually(
      () => client.json<{ upstream: { state: string } }>('status'),
      (status) => status.upstream.state === 'up',
    );
    t.equal((await client.cli('down')).code, 0);
    for (const node of [a, b])
      t.equal(
        await eventually(
          () => relayElements(node),
          (n) => n === 0,
        ),
        0,
        node.name,
      );
    t.same(
      await eventually(
        () => wireGuardPeers(exit),
        (left) => left.length === 0,
      ),
      [],
    );
  });
});

t.test('a client that is killed and stays away leaves its tunnel, and comes back to it', async (t) => {
  const overlay = await Overlay.start();
  t.teardown(() => overlay.close());
  const { client } = overlay;
  await client.cli('up');
  await client.crash();
  await client.start();
  t.match(await sessionsOf(client), [{ state: 'up' }]);
  const said = await client.stop();
  t.match(said.join('\n'), /wg-client/, 'SIGTERM says what it left in place');
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome, 'the tunnel goes on without the daemon');
});
