import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { UdpSocket, UdpSockets } from '../../core/ports/udp-sockets.js';
import { type Endpoint, type IpAddress, sameEndpoint } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { SessionId } from '../../model/ids.js';
import { type Millis, seconds } from '../../model/time.js';
import { DatagramBatch } from '../common/datagram-batch.js';
import type { Upstream } from '../common/upstream.js';

/** Where WireGuard sends when its datagrams travel inside a stream. IPv4: every machine has it, whatever its networks. */
const LOOPBACK = '127.0.0.1' as IpAddress;
/** Another sender is taken for WireGuard when WireGuard has been silent for this long: its interface was made anew. */
const ABANDONED: Millis = seconds(10);
/** WireGuard's four message types, each a little-endian word, and the shortest message, which is a keepalive. */
const MESSAGE_TYPES = 4;
const SHORTEST = 32;

export interface CarrierDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly udpSockets: UdpSockets;
}

/** One tunnel's datagrams inside the client's stream. */
export interface Carrier {
  /** What to put as the WireGuard peer's endpoint. On this machine, so no route or rule of any tunnel applies to it. */
  readonly endpoint: Endpoint;
  /** Datagrams of this session that came by its stream. */
  arrived(packets: readonly Bytes[]): void;
  /**
   * Nothing is carried any more; WireGuard finds a closed port. To be called before WireGuard is given another
   * endpoint, or one more datagram from here makes it roam back. Harmless twice.
   */
  close(): void;
}

/**
 * Opens a loopback socket for one session. What WireGuard sends there goes up the session's stream, at once or dropped;
 * what comes down goes to where WireGuard sends from.
 *
 * Other programs of this machine can send to the socket as well. What is not WireGuard's is not carried, and nobody
 * takes WireGuard's place while it sends; what would get through the exit refuses, as it refuses forgeries by UDP.
 *
 * @param options.line asked for with each message: the stream to the supernode that granted the session, undefined
 *   while there is none. What is sent meanwhile is dropped, as on any network that is away.
 * Rejects with `dataplane` where there is no loopback.
 */
export async function openCarrier(
  options: {
    readonly session: SessionId;
    readonly line: () => { readonly upstream: Pick<Upstream, 'sendDatagrams'> } | undefined;
  },
  deps: CarrierDeps,
): Promise<Carrier> {
  const { session, line } = options;
  const { clock } = deps;
  const batch = new DatagramBatch(clock, (packets) => {
    line()?.upstream.sendDatagrams(session, packets);
  });
  let wireguard: Endpoint | undefined;
  let lastHeard = clock.monotonic();
  const socket: UdpSocket = await deps.udpSockets.bind({ ip: LOOPBACK, port: 0 }, (packet, from) => {
    if (!isWireGuard(packet)) return;
    const now = clock.monotonic();
    if (wireguard !== undefined && !sameEndpoint(wireguard, from)) {
      if (now - lastHeard < ABANDONED) return;
      deps.log.debug('WireGuard sends from another port now', { session_id: session });
    }
    wireguard = from;
    lastHeard = now;
    batch.add(packet);
  });
  return {
    endpoint: socket.local,
    arrived(packets) {
      if (wireguard === undefined) return;
      for (const packet of packets) socket.send(packet, wireguard);
    },
    close() {
      batch.clear();
      socket.close();
    },
  };
}

function isWireGuard(packet: Bytes): boolean {
  const [type = 0, ...reserved] = packet.subarray(0, 4);
  return packet.length >= SHORTEST && type >= 1 && type <= MESSAGE_TYPES && reserved.every((byte) => byte === 0);
}
