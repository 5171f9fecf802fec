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
import type { Identity } from '../../core/ports/crypto.js';
import type { ControlStream, DialedStream, DialTarget, SendResult, StreamEnd } from '../../core/ports/network.js';
import type { Command, CommandDone } from '../../model/command.js';
import type { Load, SupernodeInfo } from '../../model/directory.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { WireGuardPublicKey } from '../../model/keys.js';
import type { Signed } from '../../model/membership.js';
import type {
  AuthResponse,
  Capabilities,
  ControlMessage,
  ExitResponse,
  InfoAnswer,
  InfoQuestion,
  News,
} from '../../model/messages.js';
import type { MemberRole, Region } from '../../model/role.js';
import type { ExitRequest, SessionDigest, SessionGrant } from '../../model/session.js';
import { type Instant, type Millis, ms, seconds } from '../../model/time.js';
import { MAX_SESSION_DIGESTS } from '../../transport/codec/limits.js';
import { errorOf, outcomeOf, refusalOf } from '../../transport/streams/refusal.js';
import type { RolePorts } from '../ports.js';
import { PendingRequests } from './upstream-requests.js';

/** How often the link looks at the clock at least, so that waking from suspend is noticed at once. */
const LOOK_INTERVAL: Millis = seconds(1);
/** A tick this late means that the machine, or this process, was stopped. */
const STOPPED_LIMIT: Millis = seconds(10);
/** Commands under way at once: a supervisor is trusted with orders, not with this machine's memory. */
const MAX_COMMANDS_IN_FLIGHT = 256;

export interface UpstreamOptions {
  readonly identity: Identity;
  readonly role: MemberRole;
  readonly region: Region;
  /** Asked for at every attempt, so that a renewed one is used. */
  readonly membership: () => Signed;
  readonly wireguardKey?: WireGuardPublicKey | undefined;
  readonly capabilities: () => Capabilities;
  readonly sessions: () => readonly SessionDigest[];
  /** Supernodes, and nobody else. */
  readonly supernode?: () => SupernodeInfo;
  /** Best first. */
  readonly targets: () => readonly DialTarget[];
  /** Reported with every ping. */
  readonly load?: () => Load;
}

export interface UpstreamHandlers {
  up(welcome: AuthResponse, target: DialTarget): void;
  down(end: StreamEnd): void;
  /** Must be idempotent by the command's id: an answer that got lost is asked for again. */
  command?(command: Command): Promise<CommandDone>;
  news?(news: News): void;
  /** The status is another one. */
  changed?(): void;
}

export interface UpstreamStatus {
  readonly state: 'down' | 'dialing' | 'authenticating' | 'up';
  /** Who is being dialled or connected. */
  readonly supervisor?: DialTarget;
  readonly since: Instant;
  readonly latency?: Millis;
  /** Why the link is not up. */
  readonly lastError?: VpndError;
}

type Ports = Pick<RolePorts, 'clock' | 'random' | 'crypto' | 'network' | 'log' | 'metrics' | 'version'>;

/** One attempt, from dialling to the end of its stream. What a past attempt still reports is recognised by it. */
interface Line {
  readonly to: DialTarget;
  readonly abort: AbortController;
  stream: ControlStream | undefined;
  up: boolean;
  ping: { readonly id: number; readonly sentAt: Millis } | undefined;
  latency: Millis | undefined;
}

/** A node's stream to its supervisor, kept up for as long as the node runs. */
export class Upstream {
  readonly #options: UpstreamOptions;
  readonly #ports: Ports;
  readonly #handlers: UpstreamHandlers;
  readonly #exits: PendingRequests<SessionGrant>;
  readonly #answers: PendingRequests<InfoAnswer>;
  readonly #waiters = new Set<(error?: VpndError) => void>();
  #link: LinkState = STOPPED;
  #since: Instant;
  #line: Line | undefined;
  #timer: (() => void) | undefined;
  #lastId = 0;
  #commands = 0;
  #connects = 0;

  constructor(options: UpstreamOptions, ports: Ports, handlers: UpstreamHandlers) {
    this.#options = options;
    this.#ports = ports;
    this.#handlers = handlers;
    this.#since = ports.clock.now();
    this.#exits = new PendingRequests(ports.clock, 'the request for an exit');
    this.#answers = new PendingRequests(ports.clock, 'the question');
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
        const latency = this.#line?.latency;
        return { state: 'up', supervisor: link.to, since, ...(latency !== undefined && { latency }) };
      }
    }
  }

  /** Rejects with the supervisor's refusal, `timeout`, or `closed` (retryable) when there is no stream or it breaks. */
  requestExit(request: Omit<ExitRequest, 'requestId'>, timeout: Millis): Promise<SessionGrant> {
    const requestId = ++this.#lastId;
    return this.#request(this.#exits, requestId, timeout, {
      kind: 'exit-request',
      request: { ...request, requestId },
    });
  }

  /** Rejects like `requestExit`. */
  ask(question: InfoQuestion, timeout: Millis): Promise<InfoAnswer> {
    const requestId = ++this.#lastId;
    return this.#request(this.#answers, requestId, timeout, { kind: 'info-request', requestId, question });
  }

  tell(news: News): SendResult {
    return this.#send({ kind: 'event', news });
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

  #request<T>(pending: PendingRequests<T>, id: number, timeout: Millis, message: ControlMessage): Promise<T> {
    if (this.#send(message) !== 'sent') return Promise.reject(this.#notUp('closed'));
    return pending.wait(id, timeout);
  }

  #notUp(code: 'closed' | 'timeout'): VpndError {
    const { lastError } = this.status();
    const why = lastError === undefined ? '' : `: ${lastError.message}`;
    const cause = lastError === undefined ? {} : { cause: lastError, details: { cause: lastError.code } };
    return new VpndError(code, `not connected to a supervisor${why}`, { retryable: true, ...cause });
  }

  #send(message: ControlMessage): SendResult {
    const line = this.#line;
    return line?.up === true && line.stream !== undefined ? this.#sendOn(line.stream, message) : 'closed';
  }

  #sendOn(stream: ControlStream, message: ControlMessage): SendResult {
    const result = stream.send(message);
    if (result === 'overflow') this.#ports.metrics.outboxOverflows.inc();
    return result;
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
        this.#ping();
        break;
    }
  }

  #dial(to: DialTarget, timeout: Millis): void {
    const line: Line = {
      to,
      abort: new AbortController(),
      stream: undefined,
      up: false,
      ping: undefined,
      latency: undefined,
    };
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
    this.#input({ kind: 'dialed' });
    const request = makeAuthRequest(
      identity,
      {
        membership: membership(),
        role,
        region,
        wireguardKey,
        capabilities: capabilities(),
        sessions: sessions().slice(0, MAX_SESSION_DIGESTS),
        supernode: supernode?.(),
      },
      { id: line.to.expect.kind === 'base' ? undefined : line.to.expect.id, challenge, serverKeyHash },
      this.#ports.clock.now(),
      this.#ports.random,
    );
    this.#sendOn(stream, request);
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
    if (!line.up) {
      if (message.kind === 'auth-response') this.#authenticated(line, message);
      else this.#misbehaved('AuthResponse comes before anything else');
      return;
    }
    this.#input({ kind: 'heard' });
    switch (message.kind) {
      case 'ping':
        this.#sendOn(stream, { kind: 'pong', id: message.id });
        break;
      case 'pong':
        this.#pong(line, message.id);
        break;
      case 'command':
        void this.#command(line, stream, message.command);
        break;
      case 'exit-response':
        this.#exitResponse(message);
        break;
      case 'info-response':
        this.#answers.answered(message.requestId, message.result);
        break;
      case 'event':
        this.#guard(message.news.kind, () => this.#handlers.news?.(message.news));
        break;
      case 'auth-request':
      case 'auth-response':
      case 'command-response':
      case 'info-request':
      case 'exit-request':
        this.#misbehaved(`a supervisor does not send ${message.kind} on this stream`);
        break;
    }
  }

  #authenticated(line: Line, welcome: AuthResponse): void {
    line.up = true;
    if (this.#connects++ > 0) this.#ports.metrics.reconnects.inc();
    this.#input({ kind: 'authenticated', pingInterval: welcome.pingInterval, silenceLimit: welcome.silenceLimit });
    this.#ports.log.info(`connected to ${targetName(line.to)}`, { role: this.#options.role });
    this.#guard('up', () => this.#handlers.up(welcome, line.to));
    for (const settle of [...this.#waiters]) settle();
  }

  #ping(): void {
    const line = this.#line;
    if (line === undefined) return;
    line.ping = { id: ++this.#lastId, sentAt: this.#ports.clock.monotonic() };
    this.#send({ kind: 'ping', id: line.ping.id, load: this.#options.load?.() });
  }

  #pong(line: Line, id: number): void {
    if (line.ping?.id !== id) return;
    line.latency = ms(this.#ports.clock.monotonic() - line.ping.sentAt);
    line.ping = undefined;
    this.#ports.metrics.heartbeatLatencyMs.observe(line.latency);
  }

  /** Answers exactly once, on the stream the command came by; should that have broken, the supervisor sends it again. */
  async #command(line: Line, stream: ControlStream, command: Command): Promise<void> {
    const { id } = command;
    const handle = async (): Promise<CommandDone> => {
      const handler = this.#handlers.command;
      if (handler === undefined) throw new VpndError('not-supported', `a ${this.#options.role} takes no commands`);
      if (this.#commands > MAX_COMMANDS_IN_FLIGHT) {
        throw new VpndError('rate-limited', 'too many commands at once', { retryable: true });
      }
      return handler.call(this.#handlers, command);
    };
    this.#commands++;
    const result = await outcomeOf(handle, (err) =>
      this.#ports.log.error(`command ${command.desired.kind} failed`, {
        command_id: id,
        session_id: command.session,
        err,
      }),
    );
    this.#commands--;
    if (this.#line === line) this.#sendOn(stream, { kind: 'command-response', id, result });
  }

  #exitResponse({ requestId, result }: ExitResponse): void {
    if (this.#exits.answered(requestId, result) || !result.ok) return;
    // Nobody waits for this grant any more: without a word its ports and addresses stayed taken until the lease ends.
    this.tell({ kind: 'session-closed', session: result.value.session, reason: 'the answer came too late' });
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
    const wasUp = this.#line?.up === true;
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
    line?.stream?.end(end.error === undefined ? undefined : errorOf(refusalOf(end.error)));
  }

  #forget(end: StreamEnd): void {
    const wasUp = this.#line?.up === true;
    this.#line = undefined;
    if (!wasUp) return;
    const why = end.error === undefined ? '' : `: ${end.error.message}`;
    const error = new VpndError('closed', `the stream to the supervisor ended${why}`, { retryable: true });
    this.#exits.failAll(error);
    this.#answers.failAll(error);
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
