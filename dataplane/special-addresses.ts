import { type Cidr, contains, familyOf, type IpAddress } from '../src/model/address.js';

const cidrs = (...texts: readonly string[]) => texts as readonly Cidr[];

/**
 * Destinations that an exit never carries: the owner's own networks, metadata services, multicast and what is not a
 * host (RFC 6890 and the IANA special-purpose registries).
 */
export const NEVER_REACHED_IPV4 = cidrs(
  '0.0.0.0/8',
  '10.0.0.0/8',
  '100.64.0.0/10',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '172.16.0.0/12',
  '192.0.0.0/24',
  '192.168.0.0/16',
  '198.18.0.0/15',
  '224.0.0.0/4',
  '240.0.0.0/4',
);
export const NEVER_REACHED_IPV6 = cidrs('::/96', '::ffff:0:0/96', '64:ff9b::/96', 'fc00::/7', 'fe80::/10', 'ff00::/8');

/** Never a host to relay to or from, whatever the deployment: packets there would reach this machine or nobody. */
const NEVER_A_HOST = cidrs(
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
);

/** Private ranges that a client's own LAN may lie in. */
export const LAN_IPV4 = cidrs('10.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.168.0.0/16');
export const LAN_IPV6 = cidrs('fc00::/7', 'fe80::/10');

const within = (ranges: readonly Cidr[], address: IpAddress): boolean => ranges.some((r) => contains(r, address));

/** Loopback, unspecified, link-local, multicast, reserved and mapped addresses. */
export const isNeverAHost = (address: IpAddress): boolean => within(NEVER_A_HOST, address);

/** Anything but a globally routed unicast address. */
export const isNotPublic = (address: IpAddress): boolean =>
  within(familyOf(address) === 4 ? NEVER_REACHED_IPV4 : NEVER_REACHED_IPV6, address);
