import t from 'tap';
import { checkUnit } from '../../dataplane/validate.js';
import type { IpAddress } from '../../src/model/address.js';
import { at, fullTunnel, ip, port, relay } from '../support/namespace-units.js';

/** One or two of each range that is no host, in every way of writing that reaches the kernel as that address. */
const NOBODY_4 = [
  ...['0.0.0.0', '0.1.2.3', '127.0.0.1', '127.255.255.254', '169.254.0.1', '169.254.169.254', '192.0.0.8'],
  ...['224.0.0.1', '239.255.255.250', '240.0.0.1', '255.255.255.255'],
];
const NOBODY_6 = [
  ...['::', '::1', '::127.0.0.1', '::ffff:127.0.0.1', '::ffff:10.0.0.1', '64:ff9b::7f00:1', 'fe80::1', 'ff02::1'],
];
const PRIVATE = ['10.1.2.3', '100.64.0.1', '172.16.0.1', '172.31.255.254', '192.168.1.1', '198.18.0.1'];
const PRIVATE_6 = ['fc00::1', 'fd12:3456::1'];

const refused = (unit: Parameters<typeof checkUnit>[0]): boolean => {
  try {
    checkUnit(unit);
    return false;
  } catch {
    return true;
  }
};
const hop = (local: string, to: string) =>
  relay(40_001, { localIp: ip(local), vouched: [], next: { kind: 'hop', endpoint: at(to, 4_000) } });
const vouched = (local: string, from: string) =>
  relay(40_001, { localIp: ip(local), vouched: [ip(from)], next: { kind: 'pair', port: port(40_002) } });

for (const [family, local, inside, nobody, others, fine] of [
  ['IPv4', '198.51.100.1', '192.168.1.5', NOBODY_4, PRIVATE, '198.51.100.9'],
  ['IPv6', '2001:db8::1', 'fd00::5', NOBODY_6, PRIVATE_6, '2001:db8::9'],
] as const) {
  t.test(
    `${family}: loopback, link-local, multicast and their like are relayed for, to, and from by nobody`,
    async (t) => {
      for (const own of [local, inside])
        for (const address of nobody) {
          t.ok(refused(hop(own, address)), `to ${address}, by ${own}`);
          t.ok(refused(vouched(own, address)), `for ${address}, by ${own}`);
          t.ok(refused(hop(address, fine)), `on ${address}`);
          const pin = { from: at(fine, 40_001), to: at(address, 51_820) };
          t.ok(refused(fullTunnel('wg-a', { pin })), `a direct path to ${address}`);
        }
      for (const own of [local, inside]) t.notOk(refused(hop(own, fine)), `${own} relays to ${fine}`);
      t.notOk(refused(vouched(local, fine)));
    },
  );

  t.test(`${family}: a public relay sends to no private network`, async (t) => {
    for (const address of others) t.ok(refused(hop(local, address)), address);
    t.notOk(refused(hop(inside, others[0] as IpAddress)), 'one that is in such a network itself does');
  });
}
