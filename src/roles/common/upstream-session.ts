import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Metrics } from '../../core/ports/metrics.js';
import type { ControlStream, SendResult } from '../../core/ports/network.js';
import type { Bytes } from '../../model/bytes.js';
import type { Command, CommandDone } from '../../model/command.js';
import type { Load } from '../../model/directory.js';
import { VpndError } from '../../model/errors.js';
import type { SessionId } from '../../model/ids.js';
import type { ControlMessage, ExitResponse, InfoAnswer, InfoQuestion, News } from '../../model/messages.js';
import type { ExitRequest, SessionGrant } from '../../model/session.js';
import { type Millis, ms } from '../../model/time.js';
import { outcomeOf } from '../../transport/streams/refusal.js';
import { PendingRequests } from './upstream-requests.js';

/** Commands under way at once: a supervisor is trusted with orders, not with this machine's memory. */
const MAX_COMMANDS_IN_FLIGHT = 256;

interface Deps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly load: () => Load | undefined;
  /** Undefined where this node takes none. */
  readonly command: (command: Command) => Promise<CommandDone> | undefined;
  readonly news: (news: News) => void;
  readonly datagrams: (session: SessionId, packets: readonly Bytes[]) => void;
  /** The supervisor broke the protocol. */
  readonly misbehaved: (text: string) => void;
}

/** An authenticated stream as its peer uses it: requests go up, commands come down and are answered. */
export class UpstreamSession {
  readonly #stream: ControlStream;
  readonly #deps: Deps;
  readonly #exits: PendingRequests<SessionGrant>;
  readonly #answers: PendingRequests<InfoAnswer>;
  #lastId = 0;
  #commands = 0;
  #lastPing: { readonly id: number; readonly sentAt: Millis } | undefined;
  #latency: Millis | undefined;
  #closed = false;

  constructor(stream: ControlStream, deps: Deps) {
    this.#stream = stream;
    this.#deps = deps;
    this.#exits = new PendingRequests(deps.clock, 'the request for an exit');
    this.#answers = new PendingRequests(deps.clock, 'the question');
  }

  /** The last round trip; undefined before the first. */
  get latency(): Millis | undefined {
    return this.#latency;
  }

  /** Undefined when the stream takes nothing any more. */
  requestExit(request: Omit<ExitRequest, 'requestId'>, timeout: Millis): Promise<SessionGrant> | undefined {
    const requestId = ++this.#lastId;
    const sent = this.send({ kind: 'exit-request', request: { ...request, requestId } });
    return sent === 'sent' ? this.#exits.wait(requestId, timeout) : undefined;
  }

  /** Undefined when the stream takes nothing any more. */
  ask(question: InfoQuestion, timeout: Millis): Promise<InfoAnswer> | undefined {
    const requestId = ++this.#lastId;
    const sent = this.send({ kind: 'info-request', requestId, question });
    return sent === 'sent' ? this.#answers.wait(requestId, timeout) : undefined;
  }

  send(message: ControlMessage): SendResult {
    if (this.#closed) return 'closed';
    const result = this.#stream.send(message);
    if (result === 'overflow') this.#deps.metrics.outboxOverflows.inc();
    return result;
  }

  /** Dropped (`overflow`) rather than sent when the stream is not keeping up: tunnels live with loss, streams do not. */
  sendDatagrams(session: SessionId, packets: readonly Bytes[]): SendResult {
    if (this.#closed) return 'closed';
    return this.#stream.offer({ kind: 'datagrams', session, packets }) ? 'sent' : 'overflow';
  }

  ping(): void {
    this.#lastPing = { id: ++this.#lastId, sentAt: this.#deps.clock.monotonic() };
    this.send({ kind: 'ping', id: this.#lastPing.id, load: this.#deps.load() });
  }

  /** Nothing is sent any more, and nobody waits for an answer. The stream itself is somebody else's to end. */
  close(error: VpndError): void {
    this.#closed = true;
    this.#exits.failAll(error);
    this.#answers.failAll(error);
  }

  receive(message: ControlMessage): void {
    switch (message.kind) {
      case 'ping':
        this.send({ kind: 'pong', id: message.id });
        break;
      case 'pong':
        this.#pong(message.id);
        break;
      case 'command':
        void this.#command(message.command);
        break;
      case 'exit-response':
        this.#exitResponse(message);
        break;
      case 'info-response':
        this.#answers.answered(message.requestId, message.result);
        break;
      case 'event':
        this.#deps.news(message.news);
        break;
      case 'datagrams':
        this.#deps.datagrams(message.session, message.packets);
        break;
      case 'auth-request':
      case 'auth-response':
      case 'command-response':
      case 'info-request':
      case 'exit-request':
        this.#deps.misbehaved(`a supervisor does not send ${message.kind} on this stream`);
        break;
    }
  }

  #pong(id: number): void {
    if (this.#lastPing?.id !== id) return;
    this.#latency = ms(this.#deps.clock.monotonic() - this.#lastPing.sentAt);
    this.#lastPing = undefined;
    this.#deps.metrics.heartbeatLatencyMs.observe(this.#latency);
  }

  /** Answers exactly once, on the stream the command came by; should that have broken, the supervisor sends it again. */
  async #command(command: Command): Promise<void> {
    const { id, session, desired } = command;
    const handle = async (): Promise<CommandDone> => {
      if (this.#commands > MAX_COMMANDS_IN_FLIGHT) {
        throw new VpndError('rate-limited', 'too many commands at once', { retryable: true });
      }
      const handled = this.#deps.command(command);
      if (handled === undefined) throw new VpndError('not-supported', 'this node takes no commands');
      return handled;
    };
    this.#commands++;
    const result = await outcomeOf(handle, (err) =>
      this.#deps.log.error(`command ${desired.kind} failed`, { command_id: id, session_id: session, err }),
    );
    this.#commands--;
    this.send({ kind: 'command-response', id, result });
  }

  #exitResponse({ requestId, result }: ExitResponse): void {
    if (this.#exits.answered(requestId, result) || !result.ok) return;
    // Nobody waits for this grant any more: without a word its ports and addresses stay taken until the lease ends.
    const { session } = result.value;
    this.send({ kind: 'event', news: { kind: 'session-closed', session, reason: 'the answer came too late' } });
  }
}
