import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Metrics } from '../../core/ports/metrics.js';
import type { ControlStream, SendResult } from '../../core/ports/network.js';
import type { Random } from '../../core/ports/random.js';
import { VpndError } from '../../model/errors.js';
import type { ControlMessage, DatagramsMessage, InfoAnswer, InfoQuestion, Outcome } from '../../model/messages.js';
import type { ExitRequest, SessionGrant } from '../../model/session.js';
import { type Millis, ms } from '../../model/time.js';
import type { CommandDesk } from './command-desk.js';
import { Heartbeat } from './heartbeat.js';
import { outcomeOf } from './refusal.js';
import type { TimerWheel } from './timer-wheel.js';
import type { ConnectedPeer, StreamHandlers } from './types.js';

/** Exit and info requests of one peer that may be under way at once. */
export const MAX_REQUESTS_IN_FLIGHT = 16;
/** Messages one peer may send in an interval of pings: far above any honest use, far below what would hurt the others. */
export const MAX_MESSAGES_PER_INTERVAL = 5_000;
/** Bytes of them: five thousand answers to SETUP_EXIT, offer and all, come to half of it. */
export const MAX_BYTES_PER_INTERVAL = 16 * 1024 * 1024;

export interface LiveContext {
  readonly clock: Clock;
  readonly random: Random;
  readonly wheel: TimerWheel;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly desk: CommandDesk;
  readonly handlers: StreamHandlers;
  readonly pingInterval: Millis;
  readonly silenceLimit: Millis;
}

type Updatable<T> = { -readonly [K in keyof T]: T[K] };

/** The stream of one authenticated peer: heartbeats, its answers to commands, its requests. */
export class LiveStream {
  readonly peer: ConnectedPeer;
  readonly #updatable: Updatable<ConnectedPeer>;
  readonly #stream: ControlStream;
  readonly #context: LiveContext;
  readonly #heartbeat: Heartbeat;
  /** Ends this stream, by this side. */
  readonly #end: (error: VpndError) => void;
  #requests = 0;
  #messages = 0;
  #bytes = 0;
  #closed = false;

  constructor(peer: ConnectedPeer, stream: ControlStream, context: LiveContext, end: (error: VpndError) => void) {
    this.#updatable = peer;
    this.peer = peer;
    this.#stream = stream;
    this.#context = context;
    this.#end = end;
    const { pingInterval: interval, silenceLimit } = context;
    const first = ms(interval * context.random.fraction());
    this.#heartbeat = new Heartbeat({ interval, silenceLimit, first }, context, {
      beat: () => {
        this.#messages = 0;
        this.#bytes = 0;
      },
      ping: (id) => void this.send({ kind: 'ping', id, load: undefined }),
      silent: () => end(new VpndError('timeout', `nothing heard for ${silenceLimit / 1_000} s`, { retryable: true })),
    });
  }

  send(message: ControlMessage): SendResult {
    if (this.#closed) return 'closed';
    const result = this.#stream.send(message);
    if (result === 'overflow') this.#context.metrics.outboxOverflows.inc();
    return result;
  }

  /** False where it was dropped. */
  offer(message: ControlMessage): boolean {
    return !this.#closed && this.#stream.offer(message);
  }

  /** Nothing is sent or expected any more; the stream itself is somebody else's to end. */
  close(): void {
    this.#closed = true;
    this.#heartbeat.stop();
  }

  /** A message, and its size on the wire. */
  receive(message: ControlMessage, bytes: number): void {
    this.#heartbeat.heard();
    // Datagrams are many, and whoever takes them has limits of his own for them.
    if (message.kind !== 'datagrams' && !this.#mayComeBesides(bytes)) {
      this.#end(new VpndError('rate-limited', 'too many messages', { retryable: true }));
      return;
    }
    switch (message.kind) {
      case 'ping':
        this.#heartbeat.pinged();
        if (message.load !== undefined) this.#updatable.load = message.load;
        this.send({ kind: 'pong', id: message.id });
        break;
      case 'pong':
        this.#pong(message.id);
        break;
      case 'command-response':
        this.#context.desk.answered(this.peer.id, message);
        break;
      case 'info-request':
        this.#info(message.requestId, message.question);
        break;
      case 'exit-request':
        this.#exitRequest(message.request);
        break;
      case 'event':
        try {
          this.#context.handlers.news?.(this.peer, message.news);
        } catch (thrown) {
          this.#unexpected(message.news.kind, thrown);
        }
        break;
      case 'datagrams':
        this.#datagrams(message);
        break;
      case 'auth-request':
      case 'auth-response':
      case 'command':
      case 'info-response':
      case 'exit-response':
        this.#end(new VpndError('bad-message', `a peer does not send ${message.kind} on this stream`));
    }
  }

  #mayComeBesides(bytes: number): boolean {
    this.#messages += 1;
    this.#bytes += bytes;
    return this.#messages <= MAX_MESSAGES_PER_INTERVAL && this.#bytes <= MAX_BYTES_PER_INTERVAL;
  }

  #datagrams({ session, packets }: DatagramsMessage): void {
    const { datagrams } = this.#context.handlers;
    if (datagrams === undefined || this.peer.role !== 'client') {
      this.#end(new VpndError('bad-message', 'datagrams are for supernodes, from clients'));
      return;
    }
    try {
      datagrams(this.peer, session, packets);
    } catch (thrown) {
      this.#unexpected('datagrams', thrown);
    }
  }

  #pong(id: number): void {
    const latency = this.#heartbeat.pong(id);
    if (latency === undefined) return;
    this.#updatable.latency = latency;
    this.#context.metrics.heartbeatLatencyMs.observe(latency);
  }

  #info(requestId: number, question: InfoQuestion): void {
    const handle = async (): Promise<InfoAnswer> => {
      const { info } = this.#context.handlers;
      if (info === undefined) throw new VpndError('not-supported', `no answers to ${question.kind} here`);
      return info(this.peer, question);
    };
    void this.#answer(question.kind, handle, (result) => ({ kind: 'info-response', requestId, result }));
  }

  #exitRequest(request: ExitRequest): void {
    const { requestId } = request;
    const handle = async (): Promise<SessionGrant> => {
      if (this.peer.role !== 'client') throw new VpndError('forbidden', 'only clients ask for an exit');
      const { exitRequest } = this.#context.handlers;
      if (exitRequest === undefined) throw new VpndError('not-supported', 'no exits are given out here');
      return exitRequest(this.peer, request);
    };
    void this.#answer('exit-request', handle, (result) => ({ kind: 'exit-response', requestId, result }));
  }

  /** Answers on this very stream or not at all: a peer that came back asks again. */
  async #answer<T>(
    what: string,
    handle: () => Promise<T>,
    message: (outcome: Outcome<T>) => ControlMessage,
  ): Promise<void> {
    if (this.#requests >= MAX_REQUESTS_IN_FLIGHT) {
      const text = `more than ${MAX_REQUESTS_IN_FLIGHT} requests at once; wait for an answer`;
      const error = { code: 'rate-limited', message: text, details: {}, retryable: true };
      this.send(message({ ok: false, error }));
      return;
    }
    this.#requests++;
    const outcome = await outcomeOf(handle, (thrown) => this.#unexpected(what, thrown));
    this.#requests--;
    this.send(message(outcome));
  }

  #unexpected(what: string, err: unknown): void {
    this.#context.log.error(`handling ${what} failed`, { peer_id: this.peer.id, role: this.peer.role, err });
  }
}
