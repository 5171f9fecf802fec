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
import { toVpndError, VpndError } from '../../model/errors.js';
import type { AuthResponse, ControlMessage, InfoAnswer, InfoQuestion, News } from '../../model/messages.js';
import type { ExitRequest, SessionGrant } from '../../model/session.js';
import { type Instant, type Millis, ms, seconds } from '../../model/time.js';
import { MAX_SESSION_DIGESTS } from '../../transport/codec/limits.js';
import type { RolePorts } from '../ports.js';
import { UpstreamSession } from './upstream-session.js';
import type { UpstreamHandlers, UpstreamOptions, UpstreamStatus } from './upstream-types.js';

export type { UpstreamHandlers, UpstreamOptions, UpstreamStatus } from './upstream-types.js';

/** How often the link looks at the clock at least, so that waking from suspend is noticed at once. */
const LOOK_INTERVAL: Millis = seconds(1);
/** A tick this late means that the machine, or this process, was stopped. */
const STOPPED_LIMIT: Millis = seconds(10);

type Ports = Pick<RolePorts, 'clock' | 'random' | 'crypto' | 'network' | 'log' | 'metrics' | 'version'>;

/** One attempt, from dialling to the end of its stream. What a past attempt still reports is recognised by it. */
interface Line {
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
  readonly #waiters = new Set<(error?: VpndError) => void>();
  #link: LinkState = STOPPED;
  #since: Instant;
  #line: Line | undefined;
  #timer: (() => void) | undefined;
  #connects = 0;

  constructor(options: UpstreamOptions, ports: Ports, handlers: UpstreamHandlers) {
    this.#options = options;
    this.#ports = ports;
    this.#handlers = handlers;
    this.#since = ports.clock.now();
  }

  start(): void {
    this.#input({ kind: 'start' });
  }

  async stop(): Promise<void> {
    this.#input({ kind: 'stop' });
    const error = new VpndError('closed', 'this node is stopping', { retryable: true });
    for (const settle of [...this.#waiters]) settle(error);
  }

  /** Look for the best supervisor again, at once: the network changed, a membership was renewed, this one drains. */
  redial(): void {
    this.#input({ kind: 'redial' });
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
        const latency = this.#line?.session?.latency;
        return { state: 'up', supervisor: link.to, since, ...(latency !== undefined && { latency }) };
      }
    }
  }

  /** Rejects with the supervisor's refusal, `timeout`, or `closed` (retryable) when there is no stream or it breaks. */
  requestExit(request: Omit<ExitRequest, 'requestId'>, timeout: Millis): Promise<SessionGrant> {
    return this.#line?.session?.requestExit(request, timeout) ?? Promise.reject(this.#notUp('closed'));
  }

  /** Rejects like `requestExit`. */
  ask(question: InfoQuestion, timeout: Millis): Promise<InfoAnswer> {
    return this.#line?.session?.ask(question, timeout) ?? Promise.reject(this.#notUp('closed'));
  }

  tell(news: News): SendResult {
    return this.#line?.session?.send({ kind: 'event', news }) ?? 'closed';
  }

  /** Resolves once the stream is up; rejects with the last error after `timeout`, or with the signal's reason. */
  whenUp(timeout: Millis, signal?: AbortSignalLike): Promise<void> {
    if (this.#link.kind === 'up') return Promise.resolve();
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const onAbort = () => finish(() => reject(signal?.reason));
      const settle = (error?: VpndError) => finish(() => (error === undefined ? resolve() : reject(error)));
      const cancel = this.#ports.clock.after(timeout, () => settle(this.#notUp('timeout')));
      const finish = (act: () => void) => {
        cancel();
        this.#waiters.delete(settle);
        signal?.removeEventListener('abort', onAbort);
        act();
      };
      this.#waiters.add(settle);
      signal?.addEventListener('abort', onAbort);
    });
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
    const deadline = nextDeadline(this.#link);
    if (deadline === undefined) return;
    const now = this.#ports.clock.monotonic();
    const expected = Math.max(now, Math.min(deadline, now + LOOK_INTERVAL));
    this.#timer = this.#ports.clock.after(ms(expected - now), () => {
      const late = this.#ports.clock.monotonic() - expected;
      this.#input({ kind: late > STOPPED_LIMIT ? 'woke' : 'tick' });
    });
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
        this.#line?.session?.ping();
        break;
    }
  }

  #dial(to: DialTarget, timeout: Millis): void {
    const line: Line = { to, abort: new AbortController(), stream: undefined, session: undefined };
    this.#line = line;
    const failed = (thrown: unknown) => {
      if (this.#line === line) this.#lost({ by: 'lost', error: toVpndError(thrown) });
      line.stream?.end();
    };
    this.#ports.network
      .dialControl(to, { timeout, signal: line.abort.signal })
      .then((dialed) => this.#dialed(line, dialed))
      .catch(failed);
  }

  #dialed(line: Line, { stream, challenge, serverKeyHash }: DialedStream): void {
    if (this.#line !== line) {
      stream.end();
      return;
    }
    const { identity, role, region, membership, wireguardKey, capabilities, sessions, supernode } = this.#options;
    line.stream = stream;
    const server = line.to.expect.kind === 'base' ? undefined : line.to.expect.id;
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
      },
      { id: server, challenge, serverKeyHash },
      this.#ports.clock.now(),
      this.#ports.random,
    );
    stream.send(request);
    stream.listen({
      message: (message) => {
        if (this.#line === line) this.#message(line, stream, message);
      },
      ended: (end) => {
        if (this.#line === line) this.#lost(end);
      },
    });
  }

  #message(line: Line, stream: ControlStream, message: ControlMessage): void {
    if (line.session !== undefined) {
      this.#input({ kind: 'heard' });
      line.session.receive(message);
    } else if (message.kind === 'auth-response') {
      this.#authenticated(line, stream, message);
    } else {
      this.#misbehaved('AuthResponse comes before anything else');
    }
  }

  #authenticated(line: Line, stream: ControlStream, welcome: AuthResponse): void {
    const handlers = this.#handlers;
    line.session = new UpstreamSession(stream, {
      ...this.#ports,
      load: () => this.#options.load?.(),
      command: handlers.command?.bind(handlers),
      news: (news) => this.#guard(news.kind, () => handlers.news?.(news)),
      misbehaved: (text) => this.#misbehaved(text),
    });
    if (this.#connects++ > 0) this.#ports.metrics.reconnects.inc();
    this.#input({ kind: 'authenticated', pingInterval: welcome.pingInterval, silenceLimit: welcome.silenceLimit });
    this.#ports.log.info(`connected to ${targetName(line.to)}`, { role: this.#options.role });
    this.#guard('up', () => handlers.up(welcome, line.to));
    for (const settle of [...this.#waiters]) settle();
  }

  #misbehaved(text: string): void {
    const error = new VpndError('bad-message', text);
    const { stream } = this.#line ?? {};
    this.#lost({ by: 'local', error });
    stream?.end(error);
  }

  /** The attempt is over: the link decides what comes next. */
  #lost(end: StreamEnd): void {
    const error = end.error ?? new VpndError('closed', 'the connection to the supervisor broke', { retryable: true });
    const before = this.status().lastError?.code;
    const wasUp = this.#line?.session !== undefined;
    this.#forget(end);
    this.#input({ kind: 'failed', error });
    const { log } = this.#ports;
    if (isHopeless(error) && before !== error.code) log.warn(`refused: ${error.message}`, { code: error.code });
    else if (wasUp) log.info(`disconnected: ${error.message}`, { code: error.code, reason: end.by });
    else log.debug(`not connected: ${error.message}`, { code: error.code });
  }

  /** Ends the attempt from this side, as the link decided. */
  #drop(end: StreamEnd): void {
    const line = this.#line;
    this.#forget(end);
    line?.abort.abort(end.error);
    line?.stream?.end(end.error);
  }

  #forget(end: StreamEnd): void {
    const session = this.#line?.session;
    this.#line = undefined;
    if (session === undefined) return;
    const why = end.error === undefined ? '' : `: ${end.error.message}`;
    session.close(new VpndError('closed', `the stream to the supervisor ended${why}`, { retryable: true }));
    this.#guard('down', () => this.#handlers.down(end));
  }

  #guard(what: string, handler: () => void): void {
    try {
      handler();
    } catch (err) {
      this.#ports.log.error(`handling ${what} failed`, { err });
    }
  }
}
