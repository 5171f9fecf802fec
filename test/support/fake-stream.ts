import type { Clock } from '../../src/core/ports/clock.js';
import type { ControlStream, SendResult, StreamEnd } from '../../src/core/ports/network.js';
import { type Endpoint, parseEndpoint } from '../../src/model/address.js';
import { VpndError } from '../../src/model/errors.js';
import type { ControlMessage } from '../../src/model/messages.js';
import { type Millis, ms } from '../../src/model/time.js';

type Listener = Parameters<ControlStream['listen']>[0];
export type Side = 'peer' | 'server';

export interface FakeStreamOptions {
  readonly clock: Clock;
  /** One way. */
  readonly latency?: Millis;
  /** Messages under way per direction before `send` overflows. */
  readonly outbox?: number;
  /** What every message is said to take, in bytes. */
  readonly size?: number;
  /** The peer's address as the server sees it. */
  readonly remote?: Endpoint;
  /** What happens to a message on the way; `drop` loses it. */
  readonly filter?: (from: Side, message: ControlMessage) => 'pass' | 'drop';
}

/** Both ends of one control stream in memory, and the hands of a test on the cable. */
export interface FakeStream {
  readonly peer: ControlStream;
  readonly server: ControlStream;
  /** Everything that was sent, in order. */
  readonly sent: readonly { readonly from: Side; readonly message: ControlMessage }[];
  /** Why the end on this side saw the stream end. */
  endOf(side: Side): StreamEnd | undefined;
  /** The connection breaks: both sides notice. */
  cut(): void;
  /** Nothing gets through in either direction, and nobody is told (a pulled cable). */
  silence(): void;
  /** This side stops reading. */
  stall(side: Side): void;
}

const SERVER_ADDRESS = endpoint('192.0.2.1:443');

export function fakeStream(options: FakeStreamOptions): FakeStream {
  const { clock, outbox = 100, size = 64, filter = () => 'pass' } = options;
  const latency = options.latency ?? ms(10);
  const sent: { from: Side; message: ControlMessage }[] = [];
  let silent = false;

  class End implements ControlStream {
    readonly #listeners: Listener[] = [];
    #inbox: ControlMessage[] = [];
    #underWay = 0;
    ended: StreamEnd | undefined;
    stalled = false;
    other: End | undefined;

    constructor(
      readonly side: Side,
      readonly remote: Endpoint,
    ) {}

    send(message: ControlMessage): SendResult {
      const { other } = this;
      if (this.ended !== undefined || other === undefined) return 'closed';
      if (this.#underWay >= outbox) {
        this.finish({ by: 'local', error: new VpndError('closed', 'the other side does not read') });
        later(() => other.finish({ by: 'lost' }));
        return 'overflow';
      }
      sent.push({ from: this.side, message });
      if (filter(this.side, message) === 'drop') return 'sent';
      this.#underWay++;
      later(() => {
        if (other.stalled || silent) return;
        this.#underWay--;
        other.receive(message);
      });
      return 'sent';
    }

    offer(message: ControlMessage): boolean {
      return this.ended === undefined && this.#underWay < outbox / 4 && this.send(message) === 'sent';
    }

    listen(listener: Listener): void {
      if (this.#listeners.length > 0) throw new Error('at most one listener');
      this.#listeners.push(listener);
      const waiting = this.#inbox;
      this.#inbox = [];
      for (const message of waiting) listener.message(message, size);
      if (this.ended !== undefined) listener.ended(this.ended);
    }

    end(error?: VpndError): void {
      if (this.ended !== undefined) return;
      const { other } = this;
      this.finish(error === undefined ? { by: 'local' } : { by: 'local', error });
      // Only a server can say why.
      const told: StreamEnd =
        this.side === 'server' && error !== undefined ? { by: 'remote', error } : { by: 'remote' };
      later(() => !silent && other?.finish(told));
    }

    receive(message: ControlMessage): void {
      if (this.ended !== undefined) return;
      const [listener] = this.#listeners;
      if (listener === undefined) this.#inbox.push(message);
      else listener.message(message, size);
    }

    finish(end: StreamEnd): void {
      if (this.ended !== undefined) return;
      this.ended = end;
      this.#listeners[0]?.ended(end);
    }
  }

  const later = (task: () => void): void => void clock.after(latency, task);
  const peer = new End('peer', SERVER_ADDRESS);
  const server = new End('server', options.remote ?? endpoint('198.51.100.7:40000'));
  peer.other = server;
  server.other = peer;
  return {
    peer,
    server,
    sent,
    endOf: (side) => (side === 'peer' ? peer : server).ended,
    cut: () => {
      peer.finish({ by: 'lost' });
      server.finish({ by: 'lost' });
    },
    silence: () => {
      silent = true;
    },
    stall: (side) => {
      (side === 'peer' ? peer : server).stalled = true;
    },
  };
}

export function endpoint(text: string): Endpoint {
  const parsed = parseEndpoint(text);
  if (!parsed.ok) throw new Error(`not an endpoint: ${text}`);
  return parsed.value;
}
