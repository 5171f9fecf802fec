import type { Clock } from '../../../src/core/ports/clock.js';
import type { Datagrams } from '../../../src/core/ports/datagrams.js';
import { type Endpoint, formatHostPort, type IpAddress, type Port } from '../../../src/model/address.js';
import type { Bytes } from '../../../src/model/bytes.js';
import { VpndError } from '../../../src/model/errors.js';
import { type Millis, ms } from '../../../src/model/time.js';

type Answer = (question: Bytes, from: Endpoint) => Bytes | undefined;

export interface DatagramWays {
  latency(from: IpAddress, to: IpAddress): Millis;
  /** Extra delays of the copies of a datagram that arrive; empty when it is lost. */
  copies(from: IpAddress, to: IpAddress): readonly Millis[];
  open(from: IpAddress, to: IpAddress): boolean;
}

const TRIES = 3;
const SOURCE_PORT = 45_000 as Port;

/** UDP between the machines of a world: one question, one answer, lost where the way is cut. */
export class MemoryUdp {
  readonly #servers = new Map<string, Answer>();

  constructor(private readonly ways: DatagramWays) {}

  /** UDP as one process sees it. `ip` is asked for each time: a machine's address may change, or differ from TCP's. */
  of(process: {
    readonly clock: Clock;
    alive(): boolean;
    ip(): IpAddress;
    /** Whether the machine's own rules let a datagram to an endpoint leave. */
    leaves(to: Endpoint): boolean;
  }): Datagrams {
    return {
      serve: async (port, answer) => {
        const at = formatHostPort({ ip: process.ip(), port });
        const guarded: Answer = (question, from) => (process.alive() ? answer(question, from) : undefined);
        if (this.#servers.has(at)) throw new VpndError('port-in-use', `UDP ${at} is in use`);
        this.#servers.set(at, guarded);
        return { close: async () => void this.#servers.delete(at) };
      },
      ask: (to, question, accept, timeout) =>
        new Promise((resolve) => {
          const { clock } = process;
          let settled = false;
          const finish = (answer: Bytes | undefined) => {
            if (settled) return;
            settled = true;
            for (const cancel of cancels) cancel();
            resolve(answer);
          };
          const cancels = [clock.after(timeout, () => finish(undefined))];
          const trip = (from: IpAddress, dest: IpAddress, arrive: () => void) => {
            if (!this.ways.open(from, dest)) return;
            for (const late of this.ways.copies(from, dest))
              cancels.push(clock.after(ms(this.ways.latency(from, dest) + late), arrive));
          };
          const send = () => {
            const own = process.ip();
            if (!process.leaves(to)) return;
            trip(own, to.ip, () => {
              const reply = this.#servers.get(formatHostPort(to))?.(question, { ip: own, port: SOURCE_PORT });
              if (reply !== undefined) trip(to.ip, own, () => accept(reply) && finish(reply));
            });
          };
          for (let n = 0; n < TRIES; n++) cancels.push(clock.after(ms((n * timeout) / TRIES), send));
        }),
    };
  }

  /** The process at this address is gone, and its sockets with it. */
  forget(ip: IpAddress): void {
    for (const at of this.#servers.keys()) if (at.startsWith(`${ip}:`)) this.#servers.delete(at);
  }
}
