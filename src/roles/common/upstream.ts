import { makeAuthRequest } from '../../core/auth.js';
import {
  isHopeless,
  type LinkEffect,
  type LinkInput,
  type LinkState,
  nextDeadline,
  STOPPED,
  stepLink,
  targetName,
} from '../../core/link.js';
import type { AbortSignalLike } from '../../core/ports/clock.js';
import type { ControlStream, DialedStream, DialTarget, SendResult, StreamEnd } from '../../core/ports/network.js';
import type { Bytes } from '../../model/bytes.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { SessionId } from '../../model/ids.js';
import type { AuthResponse, ControlMessage, InfoAnswer, InfoQuestion, News } from '../../model/messages.js';
import type { ExitRequest, SessionGrant } from '../../model/session.js';
import { type Instant, type Millis, ms, seconds } from '../../model/time.js';
import { MAX_SESSION_DIGESTS } from '../../transport/codec/limits.js';
import type { RolePorts } from '../ports.js';
import { UpstreamSession } from './upstream-session.js';
import type { UpstreamHandlers, UpstreamOptions, UpstreamStatus } from './upstream-types.js';
import { Waiters } from './upstream-waiters.js';

export type { UpstreamHandlers, UpstreamOptions, UpstreamStatus } from './upstream-types.js';

/** How often the link looks at the clock at least, so that waking from suspend is noticed at once. */
const LOOK_INTERVAL: Millis = seconds(1);
/** A tick this late means that the machine, or this process, was stopped. */
const STOPPED_LIMIT: Millis = seconds(10);

type Ports = Pick<RolePorts, 'clock' | 'random' | 'crypto' | 'network' | 'log' | 'metrics' | 'version'>;

/** One attempt, from dialling to the end of its stream. What a past attempt still reports is recognised by it. */
interface Attempt {
  readonly to: DialTarget;
  readonly abort: AbortController;
  stream: ControlStream | undefined;
  /** From authentication on. */
  session: UpstreamSession | undefined;
}

/** A node's stream to its supervisor, kept up for as long as the node runs. */
export class Upstream {
  readonly #options: UpstreamOptions;
  readonly #ports: Ports;
  readonly #handlers: UpstreamHandlers;
  readonly #waiters: Waiters;
  #link: LinkState = STOPPED;
  #since: Instant;
  #attempt: Attempt | undefined;
  #timer: (() => void) | undefined;
  /** When it is to run. */
  #due: Millis | undefined;
  #connects = 0;

  constructor(options: UpstreamOptions, ports: Ports, handlers: UpstreamHandlers) {
    this.#options = options;
    this.#ports = ports;
    this.#handlers = handlers;
    this.#waiters = new Waiters(ports.clock);
    this.#since = ports.clock.now();
  }

  start(): void {
    this.#input({ kind: 'start' });
  }

  async stop(): Promise<void> {
    this.#end(new VpndError('closed', 'this node is stopping', { retryable: true }));
  }

  /** Until `start` is called again: nobody needs this stream at present. */
  rest(): void {
    this.#end(new VpndError('closed', 'this stream is not needed any more', { retryable: true }));
  }

  #end(error: VpndError): void {
    this.#input({ kind: 'stop', error });
    this.#waiters.settle(error);
  }

  /** Look for the best supervisor again, at once: the network changed, a membership was renewed, this one drains. */
  redial(): void {
    this.#input({ kind: 'redial' });
  }

  /** This machine slept, as another stream noticed: dial anew at once. */
  wake(): void {
    this.#due = undefined;
    this.#input({ kind: 'woke' });
  }

  /** The connection swallows what is sent, or its next dial is far: dial the same supervisor at once. */
  stalled(): void {
    this.#input({ kind: 'stalled' });
  }

  /** Whether anything came from the supervisor after this moment, of the monotonic clock, on the stream there is. */
  heardAfter(moment: Millis): boolean {
    return this.#link.kind === 'up' && this.#link.lastHeard > moment;
  }

  /** Beside the regular ones: a connection that a NAT has forgotten shows it as soon as something is sent. */
  ping(): void {
    this.#attempt?.session?.ping();
  }

  status(): UpstreamStatus {
    const link = this.#link;
    const since = this.#since;
    switch (link.kind) {
      case 'stopped':
        return { state: 'down', since };
      case 'down':
        return { state: 'down', since, ...(link.lastError && { lastError: link.lastError }) };
      case 'dialing':
      case 'authenticating':
        return { state: link.kind, supervisor: link.to, since, ...(link.lastError && { lastError: link.lastError }) };
      case 'up': {
        const latency = this.#attempt?.session?.latency;
        return { state: 'up', supervisor: link.to, since, ...(latency !== undefined && { latency }) };
      }
    }
  }

  /** Rejects with the supervisor's refusal, `timeout`, or `closed` (retryable) when there is no stream or it breaks. */
  requestExit(request: Omit<ExitRequest, 'requestId'>, timeout: Millis): Promise<SessionGrant> {
    return this.#attempt?.session?.requestExit(request, timeout) ?? Promise.reject(this.#notUp('closed'));
  }

  /** Rejects like `requestExit`. */
  ask(question: InfoQuestion, timeout: Millis): Promise<InfoAnswer> {
    return this.#attempt?.session?.ask(question, timeout) ?? Promise.reject(this.#notUp('closed'));
  }

  /** Not for what must arrive: `overflow` means dropped, and the stream goes on. */
  sendDatagrams(session: SessionId, packets: readonly Bytes[]): SendResult {
    return this.#attempt?.session?.sendDatagrams(session, packets) ?? 'closed';
  }

  tell(news: News): SendResult {
    return this.#attempt?.session?.send({ kind: 'event', news }) ?? 'closed';
  }

  /** Resolves once the stream is up; rejects with the last error after `timeout`, or with the signal's reason. */
  whenUp(timeout: Millis, signal?: AbortSignalLike): Promise<void> {
    if (this.#link.kind === 'up') return Promise.resolve();
    return this.#waiters.wait(timeout, () => this.#notUp('timeout'), signal);
  }

  #notUp(code: 'closed' | 'timeout'): VpndError {
    const { lastError } = this.status();
    const why = lastError === undefined ? '' : `: ${lastError.message}`;
    const cause = lastError === undefined ? {} : { cause: lastError, details: { cause: lastError.code } };
    return new VpndError(code, `not connected to a supervisor${why}`, { retryable: true, ...cause });
  }

  #input(input: LinkInput): void {
    const before = this.#link;
    const { clock, random } = this.#ports;
    const context = { now: clock.monotonic(), random, targets: this.#options.targets() };
    const [next, effects] = stepLink(before, input, context);
    this.#link = next;
    if (next.kind !== before.kind) this.#since = clock.now();
    // A handler called on the way may have fed another input, which then decided what happens and armed the timer.
    for (const effect of effects) if (this.#link === next) this.#run(effect);
    if (this.#link === next) this.#arm();
    if (next.kind !== before.kind) this.#guard('changed', () => this.#handlers.changed?.());
  }

  #arm(): void {
    this.#timer?.();
    this.#timer = undefined;
    this.#due = undefined;
    const deadline = nextDeadline(this.#link);
    if (deadline === undefined) return;
    const now = this.#ports.clock.monotonic();
    this.#due = ms(Math.max(now, Math.min(deadline, now + LOOK_INTERVAL)));
    this.#timer = this.#ports.clock.after(ms(this.#due - now), () => {
      if (!this.#woke()) this.#input({ kind: 'tick' });
    });
  }

  /**
   * Whether the timer is so late that the machine must have been stopped; the link is told then. What had arrived before
   * it stopped may be read before the timer runs, and would pass for a sign of life.
   */
  #woke(): boolean {
    if (this.#due === undefined || this.#ports.clock.monotonic() - this.#due <= STOPPED_LIMIT) return false;
    this.wake();
    this.#guard('waking', () => this.#handlers.woke?.());
    return true;
  }

  #run(effect: LinkEffect): void {
    switch (effect.kind) {
      case 'dial':
        this.#dial(effect.to, effect.timeout);
        break;
      case 'abandon':
        this.#drop({ by: 'local', error: effect.error });
        break;
      case 'ping':
        this.#attempt?.session?.ping();
        break;
    }
  }

  #dial(to: DialTarget, timeout: Millis): void {
    const attempt: Attempt = { to, abort: new AbortController(), stream: undefined, session: undefined };
    this.#attempt = attempt;
    const failed = (thrown: unknown) => {
      if (this.#attempt === attempt) this.#lost({ by: 'lost', error: toVpndError(thrown) });
      attempt.stream?.end();
    };
    this.#ports.network
      .dialControl(to, { timeout, signal: attempt.abort.signal })
      .then((dialed) => this.#dialed(attempt, dialed))
      .catch(failed);
  }

  #dialed(attempt: Attempt, { stream, challenge, serverKeyHash }: DialedStream): void {
    this.#woke();
    if (this.#attempt !== attempt) {
      stream.end();
      return;
    }
    const { identity, role, region, membership, wireguardKey, capabilities, sessions, supernode, revocations } =
      this.#options;
    attempt.stream = stream;
    const server = attempt.to.expect.kind === 'base' ? undefined : attempt.to.expect.id;
    this.#input({ kind: 'dialed' });
    const request = makeAuthRequest(
      identity,
      {
        membership: membership(),
        role,
        region,
        wireguardKey,
        capabilities: capabilities(),
        sessions: sessions(server).slice(0, MAX_SESSION_DIGESTS),
        supernode: supernode?.(),
        revocations: revocations?.(),
      },
      { id: server, challenge, serverKeyHash },
      this.#ports.clock.now(),
      this.#ports.random,
    );
    stream.send(request);
    stream.listen({
      message: (message) => {
        this.#woke();
        if (this.#attempt === attempt) this.#message(attempt, stream, message);
      },
      ended: (end) => {
        this.#woke();
        if (this.#attempt === attempt) this.#lost(end);
      },
    });
  }

  #message(attempt: Attempt, stream: ControlStream, message: ControlMessage): void {
    if (attempt.session !== undefined) {
      this.#input({ kind: 'heard' });
      attempt.session.receive(message);
    } else if (message.kind === 'auth-response') {
      this.#authenticated(attempt, stream, message);
    } else {
      this.#misbehaved('AuthResponse comes before anything else');
    }
  }

  #authenticated(attempt: Attempt, stream: ControlStream, welcome: AuthResponse): void {
    const handlers = this.#handlers;
    const { to } = attempt;
    attempt.session = new UpstreamSession(stream, {
      ...this.#ports,
      load: () => this.#options.load?.(),
      command: (command) => handlers.command?.(command, to),
      news: (news) => this.#guard(news.kind, () => handlers.news?.(news, to)),
      datagrams: (session, packets) => this.#guard('datagrams', () => handlers.datagrams?.(session, packets, to)),
      misbehaved: (text) => this.#misbehaved(text),
    });
    if (this.#connects++ > 0) this.#ports.metrics.reconnects.inc();
    this.#input({ kind: 'authenticated', pingInterval: welcome.pingInterval, silenceLimit: welcome.silenceLimit });
    this.#ports.log.info(`connected to ${targetName(to)}`, { role: this.#options.role });
    this.#guard('up', () => handlers.up(welcome, to));
    this.#waiters.settle();
  }

  #misbehaved(text: string): void {
    const error = new VpndError('bad-message', text);
    const { stream } = this.#attempt ?? {};
    this.#lost({ by: 'local', error });
    stream?.end(error);
  }

  /** The attempt is over: the link decides what comes next. */
  #lost(end: StreamEnd): void {
    const error = end.error ?? new VpndError('closed', 'the connection to the supervisor broke', { retryable: true });
    const before = this.status().lastError?.code;
    const wasUp = this.#attempt?.session !== undefined;
    this.#forget(end);
    this.#input({ kind: 'failed', error });
    const { log } = this.#ports;
    if (isHopeless(error) && before !== error.code) log.warn(`refused: ${error.message}`, { code: error.code });
    else if (wasUp) log.info(`disconnected: ${error.message}`, { code: error.code, reason: end.by });
    else log.debug(`not connected: ${error.message}`, { code: error.code });
  }

  /** Ends the attempt from this side, as the link decided. */
  #drop(end: StreamEnd): void {
    const attempt = this.#attempt;
    this.#forget(end);
    attempt?.abort.abort(end.error);
    attempt?.stream?.end(end.error);
  }

  #forget(end: StreamEnd): void {
    const { session, to } = this.#attempt ?? {};
    this.#attempt = undefined;
    if (session === undefined || to === undefined) return;
    const why = end.error === undefined ? '' : `: ${end.error.message}`;
    session.close(new VpndError('closed', `the stream to the supervisor ended${why}`, { retryable: true }));
    this.#guard('down', () => this.#handlers.down(end, to));
  }

  #guard(what: string, handler: () => void): void {
    try {
      handler();
    } catch (err) {
      this.#ports.log.error(`handling ${what} failed`, { err });
    }
  }
}
