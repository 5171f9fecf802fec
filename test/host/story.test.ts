import t from 'tap';
import { ADDRESSES, Overlay } from '../../chaos/overlay/index.js';
import { kernelResidue, relayElements, sessionsOf, wireGuardPeers } from '../support/overlay-checks.js';

/** Nothing that a person would ask a server for; only the tunnel may carry it. */
const CANARY = 'the-canary-in-the-request';

t.test('a laptop reaches the web through a home exit behind NAT, across two supernodes', async (t) => {
  // Two supernodes and nothing else: what goes direct, and what stands by, has stories of its own (path, failover).
  const clientArgs = ['--privacy', 'private', '--standby', 'off'];
  const overlay = await Overlay.start({ exitIpv6: true, clientIpv6: true, clientArgs });
  t.teardown(() => overlay.close());
  const { a, b, exit, client, web } = overlay;
  t.equal(await overlay.seenIp(), ADDRESSES.clientHome, 'before, the web server sees the client’s own address');

  await t.test('vpnd exits lists the exit', async (t) => {
    const exits = await client.json<{ region: string }[]>('exits');
    t.match(exits, [{ region: 'us' }]);
  });

  const captures = await Promise.all([
    a.host.capture('eth0'),
    b.host.capture('eth0'),
    overlay.clientHome.router.capture('eth0'),
  ]);

  await t.test('vpnd up answers when traffic flows, and the web server sees the exit’s address', async (t) => {
    const up = await client.cli('up', '--region', 'us');
    t.equal(up.code, 0, up.stderr);
    t.match(up.stdout, /^up: client ─ A .* ─ B .* ─ exit /);
    t.equal(await overlay.seenIp(`${web.url}/?${CANARY}`), ADDRESSES.exitHome);
  });

  await t.test('IPv6 goes through the exit too', async (t) => {
    const seen = await overlay.seenIp(`${web.url6}/`);
    t.match(seen, /^2001:db8:(1:)?:/, 'an address of the exit’s home, not of the client’s');
    t.notMatch(seen, /^2001:db8:2:/);
  });

  await t.test('status shows the path, the exit and the handshake', async (t) => {
    const [session] = await sessionsOf(client);
    t.match(session, { state: 'up', path: 'PATH_RELAY2' });
    t.equal((await sessionsOf(exit)).length, 1, 'the exit’s owner sees a session');
    t.notMatch((await exit.cli('status')).stdout, new RegExp(ADDRESSES.clientHome), 'and not who it is');
  });

  await t.test('on the underlay there is TLS, WireGuard, probes of the NAT, and nothing else', async (t) => {
    for (const [i, capture] of captures.entries()) {
      const seen = await capture.stop();
      t.same(seen.except('tls', 'wireguard', 'probe'), [], `at ${['A', 'B', 'the client’s router'][i]}`);
      t.ok((seen.byKind.wireguard ?? 0) > 10, 'the tunnel’s packets did pass here');
      t.equal(seen.containing(CANARY), 0);
    }
  });

  await t.test('the relays track no connection for it', async (t) => {
    for (const node of [a, b]) {
      const tracked = await node.host.run(['conntrack', '-L', '-p', 'udp']);
      const relayed = tracked.stdout.split('\n').filter((line) => /port=4\d{3}[1-9]\b/.test(line));
      t.same(relayed, [], node.name);
      t.ok((await relayElements(node)) > 0, `${node.name} does relay`);
    }
  });

  await t.test('after vpnd down nothing is left anywhere', async (t) => {
    const down = await client.cli('down');
    t.equal(down.code, 0, down.stderr);
    t.equal(await overlay.seenIp(), ADDRESSES.clientHome, 'the client is itself again');
    t.same(await kernelResidue(client), []);
    t.same(await wireGuardPeers(exit), []);
    for (const node of [a, b]) t.equal(await relayElements(node), 0, `map elements at ${node.name}`);
    for (const node of [a, b, exit, client]) t.same(await sessionsOf(node), [], `sessions at ${node.name}`);
    const again = await client.cli('down');
    t.equal(again.code, 0, 'a second down is no error');
  });

  await t.test('stopped daemons leave nothing in the kernel', async (t) => {
    for (const node of [client, exit, a, b, overlay.base]) await node.stop();
    for (const node of [client, exit, a, b]) t.same(await kernelResidue(node), [], node.name);
  });
});
