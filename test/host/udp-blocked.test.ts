import t, { type Test } from 'tap';
import { ADDRESSES, type Home, Overlay, type OverlayOptions, Pings } from '../../chaos/overlay/index.js';
import { eventually, kernelResidue, relayElements, sessionsOf, wireGuardPeers } from '../support/overlay-checks.js';

/** A guest network that lets nothing out but HTTPS, and answers nothing. */
async function onlyHttps(home: Home): Promise<void> {
  await home.router.nft(
    `table inet guests\ndelete table inet guests\ntable inet guests {
      chain forward {
        type filter hook forward priority filter - 2; policy accept;
        iifname "lan0" tcp dport != 443 drop
        iifname "lan0" meta l4proto != tcp drop
        oifname "lan0" meta l4proto != tcp drop
      }
    }\n`,
  );
}

const letEverythingOut = (home: Home) => home.router.nft('delete table inet guests\n');

const problemsOf = async (overlay: Overlay) =>
  (await overlay.client.json<{ problems?: string[] }>('status')).problems ?? [];
const isCarried = async (overlay: Overlay) =>
  (await problemsOf(overlay)).some((text) => /inside the stream/.test(text));

async function scene(t: Test, options: OverlayOptions = {}): Promise<Overlay> {
  const overlay = await Overlay.start(options);
  t.teardown(() => overlay.close());
  return overlay;
}

const downloaded = async (overlay: Overlay, bytes: number): Promise<string> => {
  const argv = ['curl', '-sS', '-o', '/dev/null', '-w', '%{size_download}', '--max-time', '30'];
  return (await overlay.client.host.run([...argv, `${overlay.web.url}/bytes/${bytes}`], { timeout: 40_000 })).stdout;
};

t.test('where nothing but TCP 443 gets out, the tunnel works, and UDP is used again once it can be', async (t) => {
  const overlay = await scene(t);
  const { a, b, client, exit, clientHome } = overlay;
  await onlyHttps(clientHome);

  const capture = await clientHome.router.capture('eth0', 'not tcp port 443 and not arp and not icmp6');
  const up = await client.cli('up', '--region', 'us');
  t.equal(up.code, 0, up.stderr);
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
  t.equal(await downloaded(overlay, 3_000_000), '3000000', 'a page of some size arrives whole');
  const blocked = await capture.stop();
  t.same(blocked.except(), [], 'nothing else leaves the guest network');

  const exitSees = await exit.host.exec(['wg', 'show', 'all', 'endpoints']);
  t.match(exitSees, new RegExp(`${ADDRESSES.b}:4\\d{4}`), 'to the exit it is a session like any other');
  t.ok(await isCarried(overlay), 'status says how it travels');
  t.equal(await relayElements(a), 0, 'the client’s supernode has nothing of it in the kernel');
  t.ok((await relayElements(b)) > 0, 'the exit’s supernode relays it as it relays all');

  await t.test('UDP comes back: the stream is left within 35 s, while everything goes on', async (t) => {
    const pings = await Pings.start(overlay.client.host, overlay.web, { everySeconds: 0.1 });
    await letEverythingOut(clientHome);
    await eventually(
      () => isCarried(overlay),
      (carried) => !carried,
      35_000,
    );
    await eventually(
      () => relayElements(a),
      (elements) => elements > 0,
    );
    const after = await clientHome.router.capture('eth0');
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
    t.ok(((await after.stop()).byKind.wireguard ?? 0) > 0, 'WireGuard’s own datagrams are on the wire');
    const { sent, lost } = await pings.stop();
    t.ok(lost <= 3, `${lost} of ${sent} pings lost, ten a second`);
  });

  await t.test('UDP goes away under a running tunnel: it is carried again', async (t) => {
    await onlyHttps(clientHome);
    await eventually(
      () => isCarried(overlay),
      (carried) => carried,
    );
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
  });

  const down = await client.cli('down');
  t.equal(down.code, 0, down.stderr);
  t.same(await kernelResidue(client), []);
  t.same(await wireGuardPeers(exit), []);
  for (const node of [a, b]) {
    t.equal(await relayElements(node), 0, `map elements at ${node.name}`);
    t.same(await sessionsOf(node), []);
  }
  const sockets = await a.host.exec(['ss', '-Huan']);
  t.notMatch(sockets, /:4000[1-9]\b/, 'no relay port is held by a process any more');
});

t.test('a client that starts in such a network is connected at once, over a single supernode too', async (t) => {
  const overlay = await scene(t, { oneSupernode: true });
  const { a, client, clientHome } = overlay;
  await client.stop();
  await onlyHttps(clientHome);
  await client.start();
  const up = await client.cli('up');
  t.equal(up.code, 0, up.stderr);
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
  t.ok(await isCarried(overlay));
  t.equal(await relayElements(a), 0);

  await t.test('the supernode’s daemon dies and comes back', async (t) => {
    await a.crash();
    await a.start();
    await eventually(
      () => overlay.fetch(`${overlay.web.url}/`, 3),
      ({ ok }) => ok,
      60_000,
    );
    t.ok(await isCarried(overlay));
  });
  t.equal((await client.cli('down')).code, 0);
  t.equal(await relayElements(a), 0);
});

t.test('an exit that others reach directly is reached over a supernode', async (t) => {
  const overlay = await Overlay.build({ exitArgs: ['--public-endpoint', `${ADDRESSES.exitHome}:51820`] });
  t.teardown(() => overlay.close());
  const { b, client, clientHome } = overlay;
  await overlay.exitHome.forward('udp', 51820, overlay.exit.host);
  await overlay.startAll();
  await onlyHttps(clientHome);
  const up = await client.cli('up', '--region', 'us');
  t.equal(up.code, 0, up.stderr);
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
  t.ok(await isCarried(overlay));
  t.equal((await client.cli('down')).code, 0);
  t.equal(await relayElements(b), 0);
  t.same(await wireGuardPeers(overlay.exit), []);
});
