import type { Endpoint } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';

/** One bound UDP socket. */
export interface UdpSocket {
  /** Where it is bound. */
  readonly local: Endpoint;
  /** Best effort, as UDP is; never throws. */
  send(packet: Bytes, to: Endpoint): void;
  close(): void;
}

/** Plain UDP sockets: the only way on which packets of users touch this process (UDP blocked). Real: src/transport/udp-sockets.ts. */
export interface UdpSockets {
  /** Port 0 for any. Rejects with `port-in-use`, or `dataplane` for an address this machine does not have. */
  bind(
    local: { readonly ip: Endpoint['ip']; readonly port: number },
    listener: (packet: Bytes, from: Endpoint) => void,
  ): Promise<UdpSocket>;
}
