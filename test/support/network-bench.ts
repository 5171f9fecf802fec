import type { CertificateTools } from '../../src/core/ports/authority.js';
import type { AcceptedStream, ControlStream, Network, StreamEnd } from '../../src/core/ports/network.js';
import { certificateTools } from '../../src/identity/ca.js';
import { type IpAddress, type Port, parseIp } from '../../src/model/address.js';
import type { PeerId } from '../../src/model/ids.js';
import { peerIdOf } from '../../src/model/ids.js';
import type { ControlMessage } from '../../src/model/messages.js';
import { type Instant, instantOf } from '../../src/model/time.js';
import { grpcNetwork } from '../../src/transport/grpc-network.js';
import { memoryCertificates } from '../../src/transport/memory/certificates.js';
import { MemoryInternet } from '../../src/transport/memory-network.js';
import { seededRandom } from './seeded-random.js';
import { testLog } from './test-log.js';
import { VirtualClock } from './virtual-clock.js';

/** One implementation of the port `Network` with two nodes in it, for the contract suite. */
export interface NetworkBench {
  readonly name: string;
  readonly server: Network;
  readonly client: Network;
  readonly serverIp: IpAddress;
  readonly certificates: CertificateTools;
  now(): Instant;
  /** Waits for something that takes the network's time. */
  wait<T>(work: Promise<T>): Promise<T>;
  close(): Promise<void>;
}

export const ipOf = (text: string): IpAddress => {
  const parsed = parseIp(text);
  if (!parsed.ok) throw new Error(text);
  return parsed.value;
};

export const peerOf = (seed: number): PeerId => {
  const parsed = peerIdOf(seededRandom(seed).bytes(32));
  if (!parsed.ok) throw new Error('seed');
  return parsed.value;
};

export const ANY_PORT = 0 as Port;

export function grpcBench(): NetworkBench {
  const network = () => grpcNetwork({ log: testLog(), random: seededRandom(1) });
  const [server, client] = [network(), network()];
  return {
    name: 'gRPC',
    server,
    client,
    serverIp: ipOf('127.0.0.1'),
    certificates: certificateTools(),
    now: () => instantOf(Date.now()),
    wait: (work) => work,
    close: async () => {
      await client.close();
      await server.close();
    },
  };
}

export function memoryBench(): NetworkBench & { internet: MemoryInternet; clock: VirtualClock; clientIp: IpAddress } {
  const clock = new VirtualClock();
  const internet = new MemoryInternet({ clock, random: seededRandom(1) });
  const [serverIp, clientIp] = [ipOf('203.0.113.1'), ipOf('198.51.100.2')];
  return {
    name: 'memory',
    internet,
    clock,
    server: internet.host(serverIp),
    client: internet.host(clientIp),
    serverIp,
    clientIp,
    certificates: memoryCertificates(seededRandom(2)),
    now: () => clock.now(),
    wait: (work) => clock.run(work),
    close: async () => {},
  };
}

/** One end of a control stream with everything that came out of it. */
export class Ear {
  readonly stream: ControlStream;
  readonly messages: ControlMessage[] = [];
  readonly ends: StreamEnd[] = [];
  readonly ended: Promise<StreamEnd>;
  #wake: (() => void) | undefined;

  constructor(stream: ControlStream, react?: (message: ControlMessage, stream: ControlStream) => void) {
    this.stream = stream;
    this.ended = new Promise((resolve) =>
      stream.listen({
        message: (message) => {
          this.messages.push(message);
          react?.(message, stream);
          this.#wake?.();
        },
        ended: (end) => {
          this.ends.push(end);
          this.#wake?.();
          resolve(end);
        },
      }),
    );
  }

  /** Resolves when so many messages have come. */
  async heard(count: number): Promise<void> {
    while (this.messages.length < count) {
      if (this.ends.length > 0) throw new Error(`ended after ${this.messages.length} of ${count} messages`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }
}

/** Hands out the next accepted stream. */
export class Door {
  readonly #waiting: ((accepted: AcceptedStream) => void)[] = [];
  readonly #come: AcceptedStream[] = [];

  readonly accept = (accepted: AcceptedStream): void => {
    const next = this.#waiting.shift();
    if (next === undefined) this.#come.push(accepted);
    else next(accepted);
  };

  next(): Promise<AcceptedStream> {
    const come = this.#come.shift();
    return come === undefined ? new Promise((resolve) => this.#waiting.push(resolve)) : Promise.resolve(come);
  }
}
