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
export const NEVER_REACHED_IPV6 = cidrs(
  '::/96',
  '::ffff:0:0/96',
  '64:ff9b::/96',
  'fc00::/7',
  'fe80::/10',
  'ff00::/8',
  // Private IPv4 addresses may stand within these, for a translator or tunnel of the owner's to take out: translation of
  // one's own (RFC 8215), Teredo and 6to4, which nobody needs any more (RFC 7526).
  '64:ff9b:1::/48',
  '2001::/32',
  '2002::/16',
  // Site-local, before there was fc00::/7 (RFC 3879).
  'fec0::/10',
);

/** Private ranges that a client's own LAN may lie in. */
export const LAN_IPV4 = cidrs('10.0.0.0/8', '169.254.0.0/16', '172.16.0.0/12', '192.168.0.0/16');
export const LAN_IPV6 = cidrs('fc00::/7', 'fe80::/10');
/** Groups in which machines of one LAN find each other (mDNS, SSDP, WS-Discovery), and its broadcast. */
export const LAN_DISCOVERY_IPV4 = cidrs('224.0.0.0/24', '239.255.255.250/32', '255.255.255.255/32');
export const LAN_DISCOVERY_IPV6 = cidrs('ff02::/16');
/** Where a DHCP server can be: on the link, or a provider's (RFC 6598). One elsewhere is reached by broadcast again. */
export const DHCP_SERVERS = [...LAN_IPV4, ...cidrs('100.64.0.0/10', '255.255.255.255/32')];

const within = (ranges: readonly Cidr[], address: IpAddress): boolean => ranges.some((r) => contains(r, address));

/** Anything but a globally routed unicast address. */
export const isNotPublic = (address: IpAddress): boolean =>
  within(familyOf(address) === 4 ? NEVER_REACHED_IPV4 : NEVER_REACHED_IPV6, address);
