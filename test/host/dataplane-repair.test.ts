import { rmSync, writeFileSync } from 'node:fs';
import t, { type Test } from 'tap';
import { createLab, type Host } from '../../chaos/lab/index.js';
import type { UnitId } from '../../src/model/dataplane.js';
import { openOnHost } from '../support/namespace-dataplane.js';
import {
  at,
  cidrs,
  device,
  egress,
  fullTunnel,
  ip,
  keyPair,
  killSwitch,
  peer,
  port,
  relay,
} from '../support/namespace-units.js';

t.setTimeout(900_000);

const UNITS = [
  device('wg-a', { listenPort: 51_820 as never }),
  peer('wg-a', 2, { endpoint: at('198.51.100.9', 5000), keepalive: 25 }),
  egress('wg-a'),
  device('wg-b', { privateKey: keyPair(4).privateKey, addresses: cidrs('10.200.0.2/32') }),
  fullTunnel('wg-b'),
  relay(40_001),
  relay(40_002),
];

async function host(t: Test): Promise<Host> {
  const lab = await createLab();
  t.teardown(() => lab.close());
  return await lab.publicHost('host', { ipv4: '198.51.100.1', ipv6: '2001:db8::1' });
}

const HOLD_PORT = 'import socket,time; s=socket.socket(2,2); s.bind(("",51000)); print("held"); time.sleep(60)';

const open = (on: Host, more = {}) => openOnHost(on, { owner: 'supernode', engine: 'auto', ...more });

t.test('what somebody else takes away or changes is put right, and named', async (t) => {
  const on = await host(t);
  const plane = await open(on);
  await plane.reconcile(UNITS);
  const relays = ['relay/40001', 'relay/40002'];
  const damages: readonly (readonly [string, () => Promise<unknown>, readonly string[]])[] = [
    ['the relay table', () => on.nft('delete table ip vpnd_supernode'), relays],
    ['a relay chain', () => on.nft('delete chain ip vpnd_supernode post'), relays],
    ['the rules of a chain', () => on.nft('flush chain ip vpnd_supernode learn'), relays],
    ['a rule more', () => on.nft('insert rule ip vpnd_supernode pre accept'), relays],
    ['one element', () => on.nft('delete element ip vpnd_supernode next_ip { 40001 }'), ['relay/40001']],
    [
      'a changed element',
      () =>
        on.nft(
          'delete element ip vpnd_supernode next_ip { 40002 }; add element ip vpnd_supernode next_ip { 40002 : 198.51.100.66 }',
        ),
      ['relay/40002'],
    ],
    ['the filter table', () => on.nft('delete table inet vpnd_supernode'), ['egress/wg-a', 'full-tunnel/wg-b']],
    ['a filter chain', () => on.nft('flush chain inet vpnd_supernode forward'), ['egress/wg-a', 'full-tunnel/wg-b']],
    [
      'a peer',
      () => on.exec(['wg', 'set', 'wg-a', 'peer', keyPair(2).publicKey, 'remove']),
      [`peer/wg-a/${keyPair(2).publicKey}`],
    ],
    [
      'a peer’s addresses',
      () => on.exec(['wg', 'set', 'wg-a', 'peer', keyPair(2).publicKey, 'allowed-ips', '10.9.9.9/32']),
      [`peer/wg-a/${keyPair(2).publicKey}`],
    ],
    ['an address', () => on.ip('addr del 10.200.0.1/13 dev wg-a'), ['device/wg-a', 'egress/wg-a']],
    ['the MTU', () => on.ip('link set wg-a mtu 1300'), ['device/wg-a']],
    ['a rule', () => on.ip('rule del priority 6130'), ['full-tunnel/wg-b']],
    ['a route', () => on.ip('route flush table 51820'), ['full-tunnel/wg-b']],
    ['forwarding', () => on.sysctl('net.ipv4.ip_forward=0'), ['egress/wg-a', ...relays]],
    ['a device', () => on.ip('link del wg-a'), ['device/wg-a', 'egress/wg-a', `peer/wg-a/${keyPair(2).publicKey}`]],
  ];
  for (const [what, damage, expected] of damages) {
    await damage();
    const { repaired, removed } = await plane.reconcile(UNITS);
    // Removing an address takes the routes of its device's network along, which is no unit of its own.
    const named =
      what === 'an address' ? repaired.filter((id) => id !== 'egress/wg-a').concat('egress/wg-a' as UnitId) : repaired;
    t.same([...named].sort(), [...expected].sort(), what);
    t.same(removed, [], what);
    t.same(await plane.reconcile(UNITS), { repaired: [], removed: [] }, `${what}, once more`);
  }
  // A change finds out by itself that the table it counted on has gone.
  await on.nft('delete table ip vpnd_supernode');
  await plane.apply({ put: [relay(40_003)] });
  t.same((await plane.reconcile([...UNITS, relay(40_003)])).removed, []);
});

const PIN = { from: at('198.51.100.9', 40_001), to: at('203.0.113.10', 4500) };
const TUNNELS = [
  device('wg-a', { addresses: cidrs('10.200.0.2/32', 'fd7a:7670:6e64::2/128') }),
  device('wg-b', { privateKey: keyPair(4).privateKey, addresses: cidrs('10.200.0.3/32') }),
  device('wg-c', { privateKey: keyPair(5).privateKey, addresses: cidrs('10.200.0.4/32') }),
  fullTunnel('wg-a', { pin: PIN }),
  fullTunnel('wg-b', { use: 'standby', table: 51_821, sources: [ip('10.200.0.3')], exempt: [] }),
  fullTunnel('wg-c', { use: 'dead', table: 51_822, sources: [ip('10.200.0.4')], exempt: [], ipv6: 'block' }),
  killSwitch({ exclude: cidrs('203.0.113.0/24', '192.0.2.7/32') }),
];

t.test('what tunnels are used for, and pins, are put right', async (t) => {
  const on = await host(t);
  const plane = await open(on, { owner: 'client' });
  await plane.reconcile(TUNNELS);
  const pinTable = 'inet vpnd_client_pin_51820';
  const all = ['full-tunnel/wg-a', 'full-tunnel/wg-b', 'full-tunnel/wg-c'];
  const [a, b, c] = all.map((id) => [id]);
  const killSwitchTable = 'inet vpnd_client_kill_switch';
  const held = ['kill-switch/client'];
  const damages: readonly (readonly [string, () => Promise<unknown>, readonly string[] | undefined, number?])[] = [
    ['the rule that makes it active', () => on.ip('rule del priority 6130'), a],
    ['the same for IPv6', () => on.exec(['ip', '-6', 'rule', 'del', 'priority', '6130']), a],
    [
      'another made active',
      () => on.ip('rule add lookup 51821 priority 6130 protocol 118', 'rule del lookup 51820 priority 6130'),
      a,
      1,
    ],
    ['everything held', () => on.ip('rule add unreachable priority 6130 protocol 118'), [], 1],
    ['what is bound to the standby', () => on.ip('rule del from 10.200.0.3'), b],
    ['the LAN', () => on.ip('rule del to 192.168.0.0/16'), held],
    ['an excluded network', () => on.ip('rule del to 192.0.2.7'), held],
    ['the kill switch', () => on.nft(`delete table ${killSwitchTable}`), held],
    ['all that it lets pass', () => on.nft(`flush chain ${killSwitchTable} pass`), held],
    ['a hole in it', () => on.nft(`insert rule ${killSwitchTable} pass accept`), held],
    ['an endpoint of it', () => on.nft(`flush set ${killSwitchTable} endpoints4`), held],
    ['an endpoint more', () => on.nft(`add element ${killSwitchTable} tcp4 { 203.0.113.99 . 443 }`), held],
    ['an end of the pin', () => on.ip('rule del to 203.0.113.10'), a],
    ['the routes of the standby', () => on.ip('route flush table 51821'), b],
    ['the routes of the dead one', () => on.ip('route flush table 51822'), c],
    ['the pin', () => on.nft(`delete table ${pinTable}`), a],
    ['the rules of the pin', () => on.nft(`flush chain ${pinTable} pin`), a],
    ['a rule more in the pin', () => on.nft(`insert rule ${pinTable} pin accept`), a],
    ['the counts of the pin', () => on.nft(`reset counters table ${pinTable}`), []],
    ['a pin that nobody wants', () => on.nft('table inet vpnd_client_pin_99 { chain c { counter; }; }'), [], 1],
    ['what refuses for the dead one', () => on.nft('flush chain inet vpnd_client dead'), all],
    ['a device that stands by', () => on.ip('link del wg-b'), ['device/wg-b', 'full-tunnel/wg-b']],
    ['the active device', () => on.ip('link del wg-a'), ['device/wg-a', 'full-tunnel/wg-a']],
  ];
  for (const [what, damage, expected, gone = 0] of damages) {
    await damage();
    const { repaired, removed } = await plane.reconcile(TUNNELS);
    t.same([...repaired].sort(), [...(expected ?? [])].sort(), what);
    t.equal(removed.length, gone, `${what}: ${removed.join(', ')}`);
    t.same(await plane.reconcile(TUNNELS), { repaired: [], removed: [] }, `${what}, once more`);
  }
  t.match(await plane.observePins(), [{ device: 'wg-a', fromPackets: 0, toPackets: 0 }]);
});

t.test('a restarted process keeps what a pin has counted', async (t) => {
  const on = await host(t);
  const first = await open(on, { owner: 'client' });
  await first.reconcile(TUNNELS);
  const port = (await on.exec(['wg', 'show', 'wg-a', 'listen-port'])).trim();
  // As if from the pin's new end: the host sends it to itself.
  await on.ip(`addr add ${PIN.to.ip}/32 dev lo`);
  const send = `import socket; s=socket.socket(2,2); s.bind(("${PIN.to.ip}",${PIN.to.port})); s.sendto(b"x",("127.0.0.1",${port}))`;
  await on.exec(['python3', '-c', send]);
  t.match(await first.observePins(), [{ fromPackets: 0, toPackets: 1 }]);
  await first.crash();
  const second = await open(on, { owner: 'client' });
  t.same(await second.reconcile(TUNNELS), { repaired: [], removed: [] });
  t.match(await second.observePins(), [{ fromPackets: 0, toPackets: 1 }]);
  await on.nft('table inet vpnd_exit_pin_7 { chain c { counter; }; }; table inet vpnd_client_pin_mine { }');
  t.ok((await second.reconcile([])).removed.some((line) => line.includes('vpnd_client_pin_51820')));
  t.same(await second.inventory(), []);
  const rest = await on.exec(['nft', 'list', 'tables']);
  t.match(rest, /vpnd_exit_pin_7[\s\S]*vpnd_client_pin_mine/, 'what only looks like ours stays');
});

t.test('residue goes, foreign state stays', async (t) => {
  const on = await host(t);
  const first = await open(on);
  await first.reconcile(UNITS);
  await first.crash();
  await on.nft('table ip foreign { chain c { type filter hook input priority 0; counter; }; }');
  await on.nft('table inet vpnd_exit { chain c { counter; }; }');
  await on.ip(
    'link add foreign0 type veth peer name foreign1',
    'rule add to 192.0.2.1 lookup 77 priority 6100',
    'route add 192.0.2.0/24 via 198.51.100.254',
    'route add unreachable 192.0.2.1 table 77 proto 118',
  );
  const snapshot = async () => [
    await on.exec(['nft', 'list', 'table', 'ip', 'foreign']),
    await on.exec(['nft', 'list', 'table', 'inet', 'vpnd_exit']),
    await on.exec(['ip', 'rule']),
    await on.exec(['ip', 'route', 'show', 'table', 'all', 'proto', '118']),
    await on.exec(['ip', 'link', 'show', 'foreign0']),
  ];
  const second = await open(on);
  t.match(await second.inventory(), new Set(await second.inventory()), 'a new process sees what the old one left');
  const { removed } = await second.reconcile([]);
  t.ok(removed.some((line) => line.includes('wg-a')) && removed.some((line) => line.includes('40001')));
  t.same(await second.inventory(), []);
  const before = await snapshot();
  await second.reconcile(UNITS);
  await second.reconcile([]);
  t.same(await snapshot(), before);
  t.match(before[2], /192\.0\.2\.1/);
});

t.test('a restarted process adopts everything as it is', async (t) => {
  const on = await host(t);
  const first = await open(on);
  await first.reconcile(UNITS);
  const pids = on.pids();
  await first.crash();
  const second = await open(on);
  t.same(await second.reconcile(UNITS), { repaired: [], removed: [] });
  if (second.engine === 'userspace') {
    const daemons = await Promise.all(pids.map((pid) => on.run(['readlink', `/proc/${pid}/exe`])));
    t.equal(daemons.filter((one) => one.stdout.includes('wireguard-go')).length, 2, 'wireguard-go lives on');
  }
});

t.test('a device that is somebody else’s is refused and left alone', async (t) => {
  const on = await host(t);
  await on.ip('link add wg-a type veth peer name other');
  const plane = await open(on);
  await t.rejects(plane.apply({ put: [device('wg-a')] }), { code: 'dataplane', message: /not vpnd's.*--interface/ });
  await plane.apply({ remove: ['device/wg-a' as UnitId] });
  await plane.reconcile([]);
  t.match(await on.exec(['ip', 'link', 'show', 'wg-a']), 'wg-a@other');
  await t.rejects(plane.reconcile([device('wg-a'), relay(40_001)]), { code: 'dataplane' });
  t.match(await plane.inventory(), [/vpnd_supernode: 1 relay/], 'what can be put right is, all the same');
});

t.test('a device that was begun while ip failed is no obstacle later', async (t) => {
  const on = await host(t);
  const tools = `${on.directory}/tools`;
  await on.exec(['mkdir', '-p', tools]);
  const others = 'for tool in nft wg ss tc wireguard-go; do ln -s "$(command -v $tool)" "$1"; done';
  await on.exec(['/bin/sh', '-ec', others, 'sh', tools]);
  const script = `#!/bin/sh\n[ -e "${tools}/broken" ] && exit 1\nexec /usr/sbin/ip "$@"\n`;
  writeFileSync(`${tools}/ip`, script, { mode: 0o755 });
  const plane = await open(on, { toolDirectories: [tools] });
  writeFileSync(`${tools}/broken`, '');
  await t.rejects(plane.apply({ put: [device('wg-a'), peer('wg-a', 2)] }), { code: 'dataplane' });
  rmSync(`${tools}/broken`);
  // A tunnel has a key and a peer of its own each time.
  await plane.apply({ put: [device('wg-a', { privateKey: keyPair(5).privateKey }), peer('wg-a', 6)] });
  t.equal((await on.exec(['wg', 'show', 'wg-a', 'public-key'])).trim(), keyPair(5).publicKey);
  t.equal((await plane.observePeers()).length, 1, 'and nothing of the one before');
  await plane.apply({ remove: ['device/wg-a' as UnitId] });
  t.notMatch(await on.exec(['ip', '-br', 'link', 'show']), /wg-a/);
});

t.test('a device keeps its handshakes when only its key’s owner says the same again', async (t) => {
  const on = await host(t);
  const plane = await open(on);
  await plane.apply({ put: [device('wg-a'), peer('wg-a', 2)] });
  await plane.apply({ put: [device('wg-a', { privateKey: keyPair(3).privateKey, mtu: 1380 })] });
  t.equal((await on.exec(['wg', 'show', 'wg-a', 'public-key'])).trim(), keyPair(3).publicKey);
  t.equal((await plane.observePeers()).length, 1);
  const holder = on.spawn(['python3', '-uc', HOLD_PORT]);
  await holder.waitForLine(/held/, 10_000);
  await t.rejects(plane.apply({ put: [device('wg-b', { listenPort: port(51_000) })] }), { code: 'port-in-use' });
  t.notMatch((await plane.inventory()).join('\n'), /wg-[bc]/, 'and nothing of the refused change is left');
});

t.test('a socket that a dead wireguard-go left is no obstacle', async (t) => {
  const on = await host(t);
  const plane = await open(on);
  await plane.apply({ put: [device('wg-a')] });
  if (plane.engine === 'kernel') await on.ip('link del wg-a');
  for (const pid of on.pids()) {
    const exe = await on.run(['readlink', `/proc/${pid}/exe`]);
    if (exe.stdout.includes('wireguard-go')) process.kill(pid, 'SIGKILL');
  }
  const { repaired } = await plane.reconcile([device('wg-a')]);
  t.same(repaired, ['device/wg-a']);
  t.same(await plane.reconcile([device('wg-a')]), { repaired: [], removed: [] });
});

t.test('what the machine lacks is said in one line', async (t) => {
  const on = await host(t);
  const empty = `${on.directory}/bin`;
  await on.exec(['mkdir', '-p', empty]);
  await t.rejects(open(on, { toolDirectories: [empty] }), { code: 'no-tool', message: /apt-get install iproute2/ });
  await on.exec(['ln', '-s', '/usr/sbin/ip', `${empty}/ip`]);
  await t.rejects(open(on, { toolDirectories: [empty] }), { code: 'no-nft', message: /apt-get install nftables/ });
  await on.exec(['ln', '-s', '/usr/sbin/nft', `${empty}/nft`]);
  await t.rejects(open(on, { toolDirectories: [empty], engine: 'userspace' }), {
    code: 'no-wireguard',
    message: /apt-get install wireguard-go/,
  });
  writeFileSync(`${empty}/nft.bad`, '');
  rmSync(`${empty}/nft.bad`);
});

t.test('relay ports are kept from other sockets, beside what others keep', async (t) => {
  const on = await host(t);
  await on.sysctl('net.ipv4.ip_local_reserved_ports=5000-5001');
  const range = { relayPorts: { from: 40_000, to: 40_999 } };
  const reserved = async () => (await on.exec(['sysctl', '-n', 'net.ipv4.ip_local_reserved_ports'])).trim();
  const plane = await open(on, range);
  t.equal(await reserved(), '5000-5001', 'not before it is used: a start may still fail');
  for (const one of [plane, await open(on, range)]) await one.reconcile([]);
  t.equal(await reserved(), '5000-5001,40000-40999');
});
