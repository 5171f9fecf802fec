import t from 'tap';
import { memoryDataPlane } from '../../dataplane/memory.js';
import type { DialTarget } from '../../src/core/ports/network.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { RelayUnit, UnitId } from '../../src/model/dataplane.js';
import type { SessionId } from '../../src/model/ids.js';
import { minutes, seconds } from '../../src/model/time.js';
import { CONTROL_PORT } from '../support/overlay-world/configs.js';
import { overlayWorld } from '../support/overlay-world.js';

/** No host of anybody's, or this machine itself: one of each kind, as it may be written. */
const NOWHERE: Readonly<Record<4 | 6, readonly string[]>> = {
  4: [
    '0.0.0.0',
    '0.1.2.3',
    '127.0.0.1',
    '127.255.255.254',
    '169.254.169.254',
    '192.0.0.8',
    '224.0.0.1',
    '239.255.255.250',
    '240.0.0.1',
    '255.255.255.255',
  ],
  6: [
    '::',
    '::1',
    '::127.0.0.1',
    '::ffff:127.0.0.1',
    '::ffff:10.0.0.1',
    '64:ff9b::7f00:1',
    'fe80::1',
    'ff02::1',
    'ff0e::1',
  ],
};
/** Somebody's own networks: to be relayed to by a supernode that is in one itself, and by no other. */
const PRIVATE: Readonly<Record<4 | 6, readonly string[]>> = {
  4: ['10.0.0.1', '172.16.0.1', '192.168.1.1', '100.64.0.1'],
  6: ['fc00::1', 'fd12:3456::1'],
};
const PUBLIC = {
  4: ['198.51.100.10', '198.51.100.11', '203.0.113.5'],
  6: ['2a01:db8::10', '2a01:db8::11', '2a01:db8::5'],
} as const;

const relay = (localIp: string, hop: string, vouched: string): RelayUnit => ({
  kind: 'relay',
  session: 'ab'.repeat(16) as SessionId,
  port: 40_001 as Port,
  localIp: localIp as IpAddress,
  vouched: [vouched as IpAddress],
  next: { kind: 'hop', endpoint: { ip: hop as IpAddress, port: 40_002 as Port } },
});

for (const family of [4, 6] as const) {
  const [here, there, peer] = PUBLIC[family];
  t.test(`row 25: a relay to, from or on a special address, IPv${family}`, async (t) => {
    const kernel = memoryDataPlane();
    const taken = async (unit: RelayUnit): Promise<boolean> =>
      kernel.apply({ put: [unit] }).then(
        () => true,
        () => false,
      );
    t.ok(await taken(relay(here, there, peer)), 'an honest one');
    await kernel.apply({ remove: ['relay/40001' as UnitId] });
    for (const bad of NOWHERE[family]) {
      t.notOk(await taken(relay(here, there, bad)), `peer ${bad}`);
      t.notOk(await taken(relay(here, bad, peer)), `hop ${bad}`);
      t.notOk(await taken(relay(bad, there, peer)), `local ${bad}`);
    }
    for (const bad of PRIVATE[family]) t.notOk(await taken(relay(here, bad, peer)), `hop ${bad}`);
    // One in a private network relays within it, and to itself or nobody no more than others do.
    const [inside = here, beside = there] = [PRIVATE[family][0], PRIVATE[family][1]];
    t.ok(await taken(relay(inside, beside, peer)), 'an honest one at home');
    await kernel.apply({ remove: ['relay/40001' as UnitId] });
    for (const bad of NOWHERE[family]) t.notOk(await taken(relay(inside, bad, peer)), `hop ${bad} at home`);
    t.notOk(await taken(relay(here, here, peer)), 'a hop that is the supernode itself');
    t.equal(kernel.print(), '', 'nothing of it is in the kernel');
  });
}

t.test('row 25: another supernode asks for a relay to a special address, v4 and v6', async (t) => {
  const world = await overlayWorld();
  const own = world.node('a').store.facts.get<{ certificate: string; tlsKey: string; ca: string }>('enrolment');
  if (own === undefined) throw new Error('a is not enrolled');
  const b = world.node('b');
  const target: DialTarget = {
    address: { host: b.ip, port: CONTROL_PORT },
    expect: { kind: 'supernode', id: b.identity.id },
    ca: own.ca,
    identity: () => ({ certificate: own.certificate, privateKey: own.tlsKey }),
  };
  const from = world.internet.host('192.0.2.200' as IpAddress);
  for (const bad of [...NOWHERE[4], ...NOWHERE[6], ...PRIVATE[4], ...PRIVATE[6]]) {
    const outcome = await world.outcome(
      from.call(
        target,
        'openSession',
        {
          session: 'ab'.repeat(16) as SessionId,
          generation: 1,
          exit: world.node('x0').identity.id,
          clientKey: world.node('c0').wireguard.publicKey,
          kemKey: new Uint8Array(0),
          innerIpv4: '10.200.4.200' as IpAddress,
          innerIpv6: 'fd76:706e:64:1::200' as IpAddress,
          lease: minutes(10),
          path: 'relay2',
          previousHop: { ip: bad as IpAddress, port: 53 as Port },
        },
        { timeout: seconds(5) },
      ),
    );
    t.match(outcome, { code: /forbidden|bad-message/ }, bad);
  }
  t.same(world.residue(), []);
});

t.test('row 25: a supernode tells an exit to send to a special address, v4 and v6', async (t) => {
  const world = await overlayWorld();
  const [b, exit] = [world.node('b'), world.node('x0')];
  // Somebody's own network, once the wire has made an IPv4 address of it: an exit's supernode may be there.
  const nowhere = [...NOWHERE[4], ...NOWHERE[6]].filter((ip) => ip !== '::ffff:10.0.0.1');
  for (const bad of nowhere) {
    let told = 0;
    b.tampering.sends = (message) => {
      if (message.kind !== 'command' || message.command.desired.kind !== 'setup-exit') return message;
      told++;
      const endpoint = { ip: bad as IpAddress, port: 53 as Port };
      return { ...message, command: { ...message.command, desired: { ...message.command.desired, endpoint } } };
    };
    t.match(await world.refusal('c0'), { code: 'exit-refused' }, bad);
    t.ok(told > 0);
    t.same(exit.sessionUnits(), []);
    await world.down('c0');
  }
  b.tampering.sends = (message) => message;
  t.equal(await world.refusal('c0'), undefined, 'an honest one');
});
