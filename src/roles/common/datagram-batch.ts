import type { Clock } from '../../core/ports/clock.js';
import type { Bytes } from '../../model/bytes.js';
import { ms } from '../../model/time.js';
import { MAX_DATAGRAM_BYTES, MAX_DATAGRAMS } from '../../transport/codec/limits.js';

/** One HTTP/2 window's worth: a larger message would wait for the other side in the middle. */
const MAX_BYTES = 48 * 1024;

/**
 * Datagrams that came in one turn of the event loop, for one message: what each message costs (framing, encryption, a
 * system call) is several times what its datagrams cost. Nothing waits longer than a millisecond.
 */
export class DatagramBatch {
  #packets: Bytes[] = [];
  #bytes = 0;
  #cancel: (() => void) | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly send: (packets: readonly Bytes[]) => void,
  ) {}

  /** Datagrams that no message may carry are dropped. */
  add(packet: Bytes): void {
    if (packet.length === 0 || packet.length > MAX_DATAGRAM_BYTES) return;
    if (this.#bytes + packet.length > MAX_BYTES) this.flush();
    this.#packets.push(packet);
    this.#bytes += packet.length;
    if (this.#packets.length >= MAX_DATAGRAMS) this.flush();
    else this.#cancel ??= this.clock.after(ms(0), () => this.flush());
  }

  flush(): void {
    const packets = this.#packets;
    this.clear();
    if (packets.length > 0) this.send(packets);
  }

  /** Forgets what has not been sent. */
  clear(): void {
    this.#cancel?.();
    this.#cancel = undefined;
    this.#packets = [];
    this.#bytes = 0;
  }
}
