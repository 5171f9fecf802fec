import type { UdpSockets } from '../../../src/core/ports/udp-sockets.js';
import { type Endpoint, formatHostPort, type IpAddress, type Port } from '../../../src/model/address.js';
import type { Bytes } from '../../../src/model/bytes.js';
import { VpndError } from '../../../src/model/errors.js';

export interface SocketWays {
  /** Best effort: carries a datagram to whoever is bound there. */
  carry(from: Endpoint, to: Endpoint, packet: Bytes): void;
}

type Listener = (packet: Bytes, from: Endpoint) => void;

const FIRST_FREE = 33_000;

/** The UDP sockets that the processes of one machine have open. */
export class MachineSockets {
  readonly #bound = new Map<string, Listener>();
  #next = FIRST_FREE;

  constructor(private readonly ways: SocketWays) {}

  /** As one process has them: nothing is delivered once it is dead. */
  of(process: { readonly alive: boolean }, owns: (ip: IpAddress) => boolean): UdpSockets {
    return {
      bind: async ({ ip, port }, listener) => {
        if (!owns(ip)) throw new VpndError('dataplane', `${ip} is not an address of this machine`);
        const local: Endpoint = { ip, port: (port === 0 ? this.#next++ : port) as Port };
        const at = formatHostPort(local);
        if (this.#bound.has(at)) throw new VpndError('port-in-use', `UDP ${at} is in use`);
        this.#bound.set(at, (packet, from) => process.alive && listener(packet, from));
        return {
          local,
          send: (packet, to) => void (process.alive && this.#bound.has(at) && this.ways.carry(local, to, packet)),
          close: () => void this.#bound.delete(at),
        };
      },
    };
  }

  /** Hands a datagram to the socket at `to`, if there is one. */
  deliver(packet: Bytes, from: Endpoint, to: Endpoint): boolean {
    const listener = this.#listener(to);
    listener?.(packet, from);
    return listener !== undefined;
  }

  #listener(at: Endpoint): Listener | undefined {
    return this.#bound.get(formatHostPort(at)) ?? this.#bound.get(`0.0.0.0:${at.port}`);
  }

  has(at: Endpoint): boolean {
    return this.#listener(at) !== undefined;
  }

  /** The processes that had them are gone. */
  forget(): void {
    this.#bound.clear();
  }
}
