import t from 'tap';
import { memoryDataPlane } from '../../dataplane/memory.js';
import { VpndError } from '../../src/model/errors.js';
import { instantOf } from '../../src/model/time.js';
import { at, device, fullTunnel, ip, keyPair, name, peer, relay } from '../support/namespace-units.js';
import { dataPlaneContract } from './dataplane.suite.js';

t.test('the in-memory twin', async (t) => {
  dataPlaneContract(t, {
    open: async () => memoryDataPlane(),
    trafficOf: async (plane, device) => plane.traffic(device),
    randomSteps: 500,
  });
});

t.test('the twin prints its whole state, without secrets', async (t) => {
  const plane = memoryDataPlane();
  await plane.apply({
    put: [
      device('wg-a'),
      peer('wg-a', 2, { presharedKey: keyPair(90).publicKey, keepalive: 25 }),
      relay(40_001, { vouched: [ip('198.51.100.20')] }),
    ],
  });
  plane.setHandshake(name('wg-a'), keyPair(2).publicKey, instantOf(1000));
  t.ok(plane.learn(relay(40_001).port, at('198.51.100.20', 5000)));
  t.notOk(plane.learn(relay(40_001).port, at('198.51.100.99', 5000)), 'a stranger teaches it nothing');
  t.equal(
    plane.print(),
    [
      'device wg-a port any mtu 1420 10.200.0.1/13 fd7a:7670:6e64::1/48',
      `peer wg-a ${keyPair(2).publicKey} allowed 10.200.0.2/32 keepalive 25 pre-shared key, handshake 1000`,
      'relay 198.51.100.1 40001 vouched 198.51.100.20 next 198.51.100.2:41001, learned 198.51.100.20:5000',
    ].join('\n'),
  );
  t.match(await plane.observePeers(), [{ lastHandshake: 1000 }]);
  await plane.apply({ put: [relay(40_001, { vouched: [ip('198.51.100.21')] })] });
  t.match(await plane.observeRelays(), [{ learned: undefined }], 'what is vouched for no more is forgotten');
});

t.test('the twin carries, pins and resets what its owner says', async (t) => {
  const plane = memoryDataPlane();
  const pin = { from: at('198.51.100.1', 40_001), to: at('203.0.113.10', 4500) };
  await plane.apply({ put: [device('wg-a'), fullTunnel('wg-a', { pin })] });
  plane.setTraffic(name('wg-a'), { rxPackets: 3, txPackets: 4 });
  t.same(plane.traffic(name('wg-a')), { rxPackets: 3, txPackets: 4 });
  plane.countPinned(name('wg-a'), { fromPackets: 2 });
  plane.countPinned(name('wg-a'), { toPackets: 1 });
  t.same(await plane.observePins(), [{ device: 'wg-a', fromPackets: 2, toPackets: 1 }]);
  await plane.apply({ put: [fullTunnel('wg-a', { pin, use: 'retiring' })] });
  t.match(await plane.observePins(), [{ fromPackets: 2 }], 'the pin is the same');
  t.match(plane.print(), /full-tunnel wg-a retiring .* pin 198\.51\.100\.1:40001 to 203\.0\.113\.10:4500/);
  await plane.apply({ put: [fullTunnel('wg-a', { pin: { from: pin.to, to: pin.from } })] });
  t.match(await plane.observePins(), [{ fromPackets: 0, toPackets: 0 }], 'and now it is another');
  await plane.resetConnections([ip('10.200.0.2')]);
  t.same(plane.resets(), ['10.200.0.2']);
  await plane.apply({ remove: ['device/wg-a' as never, 'full-tunnel/wg-a' as never] });
  await plane.apply({ put: [device('wg-a')] });
  t.same(plane.traffic(name('wg-a')), { rxPackets: 0, txPackets: 0 }, 'a device made anew has carried nothing');
});

t.test('the twin can fail and be vandalised', async (t) => {
  const plane = memoryDataPlane();
  plane.failNext(new VpndError('dataplane', 'the disk of the universe is full'));
  await t.rejects(plane.apply({ put: [device('wg-a')] }), { code: 'dataplane' });
  t.equal(plane.print(), '');
  await plane.apply({ put: [device('wg-a'), peer('wg-a', 2)] });
  plane.vandalise(`peer/wg-a/${keyPair(2).publicKey}` as never);
  t.same((await plane.reconcile([device('wg-a'), peer('wg-a', 2)])).repaired, [`peer/wg-a/${keyPair(2).publicKey}`]);
});
