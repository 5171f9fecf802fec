import type { Test } from 'tap';
import type { DataPlane } from '../../src/core/ports/dataplane.js';
import {
  type DeviceTraffic,
  type InterfaceName,
  TUNNEL_MARK,
  type TunnelUse,
  type Unit,
  type UnitId,
  unitIdOf,
} from '../../src/model/dataplane.js';
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
  shaper,
} from '../support/namespace-units.js';
import { seededRandom } from '../support/seeded-random.js';

export interface Subject<P extends DataPlane> {
  readonly open: () => Promise<P>;
  readonly trafficOf: (plane: P, device: InterfaceName) => Promise<DeviceTraffic | undefined>;
  readonly randomSteps: number;
}

const PIN = { from: at('198.51.100.1', 40_001), to: at('203.0.113.10', 4500) };

/** Everything that one node may hold at once. */
const ALL: readonly Unit[] = [
  device('wg-a'),
  peer('wg-a', 2, { endpoint: at('198.51.100.9', 5000), keepalive: 25, presharedKey: keyPair(90).publicKey }),
  peer('wg-a', 3, { allowedIps: cidrs('10.200.0.3/32', 'fd7a:7670:6e64::3/128') }),
  egress('wg-a', {
    forbidden: cidrs('203.0.113.0/24'),
    limits: { newPerSession: 20, newInAll: 50, openPerSession: 100 },
  }),
  shaper('wg-a', { sessionRate: 2_000_000 }),
  device('wg-b', {
    privateKey: keyPair(4).privateKey,
    addresses: cidrs('10.200.0.2/32', 'fd7a:7670:6e64::2/128'),
    mark: TUNNEL_MARK,
  }),
  peer('wg-b', 5, { allowedIps: cidrs('0.0.0.0/0', '::/0'), endpoint: at('198.51.100.1', 40_001), keepalive: 25 }),
  fullTunnel('wg-b', { pin: PIN }),
  fullTunnel('wg-a', { use: 'dead', table: 51_830, sources: [ip('10.200.0.9')], ipv6: 'block' }),
  killSwitch({ devices: [name('wg-b')], exclude: cidrs('203.0.113.0/24', '192.0.2.7/32', '2001:db8:5::/48') }),
  relay(40_001),
  relay(40_002, { next: { kind: 'pair', port: port(40_003) } }),
  relay(40_003, { vouched: [ip('198.51.100.10'), ip('198.51.100.11')], next: { kind: 'pair', port: port(40_002) } }),
  relay(40_004, {
    localIp: ip('2001:db8::1'),
    vouched: [ip('2001:db8::20')],
    next: { kind: 'hop', endpoint: at('2001:db8::2', 41_004) },
  }),
];

/** Addresses that no relay may serve, hop to or be on (row 25 of the security classes). */
const NEVER = ['127.0.0.1', '127.1.2.3', '0.0.0.0', '169.254.169.254', '224.0.0.1', '240.0.0.1', '255.255.255.255'];
const NEVER_6 = ['::1', '::', 'fe80::1', 'ff02::1', '64:ff9b::7f00:1'];

/** One suite over every data plane: the in-memory twin and Linux. */
export function dataPlaneContract<P extends DataPlane>(t: Test, subject: Subject<P>): void {
  const open = async (t: Test): Promise<P> => {
    const plane = await subject.open();
    await plane.reconcile([]);
    t.teardown(async () => {
      await plane.reconcile([]);
      await plane.close();
    });
    return plane;
  };

  t.test('what is put is there, and nothing is left of what is removed', async (t) => {
    const plane = await open(t);
    t.same(await plane.inventory(), []);
    await plane.apply({ put: ALL });
    t.not((await plane.inventory()).length, 0);
    const peers = await plane.observePeers();
    t.same(peers.map((one) => one.publicKey).sort(), [2, 3, 5].map((n) => keyPair(n).publicKey).sort());
    t.match(
      peers.find((one) => one.publicKey === keyPair(2).publicKey),
      { device: 'wg-a', endpoint: at('198.51.100.9', 5000), rxBytes: 0 },
    );
    t.notOk(peers.some((one) => one.lastHandshake !== undefined));
    const relays = [...(await plane.observeRelays())].sort((a, b) => a.port - b.port);
    t.same(
      relays.map((one) => [one.port, one.learned]),
      [40_001, 40_002, 40_003, 40_004].map((n) => [n, undefined]),
    );
    await plane.apply({ remove: ALL.map(unitIdOf) });
    t.same(await plane.inventory(), []);
  });

  t.test('doing it again changes nothing', async (t) => {
    const plane = await open(t);
    await plane.apply({ put: ALL });
    const inventory = await plane.inventory();
    await plane.apply({ put: ALL });
    t.same(await plane.inventory(), inventory);
    for (let i = 0; i < 2; i++) t.same(await plane.reconcile(ALL), { repaired: [], removed: [] });
  });

  t.test('reconcile says what was missing, what was different and what nobody wants', async (t) => {
    const plane = await open(t);
    const first = await plane.reconcile(ALL);
    t.same([...first.repaired].sort(), ALL.map(unitIdOf).sort());
    t.same(first.removed, []);
    const changed = ALL.map((unit) =>
      unit.kind === 'peer' && unit.publicKey === keyPair(3).publicKey
        ? { ...unit, keepalive: 7 }
        : unit.kind === 'relay' && unit.port === 40_001
          ? { ...unit, next: { kind: 'hop' as const, endpoint: at('198.51.100.3', 41_001) } }
          : unit.kind === 'device' && unit.name === 'wg-a'
            ? { ...unit, mtu: 1400 }
            : unit,
    );
    const second = await plane.reconcile(changed);
    t.same([...second.repaired].sort(), ['device/wg-a', `peer/wg-a/${keyPair(3).publicKey}`, 'relay/40001'].sort());
    const third = await plane.reconcile(changed.filter((unit) => unit.kind !== 'relay' && unit.kind !== 'full-tunnel'));
    t.same(third.repaired, []);
    t.not(third.removed.length, 0);
    const last = await plane.reconcile([]);
    t.not(last.removed.length, 0);
    t.same(await plane.inventory(), []);
    t.same(await plane.reconcile([]), { repaired: [], removed: [] });
  });

  t.test('removing what is absent is no error', async (t) => {
    const plane = await open(t);
    await plane.apply({ remove: ALL.map(unitIdOf) });
    await plane.apply({ put: [device('wg-a')] });
    await plane.apply({ remove: [unitIdOf(peer('wg-a', 9)), 'relay/40009' as UnitId, 'device/lo' as UnitId] });
    t.same((await plane.reconcile([device('wg-a')])).repaired, []);
  });

  t.test('a device takes its peers along', async (t) => {
    const plane = await open(t);
    await plane.apply({ put: [device('wg-a'), peer('wg-a', 2)] });
    await plane.apply({ remove: ['device/wg-a' as UnitId] });
    t.same(await plane.observePeers(), []);
    await plane.apply({ put: [device('wg-a')] });
    t.same(await plane.observePeers(), []);
  });

  t.test('units go in any order, a device before what stands on it', async (t) => {
    const plane = await open(t);
    await plane.apply({ put: ALL });
    for (const id of ['device/wg-b', 'device/wg-a', 'egress/wg-a', 'full-tunnel/wg-b']) {
      await plane.apply({ remove: [id as UnitId] });
    }
    await plane.apply({ remove: ALL.map(unitIdOf) });
    t.same(await plane.inventory(), []);
  });

  t.test('an endpoint that is put anew counts, and one that is left out stays', async (t) => {
    const plane = await open(t);
    const endpoint = async () => (await plane.observePeers())[0]?.endpoint;
    await plane.apply({ put: [device('wg-a'), peer('wg-a', 2, { endpoint: at('198.51.100.9', 5000) })] });
    await plane.apply({ put: [peer('wg-a', 2, { endpoint: at('2001:db8::9', 5001) })] });
    t.same(await endpoint(), at('2001:db8::9', 5001));
    await plane.apply({ put: [peer('wg-a', 2, { keepalive: 5 })] });
    t.same(await endpoint(), at('2001:db8::9', 5001));
  });

  t.test('an order counts however often the endpoint goes to and fro', async (t) => {
    const plane = await open(t);
    const relayed = peer('wg-a', 2, { endpoint: at('198.51.100.9', 5000), keepalive: 25 });
    const direct = { ...relayed, endpoint: at('203.0.113.9', 4500) };
    await plane.apply({ put: [device('wg-a'), relayed] });
    for (const unit of [direct, relayed, direct, direct, relayed]) {
      await plane.apply({ put: [unit] });
      t.match(await plane.observePeers(), [{ endpoint: unit.endpoint }]);
      t.same(await plane.reconcile([device('wg-a'), unit]), { repaired: [], removed: [] });
    }
  });

  t.test('a kill switch follows its endpoints, stands without tunnels, and goes without a trace', async (t) => {
    const plane = await open(t);
    const held = killSwitch();
    await plane.apply({ put: [held] });
    t.same(await plane.reconcile([held]), { repaired: [], removed: [] });
    const moved = killSwitch({ endpoints: [at('198.51.100.2', 40_007), at('2001:db8::2', 40_007)] });
    await plane.apply({ put: [moved] });
    t.same(await plane.reconcile([moved]), { repaired: [], removed: [] });
    const open_ = { ...moved, lan: true, exclude: cidrs('203.0.113.0/24') };
    await plane.apply({ put: [open_] });
    t.same(await plane.reconcile([open_]), { repaired: [], removed: [] });
    t.same((await plane.reconcile([moved])).repaired, ['kill-switch/client']);
    await plane.apply({ remove: ['kill-switch/client' as UnitId] });
    t.same(await plane.inventory(), []);
  });

  t.test('tunnels change their use, all of them at once if need be', async (t) => {
    const plane = await open(t);
    const devices = [device('wg-a'), device('wg-b', { privateKey: keyPair(4).privateKey, addresses: [] })];
    const tunnels = (a: TunnelUse, b: TunnelUse) => [
      fullTunnel('wg-a', { use: a, sources: [ip('10.200.0.1')] }),
      fullTunnel('wg-b', { use: b, table: 51_830, sources: [ip('10.200.0.3')], ipv6: 'block', exempt: [] }),
    ];
    await plane.apply({ put: [...devices, ...tunnels('active', 'standby')] });
    const inventory = await plane.inventory();
    for (const [a, b] of [
      ['standby', 'active'],
      ['retiring', 'active'],
      ['dead', 'active'],
      ['dead', 'dead'],
      ['standby', 'standby'],
      ['active', 'active'],
      ['active', 'dead'],
      ['active', 'standby'],
    ] as const) {
      await plane.apply({ put: tunnels(a, b) });
      t.same(await plane.reconcile([...devices, ...tunnels(a, b)]), { repaired: [], removed: [] }, `${a}, ${b}`);
    }
    t.same(await plane.inventory(), inventory, 'back where it was');
    await plane.reconcile([...devices, ...tunnels('standby', 'active')]);
    const units = [...devices, ...tunnels('active', 'retiring')];
    t.strictSame((await plane.reconcile(units)).removed.length > 0 || plane.engine === 'memory', true);
    t.same(await plane.reconcile(units), { repaired: [], removed: [] });
    await plane.apply({ remove: ['full-tunnel/wg-b' as UnitId, 'device/wg-b' as UnitId] });
    t.notMatch((await plane.inventory()).join('\n'), /51830|wg-b|10\.200\.0\.3/, 'nothing is left of a retired one');
  });

  t.test('a pin is there from being put to being taken back, and counts from nothing', async (t) => {
    const plane = await open(t);
    const pinned = (more: object = {}) => fullTunnel('wg-a', { sources: [ip('10.200.0.1')], pin: PIN, ...more });
    const none = { device: 'wg-a', fromPackets: 0, toPackets: 0 };
    await plane.apply({ put: [device('wg-a'), pinned({ pin: undefined })] });
    const inventory = await plane.inventory();
    t.same(await plane.observePins(), []);
    await plane.apply({ put: [pinned()] });
    t.same(await plane.observePins(), [none]);
    await plane.apply({ put: [pinned({ pin: { from: PIN.to, to: PIN.from } })] });
    t.same(await plane.observePins(), [none]);
    const six = { from: at('2001:db8::1', 40_001), to: at('2001:db8::10', 4500) };
    await plane.apply({ put: [pinned({ pin: six, exempt: [] })] });
    t.same(await plane.observePins(), [none]);
    t.same(await plane.reconcile([device('wg-a'), pinned({ pin: six, exempt: [] })]), { repaired: [], removed: [] });
    await plane.apply({ put: [pinned({ pin: undefined })] });
    t.same(await plane.observePins(), []);
    t.same(await plane.inventory(), inventory, 'nothing is left of it');
    await plane.apply({ put: [pinned()] });
    await plane.apply({ remove: ['full-tunnel/wg-a' as UnitId, 'device/wg-a' as UnitId] });
    t.same(await plane.inventory(), []);
    t.same(await plane.observePins(), []);
  });

  t.test('a device’s packets are counted, and there are none without it', async (t) => {
    const plane = await open(t);
    t.equal(await subject.trafficOf(plane, name('wg-a')), undefined);
    await plane.apply({ put: [device('wg-a')] });
    t.match(await subject.trafficOf(plane, name('wg-a')), { rxPackets: 0, txPackets: Number });
  });

  t.test('resetting connections is no error, whether or not there are any', async (t) => {
    const plane = await open(t);
    await plane.resetConnections([]);
    await plane.resetConnections([ip('10.200.0.2'), ip('fd7a:7670:6e64::2')]);
  });

  t.test('what must not reach the kernel is refused and changes nothing', async (t) => {
    const plane = await open(t);
    const bad: Unit[] = [
      peer('wg-none', 2),
      egress('wg-none'),
      fullTunnel('wg-none'),
      fullTunnel('wg-a', { table: 254 }),
      killSwitch({ exclude: cidrs('0.0.0.0/0') }),
      killSwitch({ endpoints: [at('not an address', 1)] }),
      fullTunnel('wg-a', { pin: { from: PIN.from, to: at('2001:db8::1', 1) } }),
      fullTunnel('wg-a', { pin: { from: PIN.from, to: PIN.from } }),
      fullTunnel('wg-a', { pin: { from: PIN.from, to: at('127.0.0.1', 53) } }),
      fullTunnel('wg-a', { pin: { from: PIN.from, to: at('1.2.3.4', 0) } }),
      device('wg a' as string),
      device('wg-a', { mtu: 10 }),
      device('wg-a', { privateKey: 'short' as never }),
      relay(0),
      relay(40_001, { vouched: [ip('2001:db8::1')] }),
      relay(40_001, { next: { kind: 'pair', port: port(40_001) } }),
      relay(40_001, { next: { kind: 'hop', endpoint: at('198.51.100.1', 53) } }),
      relay(40_001, { next: { kind: 'hop', endpoint: at('192.168.1.1', 53) } }),
      relay(40_001, { next: { kind: 'hop', endpoint: at('1.2.3.4; flush ruleset', 53) } }),
      ...NEVER.flatMap((address) => [
        relay(40_001, { next: { kind: 'hop', endpoint: at(address, 4000) } }),
        relay(40_001, { vouched: [ip(address)] }),
        relay(40_001, { localIp: ip(address) }),
      ]),
      ...NEVER_6.flatMap((address) => [
        relay(40_001, { localIp: ip('2001:db8::1'), vouched: [], next: { kind: 'hop', endpoint: at(address, 4000) } }),
        relay(40_001, { localIp: ip('2001:db8::1'), vouched: [ip(address)] }),
      ]),
    ];
    for (const unit of bad) {
      await t.rejects(plane.apply({ put: [unit] }), { code: 'bad-config' }, JSON.stringify(unit));
    }
    const pair = [device('wg-a'), device('wg-b'), fullTunnel('wg-a'), fullTunnel('wg-b')];
    await t.rejects(plane.apply({ put: pair }), { code: 'bad-config', message: /table 51820 is that of/ });
    await t.rejects(plane.reconcile([relay(40_001, { vouched: [ip('127.0.0.1')] })]), { code: 'bad-config' });
    t.same(await plane.inventory(), []);
  });

  t.test('a refused change does not take along those asked for at the same moment', async (t) => {
    const plane = await open(t);
    const results = await Promise.allSettled([
      plane.apply({ put: [device('wg-a'), peer('wg-a', 2)] }),
      plane.apply({ put: [peer('wg-none', 3)] }),
      plane.apply({ put: [relay(40_001)] }),
    ]);
    t.same(
      results.map((result) => result.status),
      ['fulfilled', 'rejected', 'fulfilled'],
    );
    t.same(await plane.reconcile([device('wg-a'), peer('wg-a', 2), relay(40_001)]), { repaired: [], removed: [] });
  });

  t.test('a hundred changes at one moment all arrive', async (t) => {
    const plane = await open(t);
    await plane.apply({ put: [device('wg-a')] });
    const peers = Array.from({ length: 100 }, (_, i) => peer('wg-a', 100 + i));
    await Promise.all(
      peers.flatMap((unit, i) => [plane.apply({ put: [unit] }), plane.apply({ put: [relay(41_000 + i)] })]),
    );
    t.equal((await plane.observePeers()).length, 100);
    t.equal((await plane.observeRelays()).length, 100);
    await Promise.all(peers.map((unit) => plane.apply({ remove: [unitIdOf(unit)] })));
    t.equal((await plane.observePeers()).length, 0);
  });

  t.test('in whatever order units come and go, the kernel holds their fold', async (t) => {
    const plane = await open(t);
    const seed = Number(process.env.SEED ?? 20_260_101);
    t.comment(`SEED=${seed}`);
    const random = seededRandom(seed);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(random.fraction() * list.length)] as T;
    const variants: readonly Unit[] = [
      ...ALL,
      device('wg-a', { mtu: 1380, addresses: cidrs('10.200.0.1/13') }),
      peer('wg-a', 2, { keepalive: 3, allowedIps: cidrs('10.200.1.2/32') }),
      fullTunnel('wg-b', { table: 300, ipv6: 'block', exempt: [] }),
      fullTunnel('wg-a', { table: 299, sources: [ip('10.200.0.9')] }),
      fullTunnel('wg-a', { use: 'standby', table: 299, sources: [ip('10.200.0.9')], pin: PIN }),
      fullTunnel('wg-b', { use: 'retiring', exempt: [], pin: { from: PIN.to, to: PIN.from } }),
      fullTunnel('wg-b', { use: 'dead' }),
      egress('wg-a', { ipv6: false }),
      relay(40_001, { vouched: [ip('198.51.100.21'), ip('198.51.100.22')] }),
      relay(40_001, { localIp: ip('2001:db8::1'), vouched: [], next: { kind: 'pair', port: port(40_005) } }),
    ];
    const model = new Map<UnitId, Unit>();
    for (let step = 0; step < subject.randomSteps; step++) {
      const put = new Map<UnitId, Unit>();
      const remove = new Set<UnitId>();
      for (let i = 0; i < 3; i++) {
        if (random.fraction() < 0.6) {
          const unit = pick(variants);
          put.set(unitIdOf(unit), unit);
        } else remove.add(unitIdOf(pick(variants)));
      }
      for (const id of put.keys()) remove.delete(id);
      const gone = [...remove].flatMap((id) => (id.startsWith('device/') ? [id.slice('device/'.length)] : []));
      for (const [id, unit] of [...model, ...put]) {
        if (!('device' in unit)) continue;
        const has =
          !gone.includes(unit.device) &&
          (model.has(`device/${unit.device}` as UnitId) || put.has(`device/${unit.device}` as UnitId));
        if (!has) put.delete(id);
        if (!has && model.has(id)) remove.add(id);
      }
      for (const id of remove) model.delete(id);
      for (const [id, unit] of put) model.set(id, unit);
      await plane.apply({ put: [...put.values()], remove: [...remove] });
      const difference = await plane.reconcile([...model.values()]);
      if (!t.same(difference, { repaired: [], removed: [] }, `step ${step}, SEED=${seed}`)) return;
    }
    for (const id of [...model.keys()].sort(() => random.fraction() - 0.5)) await plane.apply({ remove: [id] });
    t.same(await plane.inventory(), []);
  });

  t.test('a closed data plane refuses', async (t) => {
    const plane = await subject.open();
    await plane.close();
    await t.rejects(plane.apply({ put: [device(name('wg-a'))] }), { code: 'closed' });
  });
}
