/** Packets of a pcap file, taken apart as far as the transport header. IPv4 and IPv6, no fragments, no options. */

export interface RecordedPacket {
  /** Seconds since 1970. */
  readonly at: number;
  /** From the IP header on, or the whole frame where it is no IP. */
  readonly bytes: Uint8Array;
  /** EtherType: 0x0800, 0x86dd, 0x0806 (ARP), … */
  readonly etherType: number;
  /** Only for IP. */
  readonly ip?: { readonly from: string; readonly to: string; readonly protocol: number };
  /** Only for UDP and TCP that hold their whole header. */
  readonly ports?: { readonly from: number; readonly to: number };
  /** Only for TCP. */
  readonly tcp?: { readonly sequence: number; readonly syn: boolean };
  /** What follows the transport header, or the IP header where there is no transport we know. */
  readonly payload: Uint8Array;
}

export const IPV4 = 0x0800;
export const IPV6 = 0x86dd;
export const ARP = 0x0806;
export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMP6 = 58;
const HOP_BY_HOP = 0;

const FILE_HEADER = 24;
const PACKET_HEADER = 16;
const MAGIC_MICROSECONDS = 0xa1b2c3d4;

/** Link types of tcpdump on Linux: where the network header begins, and where its EtherType stands (or none). */
const LINK_TYPES: Readonly<Record<number, { readonly header: number; readonly etherTypeAt: number | undefined }>> = {
  1: { header: 14, etherTypeAt: 12 }, // Ethernet
  12: { header: 0, etherTypeAt: undefined }, // raw IP, as on a WireGuard device
  101: { header: 0, etherTypeAt: undefined },
  113: { header: 16, etherTypeAt: 14 }, // Linux "any"
  276: { header: 20, etherTypeAt: 0 }, // Linux "any", second version
};

/** Throws when the file is not one that tcpdump writes. A packet cut off at the end of the file is left out. */
export function parsePcap(file: Uint8Array): RecordedPacket[] {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < FILE_HEADER) return [];
  if (view.getUint32(0, true) !== MAGIC_MICROSECONDS) throw new Error('not a little-endian pcap file');
  const linkType = view.getUint32(20, true) & 0xffff;
  const link = LINK_TYPES[linkType];
  if (!link) throw new Error(`pcap link type ${linkType} is not known here`);
  const packets: RecordedPacket[] = [];
  let at = FILE_HEADER;
  while (at + PACKET_HEADER <= file.length) {
    const seconds = view.getUint32(at, true) + view.getUint32(at + 4, true) / 1e6;
    const length = view.getUint32(at + 8, true);
    const end = at + PACKET_HEADER + length;
    if (end > file.length) break;
    packets.push(parseFrame(file.subarray(at + PACKET_HEADER, end), seconds, link));
    at = end;
  }
  return packets;
}

function parseFrame(
  frame: Uint8Array,
  at: number,
  link: { readonly header: number; readonly etherTypeAt: number | undefined },
): RecordedPacket {
  const bytes = frame.subarray(link.header);
  const etherType =
    link.etherTypeAt === undefined ? ((bytes[0] ?? 0) >> 4 === 6 ? IPV6 : IPV4) : uint16(frame, link.etherTypeAt);
  if (etherType === IPV4 && bytes.length >= 20) {
    const total = Math.max(20, uint16(bytes, 2));
    const ip = { from: dotted(bytes, 12), to: dotted(bytes, 16), protocol: bytes[9] ?? 0 };
    return {
      at,
      bytes,
      etherType,
      ip,
      ...parseTransport(ip.protocol, bytes.subarray(((bytes[0] ?? 0) & 15) * 4, total)),
    };
  }
  if (etherType === IPV6 && bytes.length >= 40) {
    // Multicast reports (RFC 3810) carry a hop-by-hop header: what counts stands behind it.
    const skipped = bytes[6] === HOP_BY_HOP ? 8 + (bytes[41] ?? 0) * 8 : 0;
    const protocol = (skipped > 0 ? bytes[40] : bytes[6]) ?? 0;
    const ip = { from: colons(bytes, 8), to: colons(bytes, 24), protocol };
    const segment = bytes.subarray(40 + skipped, 40 + uint16(bytes, 4));
    return { at, bytes, etherType, ip, ...parseTransport(protocol, segment) };
  }
  return { at, bytes, etherType, payload: bytes };
}

function parseTransport(protocol: number, segment: Uint8Array): Pick<RecordedPacket, 'ports' | 'tcp' | 'payload'> {
  if (protocol === UDP && segment.length >= 8) {
    return { ports: portsOf(segment), payload: segment.subarray(8) };
  }
  if (protocol === TCP && segment.length >= 20) {
    const sequence = uint16(segment, 4) * 0x10000 + uint16(segment, 6);
    const syn = ((segment[13] ?? 0) & 2) !== 0;
    return {
      ports: portsOf(segment),
      tcp: { sequence, syn },
      payload: segment.subarray(((segment[12] ?? 0) >> 4) * 4),
    };
  }
  return { payload: segment };
}

function portsOf(segment: Uint8Array): { from: number; to: number } {
  return { from: uint16(segment, 0), to: uint16(segment, 2) };
}

function uint16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

function dotted(bytes: Uint8Array, at: number): string {
  return bytes.subarray(at, at + 4).join('.');
}

/** RFC 5952: the longest run of zero groups, the first of equals, becomes "::". */
function colons(bytes: Uint8Array, at: number): string {
  const groups = Array.from({ length: 8 }, (_, i) => uint16(bytes, at + 2 * i).toString(16));
  let best = { start: 0, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (groups[start + length] === '0') length++;
    if (length > best.length) best = { start, length };
  }
  if (best.length < 2) return groups.join(':');
  return `${groups.slice(0, best.start).join(':')}::${groups.slice(best.start + best.length).join(':')}`;
}
