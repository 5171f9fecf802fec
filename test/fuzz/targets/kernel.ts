import { countConnections } from '../../../dataplane/connections.js';
import { checkRoot, programsInherit } from '../../../dataplane/detect.js';
import { networkStateOf } from '../../../dataplane/network-state.js';
import { isNews } from '../../../dataplane/network-watch.js';
import { listCounters, listElements, listStructure, listTables } from '../../../dataplane/nft.js';
import { RelayTable } from '../../../dataplane/relay.js';
import { RoutingTable } from '../../../dataplane/routing.js';
import type { Runner } from '../../../dataplane/run.js';
import { parseTraffic } from '../../../dataplane/traffic.js';
import { parseUapi, renderUapi } from '../../../dataplane/uapi.js';
import { parseDump, renderConf } from '../../../dataplane/wg-tool.js';
import type { DeviceState, PeerState } from '../../../dataplane/wireguard-state.js';
import type { RelayUnit } from '../../../src/model/dataplane.js';
import { VpndError } from '../../../src/model/errors.js';
import { ms } from '../../../src/model/time.js';
import { testLog } from '../../support/test-log.js';
import { checkRefusal, must, orRefused } from '../engine/oracle.js';
import type { Chance } from '../engine/random.js';
import { bytesOf, type Target, textOf } from '../engine/target.js';

/** What programs and the kernel answer: nobody's attack, but versions and languages differ, and pipes break off. */

const key = (chance: Chance): string => Buffer.from(chance.bytes(32)).toString('hex');

function checkState(state: DeviceState): void {
  must(Number.isSafeInteger(state.listenPort) && state.listenPort >= 0, 'a port is no number', state.listenPort);
  for (const peer of state.peers.values()) {
    const { lastHandshake, keepalive, rxBytes, txBytes } = peer;
    for (const count of [lastHandshake ?? 0, keepalive, rxBytes, txBytes])
      must(Number.isFinite(count) && count >= 0, 'a count is no number', count);
  }
  const put = [...state.peers.values()].map((peer: PeerState) => ({ publicKey: peer.publicKey, fresh: false }));
  // What is read can be written: no line end or tabulator has got into a name.
  must(renderUapi({ remove: [], put }).split('\n').length === 2 * put.length + 3, 'a key holds a line end');
  renderConf({ remove: [], put }, state);
}

/** The answer of wireguard-go over its socket. */
export const uapi: Target = {
  name: 'uapi',
  shape: 'text',
  words: [
    ...[
      'private_key=',
      'public_key=',
      'preshared_key=',
      'endpoint=',
      'allowed_ip=',
      'rx_bytes=',
      'errno=0',
      'errno=-98',
    ],
    ...['last_handshake_time_sec=', 'last_handshake_time_nsec=', 'persistent_keepalive_interval=', 'listen_port='],
    ...['[2001:db8::1]:51820', '203.0.113.1:1', '10.200.0.2/32', '::/0', '0'.repeat(64), '\n', '='],
  ],
  open: async () => ({
    make: (chance) => {
      const peers = Array.from({ length: chance.below(4) }, () =>
        [
          `public_key=${key(chance)}`,
          `preshared_key=${chance.oneIn(2) ? '0'.repeat(64) : key(chance)}`,
          'protocol_version=1',
          `endpoint=${chance.of(['203.0.113.1:51820', '[2001:db8::1]:9'])}`,
          `last_handshake_time_sec=${chance.u32()}`,
          'last_handshake_time_nsec=5',
          `tx_bytes=${chance.u32()}`,
          'rx_bytes=0',
          'persistent_keepalive_interval=25',
          'allowed_ip=10.200.0.2/32',
          'allowed_ip=fd76::2/128',
        ].join('\n'),
      );
      return bytesOf(`private_key=${key(chance)}\nlisten_port=51820\n${peers.join('\n')}\nerrno=0\n\n`);
    },
    run(input) {
      const state = orRefused(() => parseUapi(textOf(input)), ['dataplane', 'port-in-use']);
      if (state !== undefined) checkState(state);
    },
  }),
};

/** `wg show <device> dump`. */
export const wgDump: Target = {
  name: 'wg-dump',
  shape: 'text',
  words: ['\t', '(none)', 'off', '10.200.0.2/32,fd76::2/128', '[2001:db8::1]:51820', '0', '\n'],
  open: async () => ({
    make: (chance) => {
      const key64 = () => Buffer.from(chance.bytes(32)).toString('base64');
      const peer = () =>
        [key64(), '(none)', '203.0.113.1:51820', '10.200.0.2/32,fd76::2/128', '1700000000', '12', '34', '25'].join(
          '\t',
        );
      const peers = Array.from({ length: chance.below(4) }, peer);
      return bytesOf(`${[[key64(), key64(), '51820', 'off'].join('\t'), ...peers].join('\n')}\n`);
    },
    run(input) {
      const state = orRefused(() => parseDump(textOf(input)), ['dataplane']);
      if (state !== undefined) checkState(state);
    },
  }),
};

/** A program that answers every question with this, and fails where `fails` says so. */
const answering = (text: string, fails?: VpndError): Runner => ({
  find: (tool) => `/usr/sbin/${tool}`,
  run: async (_, __, options) => {
    // What is written always works: the question is what is made of answers.
    if (options?.input !== undefined) return '';
    if (fails !== undefined) throw fails;
    return text;
  },
});

async function orFails(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (thrown) {
    checkRefusal(thrown, ['dataplane']);
  }
}

const RELAY = {
  kind: 'relay',
  session: '00112233445566778899aabbccddeeff',
  port: 40001,
  localIp: '203.0.113.7',
  vouched: ['198.51.100.7'],
  next: { kind: 'hop', endpoint: { ip: '198.51.100.9', port: 40002 } },
} as unknown as RelayUnit;

const NFT = {
  nftables: [
    { metainfo: { version: '1.0.6', json_schema_version: 1 } },
    { table: { family: 'ip', name: 'vpnd_relay', handle: 5 } },
    {
      set: {
        family: 'ip',
        name: 'ours',
        table: 'vpnd_relay',
        type: ['ipv4_addr', 'inet_service'],
        elem: [{ concat: ['203.0.113.7', 40001] }],
      },
    },
    { set: { family: 'ip', name: 'local', elem: [40001, 40002] } },
    { map: { name: 'out', map: 'inet_service', elem: [[40001, 40001]] } },
    { map: { name: 'ep_ip', elem: [[{ elem: { val: 40001, expires: 2 } }, '198.51.100.7']] } },
    { map: { name: 'ep_port', elem: [[40001, 51820]] } },
    { set: { name: 'current', elem: [{ elem: { val: { concat: [40001, '198.51.100.7', 51820] }, timeout: 2 } }] } },
    { set: { name: 'private', elem: [{ prefix: { addr: '10.0.0.0', len: 8 } }, { range: ['1.1.1.1', '1.1.1.9'] }] } },
    { counter: { family: 'inet', name: 'from', table: 't', handle: 3, packets: 5, bytes: 500 } },
    {
      chain: {
        family: 'ip',
        table: 'vpnd_relay',
        name: 'pre',
        handle: 1,
        type: 'filter',
        hook: 'prerouting',
        prio: -300,
      },
    },
  ],
};

/** `nft -j`, as far as whole relays go. */
export const nftJson: Target = {
  name: 'nft-json',
  shape: 'json',
  words: [
    'nftables',
    'set',
    'map',
    'elem',
    'val',
    'concat',
    'prefix',
    'range',
    'addr',
    'len',
    'counter',
    'table',
    'name',
    'ours',
    'local',
  ],
  open: async () => {
    let now = 0;
    const clock = { monotonic: () => ms(now++) };
    return {
      make: (chance) => {
        const nftables = NFT.nftables.filter(() => !chance.oneIn(3));
        return bytesOf(JSON.stringify({ nftables }));
      },
      async run(input) {
        const runner = answering(textOf(input));
        await orFails(listTables(runner, 'ip'));
        await orFails(listCounters(runner, 'inet', 'x'));
        await orFails(listElements(runner, 'ip', 'x'));
        const table = new RelayTable(runner, 'ip', 'vpnd_relay', clock);
        await orFails(table.observe());
        await orFails(table.inventory());
        await orFails(table.reconcile([RELAY], { repaired: new Set(), removed: [] }));
      },
    };
  },
};

/** `nft list table`, as text, and what nft says when it fails. */
export const nftText: Target = {
  name: 'nft-text',
  shape: 'text',
  words: [
    'table ip x {',
    '}',
    'flags dormant',
    'chain c {',
    'elements = { 1, 2 }',
    'No such file or directory',
    '\t\t',
  ],
  open: async () => ({
    make: () =>
      bytesOf('table ip x {\n\tset ours {\n\t\ttype ipv4_addr . inet_service\n\t}\n\n\tchain c {\n\t\tdrop\n\t}\n}\n'),
    async run(input) {
      const text = textOf(input);
      await orFails(listStructure(answering(text), 'ip', 'x'));
      await orFails(listStructure(answering('', new VpndError('dataplane', text)), 'ip', 'x'));
    },
  }),
};

const ROUTES = [
  { dst: 'default', gateway: '192.168.1.1', dev: 'eth0', protocol: 'dhcp', metric: 100, flags: [] },
  { dst: 'default', via: { family: 'inet6', host: 'fe80::1' }, dev: 'eth0', flags: ['linkdown'] },
  { type: 'unreachable', dst: 'default', table: '51820', metric: 1000, protocol: '118', flags: [] },
  { dst: '10.0.0.0/8', dev: 'wg0', table: '51820', scope: 'link', flags: [] },
  { dst: 'default', nexthops: [{ gateway: '10.0.0.1', dev: 'eth0', weight: 1, flags: [] }], prefsrc: '10.0.0.2' },
];
const RULES = [
  { priority: 0, src: 'all', table: 'local' },
  { priority: 6100, src: 'all', dst: '203.0.113.7', ipproto: 'udp', dport: 40001, table: 'main', protocol: '118' },
  { priority: 6110, src: '10.200.0.2', table: '51820', protocol: '118' },
  { priority: 6120, src: 'all', dst: '10.0.0.0', dstlen: 8, table: 'main', suppress_prefixlen: 0, protocol: '118' },
  { priority: 6131, src: 'all', action: 'unreachable', protocol: '118' },
];
const LINKS = [
  {
    ifname: 'eth0',
    addr_info: [
      { family: 'inet', local: '192.168.1.5', prefixlen: 24, scope: 'global' },
      { family: 'inet6', local: '2001:db8::5', prefixlen: 64, scope: 'global', temporary: true },
    ],
  },
  { ifname: 'wg0', ifalias: 'vpnd:client', addr_info: [{ family: 'inet', local: '10.200.0.2', scope: 'global' }] },
];

/** `ip -j`: rules, routes and links, each wherever another is expected. */
export const ipJson: Target = {
  name: 'ip-json',
  shape: 'json',
  words: [
    'dst',
    'src',
    'dev',
    'gateway',
    'via',
    'host',
    'nexthops',
    'flags',
    'linkdown',
    'addr_info',
    'ifname',
    'ifalias',
    'vpnd:x',
    'protocol',
    '118',
    'default',
    'prefsrc',
    'metric',
    'table',
    'scope',
    'global',
    'inet',
    'local',
  ],
  open: async () => ({
    make: (chance) => bytesOf(JSON.stringify(chance.of([ROUTES, RULES, LINKS]).filter(() => !chance.oneIn(4)))),
    async run(input) {
      const text = textOf(input);
      const runner = answering(text);
      const routing = new RoutingTable(runner, 118, () => true);
      await orFails(routing.inventory());
      await orFails(routing.hasDefault(4));
      await orFails(routing.reconcile([], { repaired: new Set(), removed: [] }));
      const addresses = JSON.stringify(LINKS);
      orRefused(() => networkStateOf({ routes: { 4: text, 6: text }, addresses }), ['dataplane']);
      const state = orRefused(
        () => networkStateOf({ routes: { 4: JSON.stringify(ROUTES), 6: text }, addresses: text }),
        ['dataplane'],
      );
      if (state !== undefined) must(typeof state.fingerprint === 'string', 'a fingerprint is no text');
    },
  }),
};

const LINES = [
  '[ROUTE]default via 192.168.1.1 dev eth0 proto dhcp metric 100',
  '[ROUTE]Deleted default via fe80::1 dev eth0 table 51820',
  '[LINK]2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue state UP',
  '[ADDR]2: eth0@if3    inet 192.168.1.5/24 brd 192.168.1.255 scope global eth0',
  'tcp   ESTAB 0 0 10.200.0.2:40000 203.0.113.1:443',
  'udp   ESTAB 0 0 [fd76::2]:40000 [2001:db8::1]:53 ino:5',
  'ipv4     2 tcp      6 431999 ESTABLISHED src=10.0.0.2 dst=1.1.1.1 sport=5 dport=443 [ASSURED] mark=0 use=1',
];
const FILES = [
  'Inter-|   Receive                                                |  Transmit\n face |bytes    packets\n    lo: 1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n  wg0: 10 20 0 0 0 0 0 0 30 40 0 0 0 0 0 0\n',
  'Name:\tnode\nUid:\t997\t997\t997\t997\nGid:\t997\t997\t997\t997\nCapInh:\t0000000000001000\nCapEff:\t0000000000001000\nCapAmb:\t0000000000001000\n',
];

/** Lines and tables as text: `ip monitor`, `ss`, /proc. */
export const kernelText: Target = {
  name: 'kernel-text',
  shape: 'text',
  words: [
    '[ROUTE]',
    '[LINK]',
    '[ADDR]',
    'Deleted ',
    'default',
    ' table 5',
    'wg0:',
    'CapEff:\t',
    'CapAmb:\t',
    'Uid:\t0\t0\t',
    'ffffffffffffffff',
  ],
  open: async () => {
    const log = testLog();
    return {
      make: (chance) => bytesOf(chance.oneIn(2) ? chance.of(LINES) : chance.of(FILES)),
      async run(input) {
        const text = textOf(input);
        for (const line of text.split('\n').slice(0, 50)) isNews(line, (device) => device === 'wg0');
        const traffic = parseTraffic(text, 'wg0');
        if (traffic !== undefined)
          must(
            Number.isFinite(traffic.rxPackets) && Number.isFinite(traffic.txPackets),
            'packets are no number',
            traffic,
          );
        const root = await checkRoot(() => text);
        must(root.ok || root.error.code === 'no-root', 'a check refuses with another code');
        programsInherit(() => text);
        const count = await countConnections(answering(text), [], log);
        must(count === 0, 'connections from nowhere', count);
        const some = await countConnections(answering(text), ['10.200.0.2' as never], log);
        must(Number.isSafeInteger(some) && some <= text.split('\n').length, 'more connections than lines', some);
      },
    };
  },
};
