import type { Endpoint, HostPort, IpAddress } from '../../model/address.js';
import type { Millis } from '../../model/time.js';

/**
 * Whether the far kernel answers: a TCP connection is tried, and "refused" is as good an answer as "accepted".
 * Through a tunnel (`from` its inner address, to the gateway's closed port) this is the liveness probe, which needs no
 * raw socket and no daemon at the other end. Real: src/transport/reach.ts.
 */
export interface Reach {
  /** The round trip; undefined when nothing came back in time, no name resolved, or nothing could be sent. Never rejects. */
  tcp(
    to: Endpoint | HostPort,
    options: { readonly from?: IpAddress; readonly timeout: Millis },
  ): Promise<Millis | undefined>;
}
