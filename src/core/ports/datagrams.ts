import type { Endpoint, Port } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { Millis } from '../../model/time.js';

/** UDP questions and answers of one datagram each: the reflector and those who ask it. Real: src/transport/udp.ts. */
export interface Datagrams {
  /** Answers with what `answer` gives; stays silent for undefined. Rejects with `port-in-use`. */
  serve(
    port: Port,
    answer: (question: Bytes, from: Endpoint) => Bytes | undefined,
  ): Promise<{ close(): Promise<void> }>;
  /** The first answer that `accept` takes, or undefined when none came in time. Asks up to three times. */
  ask(to: Endpoint, question: Bytes, accept: (answer: Bytes) => boolean, timeout: Millis): Promise<Bytes | undefined>;
}
