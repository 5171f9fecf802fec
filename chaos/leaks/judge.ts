import type { PacketKind } from '../lab/packets.js';
import { ICMP6, type RecordedPacket, UDP } from '../lab/pcap.js';
import { CANARY } from './canary.js';

/** What a client has a reason to talk to, in the open. */
export interface Known {
  /** Base, where a client enrols, and asks for what base trusts now: TLS. */
  readonly base: { readonly ip: string; readonly port: number };
  /** Supernodes: TLS, probes, WireGuard to any relay port of theirs. */
  readonly supernodes: ReadonlySet<string>;
  /** Where a tunnel may lead besides: exits' public addresses, on a direct path. */
  readonly exits: ReadonlySet<string>;
}

/** Where only a log-in page answers, as docs/security.md says. */
const NOBODY = '192.0.2.1';
/** Router and neighbour discovery (RFC 4861), and group membership (RFC 2710, 3810). */
const LINK_ICMP6 = new Set([133, 134, 135, 136, 130, 131, 132, 143]);
const DHCP_PORTS = new Set([67, 68, 546, 547]);
/** The router, and the internet behind it, are not the client: `.1` and `::1` of its networks. */
const CLIENT_SOURCE =
  /^(?:192\.168\.\d+\.(?!1$)\d+|2001:db8:\d+::(?!1$)[0-9a-f]+|10\.20\d\.|fd76:|fe80:|0\.0\.0\.0$|::$)/;

export interface Classified {
  readonly kind: PacketKind;
  readonly packet: RecordedPacket;
}

/** In words, everything that a client sent on its own network and that is neither a tunnel nor what keeps one. */
export function leaksIn(
  packets: readonly Classified[],
  known: Known,
  from: number,
  until = Number.POSITIVE_INFINITY,
): readonly string[] {
  const tls = new Set(packets.filter(({ kind }) => kind === 'tls').map(({ packet }) => connectionOf(packet)));
  return packets.flatMap(({ kind, packet }) => {
    const { ip, at, bytes } = packet;
    if (at < from || at > until) return [];
    if (Buffer.from(bytes).includes(CANARY)) return [told('a canary', kind, packet)];
    // Where the recording has a gap, what follows in the same connection cannot be read as records any more.
    const read = kind === 'tcp' && tls.has(connectionOf(packet)) ? 'tls' : kind;
    if (ip === undefined || !CLIENT_SOURCE.test(ip.from) || mayLeave(read, packet, known)) return [];
    return [told('a packet', kind, packet)];
  });
}

/** A program has a connection to itself: one that began with TLS is the daemon's to its end. */
const connectionOf = ({ ip, ports }: RecordedPacket): string => `${ip?.from} ${ports?.from} ${ip?.to} ${ports?.to}`;

function mayLeave(
  kind: PacketKind,
  { ip, ports, payload }: RecordedPacket,
  { base, supernodes, exits }: Known,
): boolean {
  if (ip === undefined) return true;
  if ((kind === 'tls' || kind === 'tcp-control') && ip.to === base.ip && ports?.to === base.port) return true;
  if (ip.protocol === ICMP6) return LINK_ICMP6.has(payload[0] ?? 0);
  if (ip.protocol === UDP && ports !== undefined && DHCP_PORTS.has(ports.from) && DHCP_PORTS.has(ports.to)) return true;
  switch (kind) {
    case 'wireguard':
      return supernodes.has(ip.to) || exits.has(ip.to);
    case 'probe':
      return supernodes.has(ip.to);
    case 'tls':
      return supernodes.has(ip.to) && ports?.to === 443;
    case 'tcp-control':
      return (
        (supernodes.has(ip.to) && (ports?.to === 443 || ports?.to === 80)) || (ip.to === NOBODY && ports?.to === 80)
      );
    default:
      return false;
  }
}

function told(what: string, kind: PacketKind, { ip, ports, at }: RecordedPacket): string {
  const from = `${ip?.from ?? '?'}${ports ? ` port ${ports.from}` : ''}`;
  const to = `${ip?.to ?? '?'}${ports ? ` port ${ports.to}` : ''}`;
  return `${what} at ${at.toFixed(3)}: ${kind}, protocol ${ip?.protocol ?? '?'}, ${from} > ${to}`;
}
