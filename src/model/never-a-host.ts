import { type Cidr, contains, type IpAddress } from './address.js';

/** Never a host to send a session's packets to, whatever the deployment: they would reach this machine or nobody. */
const NEVER_A_HOST = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '192.0.0.0/24',
  '224.0.0.0/4',
  '240.0.0.0/4',
  '::/96',
  '::ffff:0:0/96',
  '64:ff9b::/96',
  'fe80::/10',
  'ff00::/8',
] as readonly string[] as readonly Cidr[];

/** Loopback, unspecified, link-local, multicast, reserved and mapped addresses. */
export const isNeverAHost = (address: IpAddress): boolean => NEVER_A_HOST.some((range) => contains(range, address));
