import type { CommandExecutor } from '../../core/executor.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Crypto } from '../../core/ports/crypto.js';
import type { Log } from '../../core/ports/log.js';
import type { SessionRecord } from '../../core/ports/store.js';
import { sessionsBy } from '../../core/sessions-by.js';
import type { RotateKeyRequest } from '../../gen/vpnd/v1/admin_pb.js';
import { VpndError } from '../../model/errors.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import { hours, type Millis, minutes, seconds, since } from '../../model/time.js';
import { MAX_MOVED_SESSIONS } from '../../transport/codec/limits.js';
import type { History } from '../common/history.js';
import { keyReason, unknownKey } from '../common/key-request.js';
import { Periodic } from '../common/periodic.js';
import type { WireGuardKeys } from './wireguard-keys.js';

const LOOK_EVERY: Millis = seconds(30);
/** Most sessions are over by then, and need not be moved. */
const LINGER: Millis = hours(1);
/** Who was away when it was asked is asked again. */
const ASK_EVERY: Millis = minutes(5);
/** Nobody keeps a key alive for longer: a session that cannot be moved ends. */
const RETIRED_WITHIN: Millis = hours(24);
/** Many sessions may end at once. */
const TIDY_AFTER: Millis = seconds(1);

const REASON = 'its exit goes over to another WireGuard key';

export interface KeyScheduleDeps {
  readonly keys: WireGuardKeys;
  /** Undefined for never. */
  readonly every: Millis | undefined;
  readonly clock: Clock;
  readonly crypto: Pick<Crypto, 'wireGuardKeyPair'>;
  readonly log: Log;
  readonly history: History;
  readonly executor: Pick<CommandExecutor, 'sessions' | 'reconcile'>;
  /** Asks the supernode that owns these sessions to have them moved; false where it cannot be told now. */
  readonly ask: (owner: PeerId, sessions: readonly SessionId[], reason: string) => boolean;
  /** Ends sessions by the exit's own decision. */
  readonly end: (sessions: readonly SessionRecord[], reason: string) => void;
  /** Clients reach the current key where the exit says they do, or not any more: supernodes are to be told. */
  readonly portMoved: () => void;
  /** The retiring key is off the record. */
  readonly erase: () => void;
  readonly changed: () => void;
}

/**
 * Replaces the exit's WireGuard key, make before break: the new one is up before new sessions get it; the old one stays
 * until its sessions are over, or moved; then nothing is left of it.
 *
 * A configured port is one interface's alone. So the key after that one lives without it, and only until the port is
 * free; the next one has it again.
 */
export class KeySchedule {
  readonly #looking: Periodic;
  #rotating: Promise<void> | undefined;
  #askedAt: Millis | undefined;
  #cancelTidy: (() => void) | undefined;
  #stopped = false;

  constructor(private readonly deps: KeyScheduleDeps) {
    this.#looking = new Periodic('looking after WireGuard keys', LOOK_EVERY, () => this.#look(), deps);
  }

  start(): void {
    this.#looking.start();
    this.#tidySoon();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTidy?.();
    await this.#looking.stop();
    await this.#rotating?.catch(() => {});
  }

  /** A stream is up: who could not be asked can be now. */
  connected(): void {
    if (this.#rotating !== undefined || this.#askedAt !== undefined) return;
    this.#moveAlong().catch((err: unknown) => this.deps.log.warn('an old WireGuard key is still there', { err }));
  }

  /** A session is over. */
  ended(): void {
    if (this.deps.keys.retiring !== undefined) this.#tidySoon();
  }

  /**
   * Resolves when new sessions get the new key. Rejects with `draining` while the key before still has sessions, and with
   * what the store and the data plane reject with; the present key stays then.
   * @param soon sessions are asked to move at once, not after an hour
   */
  rotate(reason: string, soon: boolean): Promise<void> {
    if (this.#rotating !== undefined || this.deps.keys.retiring !== undefined)
      return Promise.reject(
        new VpndError('draining', 'the key before this one still has sessions; `vpnd status` shows how many', {
          retryable: true,
        }),
      );
    this.#rotating = this.#rotate(reason, soon).finally(() => {
      this.#rotating = undefined;
    });
    return this.#rotating;
  }

  async #rotate(reason: string, soon: boolean): Promise<void> {
    const { keys, executor, crypto, log, history, portMoved, changed } = this.deps;
    const portWasTaken = keys.portIsTaken;
    try {
      keys.part();
      await executor.reconcile();
      keys.begin(crypto.wireGuardKeyPair(), soon);
      await executor.reconcile();
    } catch (thrown) {
      keys.takeBack();
      await executor.reconcile().catch((err: unknown) => log.warn('the interface of a new key may be left', { err }));
      throw thrown;
    }
    this.#askedAt = undefined;
    log.info(`another WireGuard key for new sessions: ${reason}`, { count: this.#left().length });
    history.record('key-rotated', `another WireGuard key for new sessions: ${reason}`);
    if (keys.portIsTaken !== portWasTaken) portMoved();
    changed();
    // With the port goes the way that supernodes know: the streams are being dialled anew, and `connected` asks then.
    if (keys.portIsTaken === portWasTaken) await this.#moveAlong();
  }

  async #look(): Promise<void> {
    const { keys, every, clock, log } = this.deps;
    if (this.#rotating !== undefined) return;
    if (keys.retiring !== undefined) return this.#moveAlong();
    const due = every !== undefined && since(clock.now(), keys.current.since) >= every;
    if (!due && !keys.portIsTaken) return;
    const why = due ? 'the schedule (--wireguard-key-every)' : 'the configured port is free again';
    await this.rotate(why, !due).catch((err: unknown) =>
      log.warn('the WireGuard key could not be replaced yet', { err }),
    );
  }

  /** What is left on the retiring key is asked to move, and in the end made to. */
  async #moveAlong(): Promise<void> {
    const { keys, clock, log } = this.deps;
    const { retiring } = keys;
    if (retiring === undefined || this.#stopped) return;
    const left = this.#left();
    if (left.length === 0) return this.#forget();
    const age = since(clock.now(), retiring.retiringSince);
    if (age >= RETIRED_WITHIN) {
      log.warn('sessions on an old WireGuard key did not move in a day, and end', { count: left.length });
      this.deps.end(left, REASON);
      return;
    }
    const now = clock.monotonic();
    if (age < LINGER && !retiring.soon) return;
    if (this.#askedAt !== undefined && now - this.#askedAt < ASK_EVERY) return;
    let told = true;
    for (const [owner, sessions] of sessionsBy(left, (one) => one.owner)) {
      for (let from = 0; from < sessions.length; from += MAX_MOVED_SESSIONS)
        told = this.deps.ask(owner, sessions.slice(from, from + MAX_MOVED_SESSIONS), REASON) && told;
    }
    this.#askedAt = told ? now : undefined;
  }

  /** What the key before still has, for a person. */
  remaining(): string {
    const { length } = this.#left();
    return length === 0 ? 'the one before has no session' : `the one before has ${count(length)}, which are moved`;
  }

  #left(): readonly SessionRecord[] {
    return this.deps.executor.sessions().filter((one) => this.deps.keys.isRetiring(one));
  }

  #tidySoon(): void {
    this.#cancelTidy ??= this.deps.clock.after(TIDY_AFTER, () => {
      this.#cancelTidy = undefined;
      this.#tidy().catch((err: unknown) => this.deps.log.warn('an old WireGuard key is still there', { err }));
    });
  }

  /** An inner address may soon be another session's: nothing of it may lead to the old interface. */
  async #tidy(): Promise<void> {
    if (this.#stopped || this.#rotating !== undefined || this.deps.keys.retiring === undefined) return;
    if (this.#left().length === 0) await this.#forget();
    else await this.deps.executor.reconcile();
  }

  async #forget(): Promise<void> {
    const { keys, executor, log, history, erase, changed } = this.deps;
    keys.forget();
    await executor.reconcile();
    erase();
    log.info('nothing is left of the WireGuard key before');
    history.record('key-retired', 'the WireGuard key before is gone: none of its sessions is left');
    changed();
    if (keys.portIsTaken) await this.rotate('the configured port is free again', true);
  }
}

/** `vpnd keys rotate wireguard`. Rejects with `not-supported` for another kind of key, and as `KeySchedule.rotate`. */
export async function rotateKey(schedule: KeySchedule, { what, reason, now }: RotateKeyRequest) {
  if (what !== 'wireguard') throw unknownKey('an exit', what);
  await schedule.rotate(keyReason(reason), now);
  return { text: `new sessions get another WireGuard key; ${schedule.remaining()}` };
}

/** For a status: since when new sessions get this key, and what is left of the one before. */
export function keyFact(keys: WireGuardKeys, sessions: readonly SessionRecord[]): string {
  const text = `since ${new Date(keys.current.since).toISOString()}`;
  if (keys.retiring === undefined) return text;
  return `${text}; the one before has ${count(sessions.filter((one) => keys.isRetiring(one)).length)} left`;
}

const count = (sessions: number): string => `${sessions} session${sessions === 1 ? '' : 's'}`;
