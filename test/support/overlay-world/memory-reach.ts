import type { Clock } from '../../../src/core/ports/clock.js';
import type { Reach } from '../../../src/core/ports/reach.js';
import type { Endpoint, IpAddress } from '../../../src/model/address.js';
import { type Millis, ms } from '../../../src/model/time.js';

/** Sends one probe; `answered` is called when, and only if, the answer is back. */
export type Probe = (to: Endpoint, from: IpAddress | undefined, answered: () => void) => void;

/** When TCP sends its SYN again (RFC 6298). */
const AGAIN = [0, 1_000, 3_000, 7_000];

/** TCP probes of one process: a round trip after as much virtual time, or silence. */
export function memoryReach(clock: Clock, probe: Probe): Reach {
  return {
    tcp: (to, { from, timeout }) =>
      new Promise((resolve) => {
        const began = clock.monotonic();
        const at = 'ip' in to ? to : { ip: to.host as IpAddress, port: to.port };
        const finish = (took: Millis | undefined) => {
          for (const cancel of cancels) cancel();
          resolve(took);
        };
        const send = () => probe(at, from, () => finish(ms(clock.monotonic() - began)));
        const cancels = [
          clock.after(timeout, () => finish(undefined)),
          ...AGAIN.map((wait) => clock.after(ms(wait), send)),
        ];
      }),
  };
}
