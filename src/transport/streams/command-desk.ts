import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Metrics } from '../../core/ports/metrics.js';
import type { Command, CommandDone } from '../../model/command.js';
import { VpndError } from '../../model/errors.js';
import { type CommandId, type PeerId, shortId } from '../../model/ids.js';
import type { CommandMessage, CommandResponse } from '../../model/messages.js';
import { type Millis, seconds } from '../../model/time.js';
import { errorOfRefusal } from '../codec/refusal.js';
import type { TimerWheel } from './timer-wheel.js';

/** How long one sending of a command may stay unanswered. */
export const COMMAND_TIMEOUT: Millis = seconds(5);
/** Times an unanswered command is sent again, with the same id. */
export const COMMAND_RETRIES = 3;

interface Pending {
  readonly command: Command;
  readonly answer: Promise<CommandDone>;
  readonly startedAt: Millis;
  sent: number;
  cancelTimer: () => void;
  resolve(done: CommandDone): void;
  reject(error: VpndError): void;
}

interface Deps {
  readonly clock: Clock;
  readonly wheel: TimerWheel;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Puts a message on the peer's stream; one that is lost on the way is sent again here. */
  readonly send: (peer: PeerId, message: CommandMessage) => void;
}

/** Commands under way: sent, sent again, answered or given up. Peers apply each at most once, by its id. */
export class CommandDesk {
  readonly #deps: Deps;
  readonly #pending = new Map<PeerId, Map<CommandId, Pending>>();

  constructor(deps: Deps) {
    this.#deps = deps;
  }

  /** Rejects with `command-failed` when no answer comes, or with the error that the peer answered. */
  issue(peer: PeerId, command: Command): Promise<CommandDone> {
    const ofPeer = this.#pending.get(peer) ?? new Map<CommandId, Pending>();
    const under = ofPeer.get(command.id);
    if (under !== undefined) return joined(under, command);

    const { promise: answer, resolve, reject } = deferred<CommandDone>();
    const startedAt = this.#deps.clock.monotonic();
    const pending: Pending = { command, answer, startedAt, sent: 0, cancelTimer: () => {}, resolve, reject };
    ofPeer.set(command.id, pending);
    this.#pending.set(peer, ofPeer);
    this.#send(peer, pending);
    return answer;
  }

  /** False for an answer that nobody waits for any more. */
  answered(peer: PeerId, response: CommandResponse): boolean {
    const pending = this.#take(peer, response.id);
    if (pending === undefined) return false;
    const { kind } = pending.command.desired;
    const took = (this.#deps.clock.monotonic() - pending.startedAt) / 1_000;
    this.#deps.metrics.commandLatencySeconds.observe(took, { kind });
    if (response.result.ok) {
      this.#deps.metrics.commandSuccess.inc({ kind });
      pending.resolve(response.result.value);
    } else {
      this.#failed(peer, pending, errorOfRefusal(response.result.error));
    }
    return true;
  }

  /** The peer has a new stream: what the old one took with it is sent again. Deadlines stay. */
  resend(peer: PeerId): void {
    for (const { command } of this.#pending.get(peer)?.values() ?? []) {
      this.#deps.send(peer, { kind: 'command', command });
    }
  }

  /** The peer is gone. */
  abandon(peer: PeerId, error: VpndError): void {
    for (const id of [...(this.#pending.get(peer)?.keys() ?? [])]) {
      const pending = this.#take(peer, id);
      if (pending !== undefined) this.#failed(peer, pending, error);
    }
  }

  #send(peer: PeerId, pending: Pending): void {
    pending.sent++;
    pending.cancelTimer = this.#deps.wheel.after(COMMAND_TIMEOUT, () => this.#unanswered(peer, pending));
    this.#deps.send(peer, { kind: 'command', command: pending.command });
  }

  #unanswered(peer: PeerId, pending: Pending): void {
    if (pending.sent <= COMMAND_RETRIES) {
      this.#send(peer, pending);
      return;
    }
    const { id, desired } = pending.command;
    if (this.#take(peer, id) === undefined) return;
    const seconds = COMMAND_TIMEOUT / 1_000;
    const error = new VpndError(
      'command-failed',
      `${shortId(peer)} did not answer ${desired.kind}, sent ${pending.sent} times ${seconds} s apart`,
      { retryable: true, details: { cause: 'timeout', sent: String(pending.sent) } },
    );
    this.#failed(peer, pending, error);
  }

  #failed(peer: PeerId, pending: Pending, error: VpndError): void {
    const { id, session, desired } = pending.command;
    this.#deps.metrics.commandFailure.inc({ kind: desired.kind, code: error.code });
    this.#deps.log.warn(`command ${desired.kind} failed: ${error.message}`, {
      peer_id: peer,
      command_id: id,
      session_id: session,
      code: error.code,
    });
    pending.reject(error);
  }

  #take(peer: PeerId, id: CommandId): Pending | undefined {
    const ofPeer = this.#pending.get(peer);
    const pending = ofPeer?.get(id);
    if (ofPeer === undefined || pending === undefined) return undefined;
    pending.cancelTimer();
    ofPeer.delete(id);
    if (ofPeer.size === 0) this.#pending.delete(peer);
    return pending;
  }
}

/** The same command asked for twice is one command; another one under the same id is a mistake of the caller. */
function joined(pending: Pending, command: Command): Promise<CommandDone> {
  const { generation, session, desired } = pending.command;
  const same =
    generation === command.generation && session === command.session && desired.kind === command.desired.kind;
  if (same) return pending.answer;
  return Promise.reject(new VpndError('command-conflict', `another command with the id ${command.id} is under way`));
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: VpndError) => void } {
  let resolve: (value: T) => void = () => {};
  let reject: (error: VpndError) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
