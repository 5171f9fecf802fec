import t from 'tap';
import { onLinkNetworks } from '../../dataplane/on-link.js';
import { parseSide, sameRate } from '../../dataplane/tc-list.js';

const link = (ifname: string, addresses: readonly [string, number][], ifalias?: string) => ({
  ifname,
  ...(ifalias === undefined ? {} : { ifalias }),
  addr_info: addresses.map(([local, prefixlen]) => ({ local, prefixlen })),
});
const found = (routes: { 4?: readonly object[]; 6?: readonly object[] }, links: readonly object[] = []) =>
  onLinkNetworks({
    routes: { 4: JSON.stringify(routes[4] ?? []), 6: JSON.stringify(routes[6] ?? []) },
    addresses: JSON.stringify(links),
  });

t.test('a household’s public IPv6 is the /56 around what the exit sees of it', async (t) => {
  t.same(
    found({}, [
      link('eth0', [
        ['192.168.1.2', 24],
        ['2001:db8:1:42::2', 64],
        ['fe80::1', 64],
      ]),
    ]),
    ['2001:db8:1::/56'],
  );
  // By router advertisement alone, and a /60 that somebody has routed here.
  t.same(
    found({
      6: [
        { dst: '2001:db8:1:42::/64', dev: 'eth0' },
        { dst: '2001:db8:7::/60', dev: 'br0' },
      ],
    }),
    ['2001:db8:1::/56', '2001:db8:7::/56'],
  );
});

t.test('public IPv4 counts as it is, with addresses on their own', async (t) => {
  t.same(
    found({
      4: [
        { dst: '203.0.113.0/25', dev: 'eth0', scope: 'link' },
        { dst: '203.0.113.200', dev: 'eth1' },
      ],
    }),
    ['203.0.113.0/25', '203.0.113.200/32'],
  );
  t.same(found({}, [link('eth0', [['203.0.113.9', 24]])]), ['203.0.113.0/24']);
});

t.test('what leads to the internet is no network of one’s own', async (t) => {
  t.same(
    found({
      4: [
        { dst: 'default', dev: 'ppp0' },
        { dst: 'default', gateway: '192.168.1.1', dev: 'eth0' },
        { dst: '0.0.0.0/1', dev: 'tun0' },
        { dst: '128.0.0.0/1', dev: 'tun0' },
        { dst: '203.0.113.0/24', gateway: '192.168.1.1', dev: 'eth0' },
        { type: 'unreachable', dst: '198.51.100.0/24', dev: 'lo' },
      ],
      6: [
        { dst: '2000::/3', dev: 'sit0' },
        { dst: 'default', nexthops: [{ gateway: 'fe80::1', dev: 'eth0' }] },
        { dst: '2001:db8:9::/48', nexthops: [{ gateway: 'fe80::1', dev: 'eth0' }] },
        { dst: '2001:db8:a::/64', via: { family: 'inet6', host: 'fe80::1' }, dev: 'eth0' },
      ],
    }),
    [],
  );
});

t.test('loopback, private networks and vpnd’s own devices need no mention', async (t) => {
  t.same(
    found(
      {
        4: [
          { dst: '203.0.113.0/24', dev: 'wg-exit' },
          { dst: '10.0.0.0/8', dev: 'eth0' },
        ],
      },
      [
        link('lo', [
          ['127.0.0.1', 8],
          ['203.0.113.5', 32],
        ]),
        link('wg-exit', [['203.0.113.1', 24]], 'vpnd:exit'),
        link('eth0', [
          ['10.0.0.2', 8],
          ['fd00::2', 64],
        ]),
      ],
    ),
    [],
  );
});

t.test('what tc shows of a queue is read back, however it writes rates', async (t) => {
  const side = parseSide({
    qdiscs:
      'qdisc htb 1: root refcnt 2 r2q 10 default 0x1 direct_packets_stat 0\nqdisc bfifo 8002: parent 1:10 limit 64Kb\n',
    classes:
      'class htb 1:10 parent 1:fffe leaf 8002: prio 0 rate 1Kbit ceil 12500Kbit burst 3000b cburst 7812b \nclass htb 1:fffe root rate 1234Mbit ceil 1234Mbit burst 1b cburst 1b \n',
    filters: [
      'filter protocol ip pref 10 u32 chain 0 fh 10: ht divisor 256 ',
      'filter protocol ip pref 10 u32 chain 0 fh 800::800 order 2048 key ht 800 bkt 0 link 10: ',
      'filter protocol ip pref 10 u32 chain 0 fh 10:2:1 order 1 key ht 10 bkt 2 *flowid 1:10 not_in_hw ',
      '  match 0ac80002/ffffffff at 16',
      'filter protocol ipv6 pref 11 u32 chain 0 fh 11: ht divisor 256 ',
      'filter protocol ipv6 pref 11 u32 chain 0 fh 801::800 order 2048 key ht 801 bkt 0 link 11: ',
      'filter protocol ipv6 pref 11 u32 chain 0 fh 11:2:1 order 1 key ht 11 bkt 2 flowid 1:10 ',
      '  match fd76706e/ffffffff at 24',
      '  match 64000000/ffffffff at 28',
      '  match 00000000/ffffffff at 32',
      '  match 00000002/ffffffff at 36',
    ].join('\n'),
  });
  t.ok(side.framed);
  t.same(
    [...side.classes],
    [
      [0x10, { rate: 1, ceil: 12_500 }],
      [0xfffe, { rate: 1_234_000, ceil: 1_234_000 }],
    ],
  );
  t.same([...side.leaves], [[0x10, 'bfifo']]);
  t.same(
    [...side.filters],
    [
      ['10.200.0.2', { node: '10:2:1', classId: 0x10 }],
      ['fd76:706e:6400::2', { node: '11:2:1', classId: 0x10 }],
    ],
  );
  t.ok(sameRate(1_234_000, 1_234_567), 'tc leaves digits out');
  t.notOk(sameRate(12_000, 12_500));
  t.notOk(parseSide({ qdiscs: 'qdisc noqueue 0: root', classes: '', filters: '' }).framed);
});
