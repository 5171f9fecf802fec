import type { Clock } from '../../../src/core/ports/clock.js';
import type { Reach } from '../../../src/core/ports/reach.js';
import type { Endpoint, IpAddress } from '../../../src/model/address.js';
import { type Millis, ms } from '../../../src/model/time.js';

/** Sends one probe; `answered` is called when, and only if, the answer is back. */
export type Probe = (to: Endpoint, from: IpAddress | undefined, answered: () => void) => void;

/** TCP probes of one process: a round trip after as much virtual time, or silence. */
export function memoryReach(clock: Clock, probe: Probe): Reach {
  return {
    tcp: (to, { from, timeout }) =>
      new Promise((resolve) => {
        const began = clock.monotonic();
        const cancel = clock.after(timeout, () => resolve(undefined));
        probe('ip' in to ? to : { ip: to.host as IpAddress, port: to.port }, from, () => {
          cancel();
          resolve(ms(clock.monotonic() - began) as Millis);
        });
      }),
  };
}
