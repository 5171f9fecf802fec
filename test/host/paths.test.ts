import t from 'tap';
import { ADDRESSES, Overlay, type OverlayNode } from '../../chaos/overlay/index.js';
import { kernelResidue, sessionsOf, wireGuardPeers } from '../support/overlay-checks.js';

t.test('an exit with a forwarded port is reached directly', async (t) => {
  const overlay = await Overlay.build({
    exitArgs: ['--public-endpoint', `${ADDRESSES.exitHome}:51820`],
  });
  t.teardown(() => overlay.close());
  await overlay.exitHome.forward('udp', 51820, overlay.exit.host);
  await overlay.startAll();
  const atA = await overlay.a.host.capture('eth0', 'udp');
  t.equal((await overlay.client.cli('up')).code, 0);
  t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
  t.match(await sessionsOf(overlay.client), [{ path: 'PATH_DIRECT' }]);
  t.equal((await atA.stop()).byKind.wireguard ?? 0, 0, 'no supernode carries its packets');
  const down = await overlay.client.json<{ releasedEverywhere: boolean }>('down');
  t.ok(down.releasedEverywhere);
  t.same(await wireGuardPeers(overlay.exit), []);

  await t.test('but never with --privacy private', async (t) => {
    t.equal((await overlay.client.cli('up', '--privacy', 'private')).code, 0);
    t.match(await sessionsOf(overlay.client), [{ path: 'PATH_RELAY2' }]);
    t.equal(await overlay.seenIp(), ADDRESSES.exitHome);
  });
});

t.test('where a region has no exit, a supernode with --egress is one', async (t) => {
  const overlay = await Overlay.build({ supernodeArgs: ['--egress'] });
  t.teardown(() => overlay.close());
  const { base, a, b, client } = overlay;
  await base.start();
  await Promise.all([
    overlay.token('supernode', 'eu', { egress: true }).then((token) => a.start({ token })),
    overlay.token('supernode', 'us', { egress: true }).then((token) => b.start({ token })),
  ]);
  await client.start({ token: await overlay.token('client', 'eu') });
  const up = await client.cli('up', '--region', 'us');
  t.equal(up.code, 0, up.stderr);
  t.equal(await overlay.seenIp(), ADDRESSES.b, 'the web server sees the supernode');
  t.match(await b.host.exec(['ip', '-br', 'addr', 'show', 'wg-relay']), /10\.200\.0\.1\/13/);
  t.match(
    await b.host.exec(['wg', 'show', 'wg-relay', 'allowed-ips']),
    /10\.\d+\.\d+\.\d+\/32/,
    'one inner address per client',
  );
  t.equal((await client.cli('down')).code, 0);
  t.same(await wireGuardPeers(b), []);
  for (const node of [client, a, b]) await node.stop();
  for (const node of [client, a, b]) t.same(await kernelResidue(node), [], `${node.name} leaves nothing`);
});

t.test('what operators look at', async (t) => {
  const overlay = await Overlay.start({ clientArgs: ['--standby', 'off'] });
  t.teardown(() => overlay.close());
  await overlay.client.cli('up');
  const ports: [OverlayNode, number][] = [
    [overlay.base, 9470],
    [overlay.a, 9471],
    [overlay.exit, 9472],
    [overlay.client, 9473],
  ];

  await t.test('every role answers on /metrics and /healthz', async (t) => {
    for (const [node, port] of ports) {
      const get = (path: string) => node.host.exec(['curl', '-sS', `http://127.0.0.1:${port}${path}`]);
      t.match(JSON.parse(await get('/healthz')), { ok: true }, node.name);
      t.match(await get('/metrics'), /^# HELP active_streams_total /m, node.name);
    }
    const a = await overlay.a.host.exec(['curl', '-sS', 'http://127.0.0.1:9471/metrics']);
    t.match(a, /^active_streams_total\{role="client"\} 1$/m);
    t.match(a, /^command_success_total\{kind="relay-setup"\} [1-9]/m);
    const exit = await overlay.exit.host.exec(['curl', '-sS', 'http://127.0.0.1:9472/metrics']);
    t.match(exit, /^wg_peers_count 1$/m);
    t.notMatch(a, /[a-z2-7]{52}/, 'no peer id in a label');
  });

  await t.test('vpnd doctor finds everything in order, and says what is not', async (t) => {
    const held = await overlay.client.cli('doctor');
    t.equal(held.code, 0, held.stdout);
    t.match(held.stdout, /tcp.*kill switch/i, 'while a tunnel is wanted nobody but the client itself may ask');
    await overlay.client.cli('down');
    const well = await overlay.client.cli('doctor');
    t.equal(well.code, 0, well.stdout);
    t.notMatch(well.stdout, /FAIL/);
    for (const what of [/tun/i, /wireguard/i, /nft/i, /clock/i, /tcp/i, /udp/i]) t.match(well.stdout, what);
    await overlay.a.stop();
    await overlay.b.stop();
    const ill = await overlay.client.cli('doctor');
    t.equal(ill.code, 1);
    t.match(ill.stdout, /^FAIL.*supernode/im);
  });
});
