import { makeAuthRequest } from '../../src/core/auth.js';
import {
  type LinkEffect,
  type LinkInput,
  type LinkState,
  nextDeadline,
  STOPPED,
  stepLink,
} from '../../src/core/link.js';
import type { Clock } from '../../src/core/ports/clock.js';
import type { Identity } from '../../src/core/ports/crypto.js';
import type { DialTarget } from '../../src/core/ports/network.js';
import type { Random } from '../../src/core/ports/random.js';
import type { Command, CommandDone } from '../../src/model/command.js';
import { toVpndError, VpndError } from '../../src/model/errors.js';
import type { PeerId } from '../../src/model/ids.js';
import type { WireGuardPublicKey } from '../../src/model/keys.js';
import type { ControlMessage } from '../../src/model/messages.js';
import { type Millis, ms } from '../../src/model/time.js';
import type { TimerWheel } from '../../src/transport/streams/timer-wheel.js';
import type { selfOf } from './members.js';
import type { RawStream } from './raw-stream.js';

/** What a member shares with the others of its process. */
export interface CrowdTools {
  readonly clock: Clock;
  readonly random: Random;
  /** The deadlines of all members. */
  readonly wheel: TimerWheel;
  readonly target: DialTarget;
  readonly server: PeerId;
  open(from: string, signal: AbortSignal): Promise<RawStream>;
  /** A command came; what it is answered with. */
  command(member: CrowdMember, command: Command): CommandDone;
  /** Anything else that is no heartbeat. */
  message(member: CrowdMember, message: ControlMessage): void;
  up(member: CrowdMember): void;
  down(member: CrowdMember, wasUp: boolean, error: VpndError): void;
  beat(): void;
}

/** An HTTP/2 ping with every second ping of the stream: every 20 s, as grpc-js sends its keepalive. */
const BEATS_PER_PROBE = 2;

/**
 * A client or exit that is nothing but its stream, kept up as the daemon keeps its own: the same decisions about
 * dialling, backing off, pinging and giving up, over a lighter connection.
 */
export class CrowdMember {
  readonly #identity: Identity;
  readonly #self: ReturnType<typeof selfOf>;
  readonly #from: string;
  readonly #tools: CrowdTools;
  #link: LinkState = STOPPED;
  #attempt: AbortController | undefined;
  #raw: RawStream | undefined;
  #timer: { readonly due: Millis; readonly cancel: () => void } | undefined;
  #beats = 0;

  constructor(identity: Identity, self: ReturnType<typeof selfOf>, from: string, tools: CrowdTools) {
    this.#identity = identity;
    this.#self = self;
    this.#from = from;
    this.#tools = tools;
  }

  get identity(): Identity {
    return this.#identity;
  }

  /** The WireGuard key of one that is an exit. */
  get exitKey(): WireGuardPublicKey | undefined {
    return this.#self.wireguardKey;
  }

  get isUp(): boolean {
    return this.#link.kind === 'up';
  }

  start(): void {
    this.#input({ kind: 'start' });
  }

  stop(): void {
    this.#input({ kind: 'stop', error: new VpndError('closed', 'this member leaves') });
  }

  /** False where the stream is down. */
  send(message: ControlMessage): boolean {
    return this.isUp && this.#raw?.stream.send(message) === 'sent';
  }

  #input(input: LinkInput): void {
    const { clock, random, target } = this.#tools;
    const [next, effects] = stepLink(this.#link, input, { now: clock.monotonic(), random, targets: [target] });
    this.#link = next;
    for (const effect of effects) if (this.#link === next) this.#run(effect);
    if (this.#link === next) this.#arm();
  }

  /** A deadline that has moved away is found out when the timer runs: hearing something costs no timer. */
  #arm(): void {
    const due = nextDeadline(this.#link);
    if (due === undefined || (this.#timer !== undefined && this.#timer.due <= due)) return;
    this.#timer?.cancel();
    const cancel = this.#tools.wheel.after(ms(due - this.#tools.clock.monotonic()), () => {
      this.#timer = undefined;
      this.#input({ kind: 'tick' });
    });
    this.#timer = { due, cancel };
  }

  #run(effect: LinkEffect): void {
    switch (effect.kind) {
      case 'dial':
        void this.#dial();
        break;
      case 'abandon':
        this.#drop(effect.error);
        break;
      case 'ping':
        this.#tools.beat();
        this.#raw?.stream.send({ kind: 'ping', id: ++this.#beats, load: undefined });
        if (this.#beats % BEATS_PER_PROBE === 0) this.#raw?.probe();
        break;
    }
  }

  async #dial(): Promise<void> {
    const attempt = new AbortController();
    this.#attempt = attempt;
    const failed = (thrown: unknown) => {
      if (this.#attempt !== attempt) return;
      const wasUp = this.isUp;
      this.#attempt = undefined;
      this.#raw?.cut();
      this.#raw = undefined;
      // A link takes what is no VpndError for a bug of its own.
      const error =
        thrown instanceof VpndError ? thrown : new VpndError('unreachable', String(thrown), { retryable: true });
      this.#tools.down(this, wasUp, error);
      this.#input({ kind: 'failed', error });
    };
    try {
      const raw = await this.#tools.open(this.#from, attempt.signal);
      if (this.#attempt !== attempt) return raw.cut();
      this.#raw = raw;
      this.#input({ kind: 'dialed' });
      raw.stream.listen({
        message: (message) => this.#attempt === attempt && this.#message(message),
        ended: (end) => failed(end.error ?? new VpndError('closed', 'the stream ended', { retryable: true })),
      });
      const server = { id: this.#tools.server, challenge: raw.challenge, serverKeyHash: raw.serverKeyHash };
      const { clock, random } = this.#tools;
      raw.stream.send(makeAuthRequest(this.#identity, this.#self, server, clock.now(), random));
    } catch (thrown) {
      failed(thrown);
    }
  }

  #message(message: ControlMessage): void {
    if (message.kind === 'auth-response') {
      const { pingInterval, silenceLimit } = message;
      this.#input({ kind: 'authenticated', pingInterval, silenceLimit });
      this.#tools.up(this);
      return;
    }
    this.#input({ kind: 'heard' });
    if (message.kind === 'ping') this.#raw?.stream.send({ kind: 'pong', id: message.id });
    else if (message.kind === 'command') this.#command(message.command);
    else this.#tools.message(this, message);
  }

  #command(command: Command): void {
    try {
      const value = this.#tools.command(this, command);
      this.send({ kind: 'command-response', id: command.id, result: { ok: true, value } });
    } catch (thrown) {
      const { code, message, details, retryable } = toVpndError(thrown);
      this.send({
        kind: 'command-response',
        id: command.id,
        result: { ok: false, error: { code, message, details, retryable } },
      });
    }
  }

  #drop(error: VpndError): void {
    const attempt = this.#attempt;
    const wasUp = this.#raw !== undefined;
    this.#attempt = undefined;
    attempt?.abort();
    this.#raw?.stream.end();
    // Nobody waits for a goodbye here.
    this.#raw?.cut();
    this.#raw = undefined;
    this.#tools.down(this, wasUp, error);
  }
}
