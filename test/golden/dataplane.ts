import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { merge } from '../../dataplane/change-queue.js';
import { linkLines } from '../../dataplane/devices.js';
import { renderArpTable, renderFilterTable } from '../../dataplane/filter-text.js';
import {
  killSwitchElements,
  renderExcludedPrograms,
  renderKillSwitch,
  renderKillSwitchChange,
} from '../../dataplane/kill-switch-text.js';
import { parseElements } from '../../dataplane/nft.js';
import { renderPinTable } from '../../dataplane/pins-text.js';
import { relayElements, renderRelayChange, renderRelayTable } from '../../dataplane/relay-text.js';
import { parseRoutes, parseRules } from '../../dataplane/routing.js';
import { PROTOCOL, planRouting, type Routing, renderRouting } from '../../dataplane/routing-text.js';
import type { Runner } from '../../dataplane/run.js';
import { includesRange } from '../../dataplane/sysctl.js';
import {
  nodeFor,
  renderClass,
  renderClassRemoval,
  renderFilter,
  renderFilterRemoval,
  renderRedirects,
  renderSide,
  sidesOf,
} from '../../dataplane/tc-text.js';
import { parseUapi, renderUapi } from '../../dataplane/uapi.js';
import { moveArguments, parseDump, renderConf, wgWrite } from '../../dataplane/wg-tool.js';
import { type DeviceState, type PeerState, planPeer } from '../../dataplane/wireguard-state.js';
import { unitIdOf } from '../../src/model/dataplane.js';
import { instantOf } from '../../src/model/time.js';
import {
  at,
  cidrs,
  device,
  egress,
  fullTunnel,
  ip,
  keyPair,
  killSwitch,
  name,
  peer,
  port,
  relay,
} from '../support/namespace-units.js';

/** Rendered text beside the test, in test/golden/dataplane/. UPDATE_GOLDEN=1 writes it anew: read the difference. */
const FOLDER = join(process.cwd(), 'test/golden/dataplane');

function golden(file: string, text: string): void {
  t.test(file, async (t) => {
    const path = join(FOLDER, file);
    if (process.env.UPDATE_GOLDEN === '1') writeFileSync(path, text);
    t.equal(text, existsSync(path) ? readFileSync(path, 'utf8') : `${path} is missing: UPDATE_GOLDEN=1 writes it`);
  });
}

const NOTHING: Routing = { rules: new Map(), routes: new Map(), owners: new Map() };
const hop = relay(40_001);
const pair = relay(40_002, {
  vouched: [ip('198.51.100.10'), ip('198.51.100.11')],
  next: { kind: 'pair', port: port(40_003) },
});
const hop6 = relay(40_004, {
  localIp: ip('2001:db8::1'),
  vouched: [ip('2001:db8::20')],
  next: { kind: 'hop', endpoint: at('2001:db8::2', 41_004) },
});
const tunnel = fullTunnel('wg-client', {
  exempt: [
    { protocol: 'udp', endpoint: at('198.51.100.1', 40_001) },
    { protocol: 'tcp', endpoint: at('2001:db8::1', 443) },
  ],
});
const standby = fullTunnel('wg-client2', {
  use: 'standby',
  table: 51_830,
  sources: [ip('10.200.0.3')],
  ipv6: 'block',
  exempt: [],
});
const dead = { ...tunnel, use: 'dead' as const };
const pinned = {
  ...tunnel,
  pin: { from: at('198.51.100.1', 40_001), to: at('203.0.113.10', 4500) },
};
const pinned6 = { ...tunnel, pin: { from: at('2001:db8::1', 40_001), to: at('2001:db8:10::2', 4500) } };

const batch = ({ main, rules6 }: { readonly main: readonly string[]; readonly rules6: readonly string[] }): string =>
  `${['# ip -batch', ...main, '# ip -6 -batch', ...rules6].join('\n')}\n`;

golden('relay-ipv4.nft', renderRelayTable('ip', 'vpnd_supernode'));
golden('relay-ipv6.nft', renderRelayTable('ip6', 'vpnd_supernode'));
golden(
  'relay-change.nft',
  [
    '# two sessions come',
    renderRelayChange(
      'ip',
      'vpnd_supernode',
      [],
      [...relayElements(hop, hop.localIp), ...relayElements(pair, ip('10.0.0.5'))],
    ),
    '# one goes, with a tuple that was known a moment ago',
    renderRelayChange(
      'ip',
      'vpnd_supernode',
      [...relayElements(hop, hop.localIp), { set: 'current', key: '40001 . 198.51.100.20 . 51820' }],
      [],
    ),
    '# IPv6',
    renderRelayChange('ip6', 'vpnd_supernode', [], relayElements(hop6, hop6.localIp)),
  ].join('\n'),
);
golden('egress.nft', renderFilterTable('vpnd_exit', [egress('wg-exit')]));
golden(
  'egress-contract.nft',
  renderFilterTable(
    'vpnd_exit',
    [
      egress('wg-exit', {
        forbidden: cidrs('203.0.113.0/24', '2001:db8:5::/48'),
        limits: { newPerSession: 50, newInAll: 200, openPerSession: 1000 },
      }),
    ],
    '',
    cidrs('198.51.100.0/24', '2001:db8:10::/56', '2001:db8:5::/56'),
  ),
);
const sides = sidesOf('exit');
golden(
  'shaper.tc',
  [
    '# all sessions together and each',
    ...sides.flatMap((side) => renderSide({ rate: 50_000_000, sessionRate: 20_000_000 }, side, 'fq_codel')),
    ...renderRedirects(name('wg-exit'), sides),
    '# each on its own, without fq_codel',
    ...renderSide({ rate: 0, sessionRate: 1_500_000 }, sides[0], 'bfifo'),
    '# a session comes and goes',
    ...sides.flatMap((side) => [
      ...renderClass({ rate: 50_000_000, sessionRate: 20_000_000 }, side, 'fq_codel', 0x10),
      renderFilter(side, ip('10.200.0.2'), nodeFor(ip('10.200.0.2'), []), 0x10),
      renderFilter(side, ip('fd76:706e:6400::2'), nodeFor(ip('fd76:706e:6400::2'), ['11:2:1']), 0x10),
      renderFilterRemoval(side, ip('10.200.0.2'), '10:2:1'),
      renderClassRemoval(side, 0x10),
    ]),
    '',
  ].join('\n'),
);
golden('egress-ipv4-only.nft', renderFilterTable('vpnd_exit', [egress('wg-exit', { ipv6: false })]));
golden(
  'guard.nft',
  renderFilterTable('vpnd_client', [tunnel, standby]) + renderArpTable('vpnd_client', [tunnel, standby]),
);
golden('guard-dead.nft', renderFilterTable('vpnd_client', [dead, { ...standby, use: 'active' }]));
golden(
  'pin.nft',
  [pinned, pinned6].map((unit) => renderPinTable('vpnd_client_pin_51820', { unit, listenPort: port(51_999) })).join(''),
);
const closed = killSwitch({
  endpoints: [at('198.51.100.1', 40_001), at('2001:db8::1', 40_001)],
  own: [
    { protocol: 'tcp', endpoint: at('198.51.100.1', 443) },
    { protocol: 'udp', endpoint: at('198.51.100.1', 40_000) },
  ],
});
const open = killSwitch({ lan: true, exclude: cidrs('203.0.113.0/24', '203.0.113.7/32', '2001:db8:5::/48') });
golden(
  'kill-switch.nft',
  renderKillSwitch('vpnd_client_kill_switch', { ...closed, uid: 998 }, killSwitchElements(closed)),
);
golden(
  'kill-switch-open.nft',
  renderKillSwitch('vpnd_client_kill_switch', { ...open, uid: 998 }, killSwitchElements(open)),
);
golden(
  'kill-switch-change.nft',
  renderKillSwitchChange('vpnd_client_kill_switch', killSwitchElements(open), killSwitchElements(closed)),
);
golden('excluded-programs.nft', renderExcludedPrograms('vpnd_client_programs', { path: 'vpnd-exclude' }));
golden('routing-kill-switch.ip', batch(planRouting(NOTHING, renderRouting([tunnel, open], [4, 6]), PROTOCOL.client)));
const both = renderRouting([tunnel, standby], [4, 6]);
golden('routing-up.ip', batch(planRouting(NOTHING, both, PROTOCOL.client)));
golden('routing-down.ip', batch(planRouting(both, NOTHING, PROTOCOL.client)));
const swapped = renderRouting([dead, { ...standby, use: 'active' }], [4, 6]);
golden('routing-swap.ip', batch(planRouting(both, swapped, PROTOCOL.client)));
const held = renderRouting([dead, standby], [4, 6]);
golden('routing-hold.ip', batch(planRouting(swapped, held, PROTOCOL.client)));
golden(
  'routing-moves.ip',
  batch(
    planRouting(
      both,
      renderRouting(
        [
          { ...tunnel, table: standby.table, exempt: [{ protocol: 'udp', endpoint: at('198.51.100.2', 40_001) }] },
          { ...standby, table: tunnel.table },
        ],
        [4, 6],
      ),
      PROTOCOL.client,
    ),
  ),
);
golden('routing-pin.ip', batch(planRouting(both, renderRouting([pinned, standby], [4, 6]), PROTOCOL.client)));
golden('routing-egress.ip', batch(planRouting(NOTHING, renderRouting([egress('wg-exit')], [4, 6]), PROTOCOL.exit)));

const state: PeerState = {
  publicKey: keyPair(2).publicKey,
  presharedKey: keyPair(90).publicKey,
  endpoint: at('198.51.100.9', 5000),
  allowedIps: cidrs('10.200.0.2/32'),
  keepalive: 25,
  lastHandshake: undefined,
  rxBytes: 0,
  txBytes: 0,
};
const holds: DeviceState = {
  privateKey: undefined,
  listenPort: 0,
  mark: 0,
  peers: new Map([[state.publicKey, state]]),
};
const now = instantOf(Date.UTC(2026, 0, 1));
const plan = (more: object, before = peer('wg-a', 2, { endpoint: at('198.51.100.9', 5000) })) =>
  planPeer(peer('wg-a', 2, { presharedKey: state.presharedKey, keepalive: 25, ...more }), state, before, now);
const moved = plan({ endpoint: at('2001:db8::9', 5001), presharedKey: undefined });
const changes = {
  privateKey: keyPair(1).privateKey,
  listenPort: 51_820,
  remove: [keyPair(3).publicKey],
  put: [
    ...(moved === undefined ? [] : [moved]),
    ...[
      planPeer(peer('wg-a', 4, { endpoint: at('198.51.100.7', 1), keepalive: 25 }), undefined, undefined, now),
    ].flatMap((change) => change ?? []),
  ],
};
golden('wireguard.uapi', renderUapi(changes));
golden('wireguard.conf', renderConf(changes, holds));
const onward = plan({ endpoint: at('2001:db8::9', 5001) });
golden('wireguard-move.txt', `${(onward === undefined ? [] : moveArguments(onward)).join(' ')}\n`);
const rekeyed = plan({ presharedKey: keyPair(91).publicKey });
golden('wireguard-rekey.uapi', renderUapi({ remove: [], put: rekeyed === undefined ? [] : [rekeyed] }));
golden('link.ip', `${linkLines(device('wg-exit'), 'vpnd:exit', undefined).join('\n')}\n`);

t.test('a peer that is right is not touched, wherever it has roamed to', async (t) => {
  t.equal(plan({ endpoint: at('198.51.100.9', 5000) }), undefined);
  t.equal(plan({}), undefined);
  const roamed = { ...state, endpoint: at('203.0.113.1', 9), lastHandshake: instantOf(now - 60_000) };
  const unit = peer('wg-a', 2, { presharedKey: state.presharedKey, keepalive: 25, endpoint: at('198.51.100.9', 5000) });
  t.equal(planPeer(unit, roamed, unit, now), undefined, 'the unit is what it was');
  t.equal(planPeer(unit, roamed, undefined, now), undefined, 'after a restart, while its handshake is fresh');
  const silent = { ...roamed, lastHandshake: instantOf(now - 200_000) };
  t.match(planPeer(unit, silent, undefined, now), { endpoint: unit.endpoint, punch: true });
  t.match(planPeer(unit, roamed, { ...unit, endpoint: undefined }, now), { endpoint: unit.endpoint });
  const ordered = planPeer({ ...unit, endpoint: roamed.endpoint }, roamed, unit, now);
  t.match(ordered, { endpoint: roamed.endpoint, punch: true }, 'an order counts, though it seems to be there already');
});

t.test('a pre-shared key changes without its peer losing a packet, and in no argument', async (t) => {
  const calls: { words: readonly string[]; input: string | undefined }[] = [];
  const runner: Runner = {
    find: () => undefined,
    run: async (program, words, options) => {
      calls.push({ words: [program, ...words], input: options?.input });
      return '';
    },
  };
  const key = keyPair(91).publicKey;
  const put = [plan({ presharedKey: key }), moved].flatMap((change) => change ?? []);
  await wgWrite(runner, 'wg-a', { remove: [], put }, holds);
  const name = ['wg', 'set', 'wg-a', 'peer', state.publicKey];
  t.same(calls, [
    { words: [...name, 'preshared-key', '/proc/self/fd/0'], input: `${key}\n` },
    {
      words: [
        ...[...name, 'preshared-key', '/proc/self/fd/0', 'persistent-keepalive', 'off', 'peer', state.publicKey],
        ...['endpoint', '[2001:db8::9]:5001', 'persistent-keepalive', '25'],
      ],
      input: `${'A'.repeat(43)}=\n`,
    },
  ]);
});

t.test('what devices answer is read back', async (t) => {
  const text = [
    'private_key=0001010101010101000000010101010101010101010101010101010101010141',
    'listen_port=51820',
    'fwmark=0',
    'public_key=8e05350be1ee4bb66f37a3acaf7e85f0a5b5b8e2f7e7b6e6b1d6bb8f3c1c5a11',
    'preshared_key=0000000000000000000000000000000000000000000000000000000000000000',
    'protocol_version=1',
    'endpoint=[2001:db8::9]:5001',
    'last_handshake_time_sec=1767225600',
    'last_handshake_time_nsec=500000000',
    'tx_bytes=10',
    'rx_bytes=20',
    'persistent_keepalive_interval=25',
    'allowed_ip=10.200.0.2/32',
    'allowed_ip=fd7a::2/128',
    'errno=0',
    '',
    '',
  ].join('\n');
  const [read] = [...parseUapi(text).peers.values()];
  t.match(read, { endpoint: at('2001:db8::9', 5001), lastHandshake: 1_767_225_600_500, rxBytes: 20, keepalive: 25 });
  t.same(read?.allowedIps, ['10.200.0.2/32', 'fd7a::2/128']);
  t.equal(read?.presharedKey, undefined);
  t.throws(() => parseUapi('errno=-98\n\n'), { code: 'port-in-use' });
  t.throws(() => parseUapi('errno=-22\n\n'), { code: 'dataplane' });
  for (const bad of [
    '',
    'listen_port=1\n\n',
    'surprise=1\nerrno=0\n\n',
    'public_key=00\nerrno=0\n\n',
    'gibberish\n\n',
  ]) {
    t.throws(() => parseUapi(bad), { code: 'dataplane' }, JSON.stringify(bad));
  }
  const secret = `private_key=${'f'.repeat(63)}\nerrno=0\n\n`;
  t.notMatch(
    t.throws(() => parseUapi(secret)),
    /ffff/,
    'no key in an error',
  );

  const dump = [
    [keyPair(1).privateKey, keyPair(1).publicKey, '51820', 'off'].join('\t'),
    [keyPair(2).publicKey, '(none)', '198.51.100.9:5000', '10.200.0.2/32,fd7a::2/128', '0', '1', '2', 'off'].join('\t'),
    [keyPair(3).publicKey, keyPair(90).publicKey, '(none)', '(none)', '1767225600', '1', '2', '25'].join('\t'),
    '',
  ].join('\n');
  const device = parseDump(dump);
  t.match(device, { privateKey: keyPair(1).privateKey, listenPort: 51_820 });
  t.match(device.peers.get(keyPair(3).publicKey), { keepalive: 25, lastHandshake: 1_767_225_600_000, allowedIps: [] });
  t.match(device.peers.get(keyPair(2).publicKey), { endpoint: at('198.51.100.9', 5000), presharedKey: undefined });
  t.throws(() => parseDump('one\ttwo\n'), { code: 'dataplane' });
});

t.test('what nft and ip list is read back', async (t) => {
  const elements = parseElements(
    JSON.stringify({
      nftables: [
        { metainfo: {} },
        { map: { name: 'ep_ip', elem: [[40_001, '198.51.100.20']] } },
        { set: { name: 'hop', elem: [{ concat: ['198.51.100.2', 41_001, 40_001] }] } },
        { set: { name: 'current', elem: [{ elem: { val: { concat: [1, '1.1.1.1', 2] }, timeout: 2, expires: 1 } }] } },
        { rule: {} },
      ],
    }),
  );
  t.equal(elements.get('ep_ip')?.get('40001'), '198.51.100.20');
  t.ok(elements.get('hop')?.has('198.51.100.2 . 41001 . 40001'));
  t.ok(elements.get('current')?.has('1 . 1.1.1.1 . 2'));
  t.throws(() => parseElements('{'), { code: 'dataplane' });
  const rules = parseRules(
    JSON.stringify([
      { priority: 0, src: 'all', table: 'local' },
      { priority: 6100, src: 'all', dst: '1.2.3.4', ipproto: 'udp', dport: 5, table: 'main', protocol: '118' },
      { priority: 6120, src: 'all', dst: '10.0.0.0', dstlen: 8, table: 'main', suppress_prefixlen: 0, protocol: '118' },
    ]),
    4,
    118,
  );
  t.same(
    rules.map((rule) => rule.text),
    ['to 1.2.3.4 ipproto udp dport 5 lookup main', 'to 10.0.0.0/8 lookup main suppress_prefixlength 0'],
  );
  t.match(parseRoutes('[{"type":"unreachable","dst":"default","dev":"lo","table":"5","metric":7}]', 6), [
    { destination: '::/0', table: '5', metric: 7, device: undefined },
  ]);
  t.same(parseRoutes('', 4), []);
});

t.test('changes of one moment become one', async (t) => {
  const first = device('wg-a');
  const second = device('wg-a', { mtu: 1300 });
  t.same(merge([{ put: [first] }, { put: [second], remove: [unitIdOf(relay(1))] }]), {
    put: [second],
    remove: ['relay/1'],
  });
  t.same(merge([{ put: [first] }, { remove: [unitIdOf(first)] }]), { put: [], remove: ['device/wg-a'] });
  t.same(merge([{ remove: [unitIdOf(first)] }, { put: [first] }]), { put: [first], remove: [] });
  t.equal(first.name, name('wg-a'));
});

t.test('reserved ports are not reserved twice', async (t) => {
  const range = { from: 40_000, to: 40_999 };
  for (const [list, within] of [
    ['', false],
    ['40000-40999', true],
    ['1-5,40000-40500,40501-50000', true],
    ['40000-40500,40502-50000', false],
    ['40000', false],
  ] as const) {
    t.equal(includesRange(list, range), within, list);
  }
});
