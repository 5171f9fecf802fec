import { ARP, ICMP, ICMP6, type RecordedPacket, TCP, UDP } from './pcap.js';

/**
 * What a packet turned out to be. `probe`: vpnd's own question to a supernode under which address it is seen, and the
 * answer. `tcp-control` carries no data; `udp` and `tcp` are those that are nothing of what stands before them.
 */
export type PacketKind =
  | 'wireguard'
  | 'probe'
  | 'tls'
  | 'dns'
  | 'tcp-control'
  | 'icmp'
  | 'arp'
  | 'udp'
  | 'tcp'
  | 'other';

export interface PacketSummary {
  readonly packets: readonly { readonly kind: PacketKind; readonly packet: RecordedPacket }[];
  readonly byKind: Readonly<Partial<Record<PacketKind, number>>>;
  /** Packets per port, either direction. */
  readonly udpPorts: ReadonlyMap<number, number>;
  readonly tcpPorts: ReadonlyMap<number, number>;
  /** One line for each packet that is none of these kinds; ARP, ICMP and bare TCP acknowledgements need not be named. */
  except(...kinds: readonly PacketKind[]): string[];
  /** Packets in which these bytes (or this text, as UTF-8) stand: for canaries that must not be seen. */
  containing(needle: string | Uint8Array): number;
}

const BACKGROUND: readonly PacketKind[] = ['arp', 'icmp', 'tcp-control'];

/** Tell WireGuard and TLS from everything else, by content and not by port. */
export function summarize(packets: readonly RecordedPacket[]): PacketSummary {
  const tls = tlsSegments(packets);
  const classified = packets.map((packet) => ({ packet, kind: kindOf(packet, tls) }));
  const byKind: Partial<Record<PacketKind, number>> = {};
  const udpPorts = new Map<number, number>();
  const tcpPorts = new Map<number, number>();
  for (const { kind, packet } of classified) {
    byKind[kind] = (byKind[kind] ?? 0) + 1;
    if (!packet.ports || !packet.ip) continue;
    const ports = packet.ip.protocol === UDP ? udpPorts : tcpPorts;
    for (const port of new Set([packet.ports.from, packet.ports.to])) ports.set(port, (ports.get(port) ?? 0) + 1);
  }
  return {
    packets: classified,
    byKind,
    udpPorts,
    tcpPorts,
    except: (...kinds) =>
      classified
        .filter(({ kind }) => ![...BACKGROUND, ...kinds].includes(kind))
        .map(({ kind, packet }) => describe(kind, packet)),
    containing: (needle) => packets.filter(({ bytes }) => Buffer.from(bytes).includes(Buffer.from(needle))).length,
  };
}

function kindOf(packet: RecordedPacket, tls: ReadonlySet<RecordedPacket>): PacketKind {
  if (packet.etherType === ARP) return 'arp';
  switch (packet.ip?.protocol) {
    case UDP:
      if (isWireGuard(packet.payload)) return 'wireguard';
      if (isProbe(packet.payload)) return 'probe';
      return packet.ports?.from === 53 || packet.ports?.to === 53 ? 'dns' : 'udp';
    case TCP:
      if (packet.payload.length === 0) return 'tcp-control';
      return tls.has(packet) ? 'tls' : 'tcp';
    case ICMP:
    case ICMP6:
      return 'icmp';
    default:
      return 'other';
  }
}

/** The four message types of WireGuard, three reserved zero bytes, and the lengths that the protocol gives them. */
function isWireGuard(datagram: Uint8Array): boolean {
  if (datagram[1] !== 0 || datagram[2] !== 0 || datagram[3] !== 0) return false;
  switch (datagram[0]) {
    case 1:
      return datagram.length === 148;
    case 2:
      return datagram.length === 92;
    case 3:
      return datagram.length === 64;
    case 4:
      // Padded to sixteen bytes, but never beyond the interface's MTU: a full one of 1420 stays 1420.
      return datagram.length >= 32 && (datagram.length % 16 === 0 || datagram.length === 1420 + 32);
    default:
      return false;
  }
}

/** By the beginning and the lengths that docs/protocol.md gives: a question, a signed one, an answer. */
function isProbe(datagram: Uint8Array): boolean {
  return [64, 125, 48].includes(datagram.length) && Buffer.from(datagram).subarray(0, 4).toString('latin1') === 'VPNP';
}

/**
 * The TCP segments that are TLS. A segment may begin in the middle of a record, so each direction of a connection is
 * put together and its records are walked, over all of it; one foreign byte and the direction is not TLS from there.
 * Of a connection that was open before the recording, the walk begins at the first segment that looks like a record.
 */
function tlsSegments(packets: readonly RecordedPacket[]): Set<RecordedPacket> {
  const directions = new Map<string, { opened: boolean; segments: RecordedPacket[] }>();
  for (const packet of packets) {
    if (!packet.tcp || !packet.ports || !packet.ip) continue;
    const key = `${packet.ip.from} ${packet.ports.from} ${packet.ip.to} ${packet.ports.to}`;
    let direction = directions.get(key);
    if (!direction || packet.tcp.syn) {
      direction = { opened: packet.tcp.syn, segments: [] };
      // A reused port is another connection; the old one stays under a name of its own.
      const old = directions.get(key);
      if (old) directions.set(`${key} ${directions.size}`, old);
      directions.set(key, direction);
    }
    if (packet.payload.length > 0) direction.segments.push(packet);
  }
  const found = new Set<RecordedPacket>();
  for (const { opened, segments } of directions.values()) walkRecords(segments, opened, found);
  return found;
}

function walkRecords(segments: readonly RecordedPacket[], opened: boolean, found: Set<RecordedPacket>): void {
  const first = segments[0]?.tcp?.sequence ?? 0;
  const offsetOf = (segment: RecordedPacket) => ((segment.tcp?.sequence ?? 0) - first) | 0;
  const ordered = [...segments].sort((a, b) => offsetOf(a) - offsetOf(b));
  const start = opened ? 0 : ordered.findIndex((segment) => recordLength(segment.payload, 0) !== undefined);
  let expected: number | undefined;
  let nextRecord = 0;
  let header: number[] = [];
  for (const segment of start < 0 ? [] : ordered.slice(start)) {
    const offset = offsetOf(segment);
    expected ??= offset;
    nextRecord = Math.max(nextRecord, expected);
    if (offset > expected) return; // A gap in the recording: what follows cannot be told.
    const { payload } = segment;
    // What was seen before, in a retransmission, was judged then.
    for (let at = expected - offset; at < payload.length; ) {
      const position = offset + at;
      if (position < nextRecord && header.length === 0) {
        at += nextRecord - position;
        continue;
      }
      header.push(payload[at++] ?? 0);
      if (header.length < 5) {
        if (!couldBeRecord(header)) return;
        continue;
      }
      const length = recordLength(Uint8Array.from(header), 0);
      if (length === undefined) return;
      nextRecord = offset + at + length;
      header = [];
    }
    expected = Math.max(expected, offset + payload.length);
    found.add(segment);
  }
}

/** RFC 8446, section 5.1: type, version 3.x, length of at most 2^14 + 256; TLS 1.2 allows 2^14 + 2048. */
function recordLength(bytes: Uint8Array, at: number): number | undefined {
  const header = [...bytes.subarray(at, at + 5)];
  if (header.length < 5 || !couldBeRecord(header)) return undefined;
  const length = ((header[3] ?? 0) << 8) | (header[4] ?? 0);
  return length > 0 && length <= 16_384 + 2048 ? length : undefined;
}

function couldBeRecord(header: readonly number[]): boolean {
  const [type = 0, major = 3, minor = 3] = header;
  return type >= 0x14 && type <= 0x17 && major === 3 && minor <= 4;
}

function describe(kind: PacketKind, { ip, ports, etherType, payload }: RecordedPacket): string {
  const head = Buffer.from(payload.subarray(0, 16)).toString('hex');
  if (!ip) return `${kind} ethertype 0x${etherType.toString(16)}: ${head}`;
  const from = ports ? `${ip.from} port ${ports.from}` : ip.from;
  const to = ports ? `${ip.to} port ${ports.to}` : ip.to;
  return `${kind} ${from} > ${to}, protocol ${ip.protocol}, ${payload.length} bytes: ${head}`;
}
