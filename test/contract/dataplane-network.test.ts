import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { networkStateOf } from '../../dataplane/network-state.js';
import { isNews, openNetworkWatch } from '../../dataplane/network-watch.js';
import { parseTraffic } from '../../dataplane/traffic.js';
import type { NetworkState } from '../../src/core/ports/network-watch.js';
import { ms } from '../../src/model/time.js';
import { testLog } from '../support/test-log.js';

const address = (local: string, more: object = {}) => ({
  family: local.includes(':') ? 'inet6' : 'inet',
  local,
  scope: 'global',
  ...more,
});
const eth0 = {
  ifname: 'eth0',
  addr_info: [address('192.168.1.2'), address('2001:db8::2'), address('fe80::1', { scope: 'link' })],
};
const wlan0 = { ifname: 'wlan0', addr_info: [address('10.0.0.9')] };
const tunnel = { ifname: 'wg-client', ifalias: 'vpnd:client', addr_info: [address('10.200.0.2')] };

const listing = (
  routes4: readonly object[],
  routes6: readonly object[] = [],
  links: readonly object[] = [eth0, wlan0],
) => ({
  routes: { 4: JSON.stringify(routes4), 6: routes6.length === 0 ? '' : JSON.stringify(routes6) },
  addresses: JSON.stringify(links),
});
const via = (gateway: string, dev: string, more: object = {}) => ({ dst: 'default', gateway, dev, ...more });
const print = (...args: Parameters<typeof listing>) => networkStateOf(listing(...args)).fingerprint;

t.test('a network is its gateway, the device and the addresses on it', async (t) => {
  t.equal(print([via('192.168.1.1', 'eth0')]), 'IPv4 192.168.1.1 eth0 192.168.1.2');
  t.equal(
    print([via('192.168.1.1', 'eth0')], [via('fe80::9', 'eth0', { metric: 1024 })]),
    'IPv4 192.168.1.1 eth0 192.168.1.2; IPv6 fe80::9 eth0 2001:db8::2',
  );
  t.same(networkStateOf(listing([])), { fingerprint: '', connected: false });
  t.equal(print([{ dst: 'default', dev: 'eth0', scope: 'link' }]), 'IPv4 - eth0 192.168.1.2', 'no gateway');
  t.equal(print([via('192.168.1.1', 'eth0', { prefsrc: '192.168.1.7' })]), 'IPv4 192.168.1.1 eth0 192.168.1.7');
});

t.test('the preferred way counts, those in reserve do not', async (t) => {
  const both = [via('10.0.0.1', 'wlan0', { metric: 600 }), via('192.168.1.1', 'eth0', { metric: 100 })];
  t.equal(print(both), 'IPv4 192.168.1.1 eth0 192.168.1.2');
  t.equal(print(both.slice(0, 1)), 'IPv4 10.0.0.1 wlan0 10.0.0.9');
  const unplugged = via('192.168.1.1', 'eth0', { metric: 100, flags: ['linkdown'] });
  t.equal(print([both[0] ?? {}, unplugged]), 'IPv4 10.0.0.1 wlan0 10.0.0.9', 'a cable that is out');
  t.equal(networkStateOf(listing([unplugged])).connected, false);
  const multipath = {
    dst: 'default',
    nexthops: [
      { gateway: '192.168.1.1', dev: 'eth0', flags: [] },
      { via: { family: 'inet6', host: 'fe80::7' }, dev: 'wlan0', flags: [] },
      { gateway: '10.0.0.1', dev: 'wlan0', flags: ['dead'] },
    ],
  };
  t.equal(print([multipath]), 'IPv4 192.168.1.1 eth0 192.168.1.2; IPv4 fe80::7 wlan0 10.0.0.9');
});

t.test('what changes while the network stays does not count', async (t) => {
  const six = [via('fe80::9', 'eth0')];
  const daily = address('2001:db8::99', { temporary: true });
  const old = address('2001:db8::98', { deprecated: true });
  const untried = address('2001:db8::97', { tentative: true });
  const links = [{ ...eth0, addr_info: [daily, old, untried, ...eth0.addr_info] }];
  t.equal(print([], six, links), 'IPv6 fe80::9 eth0 2001:db8::2');
  t.same(networkStateOf(listing([], six, [{ ifname: 'eth0', addr_info: [address('fe80::1', { scope: 'link' })] }])), {
    fingerprint: '',
    connected: false,
  });
  const unnumbered = [
    { ifname: 'ppp0', addr_info: [] },
    { ifname: 'lo', addr_info: [address('203.0.113.5')] },
  ];
  t.equal(print([{ dst: 'default', dev: 'ppp0' }], [], unnumbered), 'IPv4 - ppp0 203.0.113.5');
});

t.test('tunnels are no networks underneath', async (t) => {
  const routes = [{ dst: 'default', dev: 'wg-client' }, via('10.0.0.1', 'wlan0', { metric: 600 })];
  t.equal(print(routes, [], [tunnel, wlan0]), 'IPv4 10.0.0.1 wlan0 10.0.0.9');
  t.equal(print([{ dst: 'default', dev: 'gone0' }], [], [wlan0]), '');
  const mine = (name: string) => name === 'wlan0';
  t.same(networkStateOf(listing([via('10.0.0.1', 'wlan0')]), mine), { fingerprint: '', connected: false });
  t.throws(() => networkStateOf({ routes: { 4: '{', 6: '' }, addresses: '[]' }), { code: 'dataplane' });
});

t.test('of what ip monitor says, little is news', async (t) => {
  const own = (name: string) => name === 'wg-client';
  for (const [line, news] of [
    ['[ROUTE]default via 192.0.2.1 dev eth0 ', true],
    ['[ROUTE]Deleted default via 192.0.2.1 dev eth0 ', true],
    ['[ROUTE]default dev wg-client table 51820 proto 118 ', false],
    ['[ROUTE]192.0.2.0/24 dev eth0 proto kernel scope link src 192.0.2.2 ', false],
    ['[ROUTE]local 192.0.2.2 dev eth0 table local proto kernel', false],
    ['[LINK]3: eth0@p: <NO-CARRIER,BROADCAST> mtu 1500', true],
    ['[LINK]Deleted 3: eth0: <BROADCAST> mtu 1500', true],
    ['[LINK]9: wg-client: <POINTOPOINT> mtu 1420', false],
    ['    link/ether 86:73:59:ab:58:ce brd ff:ff:ff:ff:ff:ff', false],
    ['[ADDR]3: eth0    inet 192.0.2.2/24 scope global eth0', true],
    ['[ADDR]9: wg-client    inet 10.200.0.2/32 scope global wg-client', false],
    ['', false],
  ] as const) {
    t.equal(isNews(line, own), news, line);
  }
});

/** An `ip` that cannot monitor, and answers with what the test has written down. */
const FAKE_IP = `#!/bin/sh
cd "$(dirname "$0")"
case "$*" in
  monitor*) echo x >> started; exit 1;;
  "-4 -j route show default") cat route4;;
  "-6 -j route show default") exit 1;;
  "-j -d addr show") cat addr;;
  *) exit 1;;
esac
`;

t.test('without anything that watches, the networks are looked at now and then', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'vpnd-watch-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const write = (routes: readonly object[]) => writeFileSync(join(directory, 'route4'), JSON.stringify(routes));
  writeFileSync(join(directory, 'ip'), FAKE_IP);
  chmodSync(join(directory, 'ip'), 0o755);
  writeFileSync(join(directory, 'addr'), JSON.stringify([eth0]));
  write([via('192.168.1.1', 'eth0')]);
  await t.rejects(openNetworkWatch({ clock: handClock(), log: testLog(), toolDirectories: [tmpdir()] }), {
    code: 'no-tool',
  });
  const clock = handClock();
  const watch = await openNetworkWatch({ clock, log: testLog(), toolDirectories: [directory] });
  t.equal(watch.current().fingerprint, 'IPv4 192.168.1.1 eth0 192.168.1.2');
  const heard: NetworkState[] = [];
  const news = new Promise<void>((resolve) => {
    watch.listen((state) => {
      heard.push(state);
      resolve();
    });
  });
  const silent = watch.listen(() => t.fail('it has ended'));
  silent();
  write([]);
  // The program has ended by itself, which is why another start is waited for.
  await clock.asked(1000, 2);
  clock.strike();
  await news;
  t.same(heard, [{ fingerprint: '', connected: false }]);
  t.same(watch.current(), { fingerprint: '', connected: false });
  await clock.asked(2000, 1);
  t.equal(readFileSync(join(directory, 'started'), 'utf8'), 'x\nx\n', 'it is started again, and later each time');
  await watch.close();
  t.equal(clock.waiting(), 0);
});

t.test('packets are read from the kernel’s table', async (t) => {
  const table = [
    'Inter-|   Receive                                                |  Transmit',
    ' face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed',
    '    lo:       1       2    0    0    0     0          0         0        3       4    0    0    0     0       0          0',
    'wg-client:123456     789    0    0    0     0          0         0   456789     654    0    0    0     0       0          0',
    'wg-client-1:   1       5    0    0    0     0          0         0        1       6    0    0    0     0       0          0',
  ].join('\n');
  t.same(parseTraffic(table, 'wg-client'), { rxPackets: 789, txPackets: 654 });
  t.same(parseTraffic(table, 'wg-client-1'), { rxPackets: 5, txPackets: 6 });
  t.equal(parseTraffic(table, 'wg'), undefined);
});

/** A clock whose timers go off when the test says so. */
function handClock() {
  const timers = new Map<() => void, number>();
  let changed = () => {};
  return {
    monotonic: () => ms(0),
    after(delay: number, task: () => void) {
      timers.set(task, delay);
      changed();
      return () => void timers.delete(task);
    },
    waiting: () => timers.size,
    /** Resolves once so many timers of this length wait. */
    async asked(delay: number, count: number) {
      while ([...timers.values()].filter((one) => one === delay).length < count) {
        await new Promise<void>((resolve) => {
          changed = resolve;
        });
      }
    },
    strike() {
      const due = [...timers.keys()];
      timers.clear();
      for (const task of due) task();
    },
  };
}
