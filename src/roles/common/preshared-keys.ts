import type { Projection } from '../../core/executor.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Crypto } from '../../core/ports/crypto.js';
import type { Log } from '../../core/ports/log.js';
import type { SessionRecord } from '../../core/ports/store.js';
import { presharedKeyOf } from '../../core/preshared.js';
import { type Bytes, equalConstantTime, toHex } from '../../model/bytes.js';
import type { Command, Preshared, SetupExit } from '../../model/command.js';
import type { PeerObservation } from '../../model/dataplane.js';
import { VpndError } from '../../model/errors.js';
import type { SessionId } from '../../model/ids.js';
import type { WireGuardPublicKey } from '../../model/keys.js';
import type { PostQuantum } from '../../model/role.js';
import { type Instant, type Millis, seconds, since } from '../../model/time.js';
import { presharedOf } from './exit-units.js';
import { warmUp } from './kem-warm-up.js';
import { Periodic } from './periodic.js';

const LOOK_EVERY: Millis = seconds(5);
/**
 * A tunnel in use shakes hands again after 120 s, or with the next keepalive, 25 s later at the most (WireGuard paper,
 * section 6): one whose last handshake is older has tried, and it did not work. Its keys are good until 180 s.
 */
const OVERDUE: Millis = seconds(150);
/** Long enough for a client that tries every five seconds. */
const TRY: Millis = seconds(10);
/** A handshake so soon after a change may have begun before it. */
const MARGIN: Millis = seconds(2);
/** The one that was just made, and those that a client may have instead: it missed an answer, and was restarted. */
const MOST_KEYS = 3;

export interface PresharedKeysDeps {
  readonly pq: PostQuantum;
  readonly crypto: Pick<Crypto, 'kemEncapsulate' | 'kemKeyPair' | 'kemDecapsulate' | 'hkdfSha256' | 'sha256'>;
  readonly clock: Clock;
  readonly log: Log;
  /** The key that the exit has given a session. */
  readonly exitKey: (record: SessionRecord) => WireGuardPublicKey;
  readonly sessions: () => readonly SessionRecord[];
  readonly observe: () => Promise<readonly PeerObservation[]>;
  readonly reproject: (session: SessionId, change: () => void) => Promise<void>;
  /** A key was taken off the record, or is about to be. */
  readonly erase: () => void;
}

/** Which of a session's keys WireGuard has at present, while it is not certain which of them the client has. */
interface Trial {
  /** Of which exchange: what was tried for an earlier one says nothing. */
  readonly of: string;
  readonly key: string;
  readonly since: Instant;
  /** A handshake came through with it. */
  readonly works: boolean;
}

/**
 * The pre-shared keys of an exit's sessions. The exit has a new key before its client: the client makes it out of the
 * exit's answer. An answer may get lost, with the stream that would bring another one, and a tunnel must not die of it.
 * So the exit keeps the key before as well until a handshake shows which one the client has. Where a handshake is
 * overdue it goes through the keys it knows; what is in flight meanwhile uses the keys of the last handshake.
 */
export class PresharedKeys {
  readonly #trials = new Map<SessionId, Trial>();
  readonly #looking: Periodic;

  constructor(private readonly deps: PresharedKeysDeps) {
    this.#looking = new Periodic('looking after pre-shared keys', LOOK_EVERY, () => this.#look(), deps);
  }

  start(): void {
    warmUp(this.deps.crypto, this.deps.pq);
    this.#looking.start();
  }

  stop(): Promise<void> {
    return this.#looking.stop();
  }

  /** The same projection, with pre-shared keys. */
  around(projection: Projection): Projection {
    return {
      ...projection,
      units: (record) => projection.units(this.#withKeyInUse(record)),
      accept: (command, record, others) => {
        projection.accept?.(command, record, others);
        this.#accept(command, record);
      },
      prepare: (command, next, before) =>
        this.#prepare(command, projection.prepare?.(command, next, before) ?? next, before),
      ended: (session, why) => {
        this.#trials.delete(session);
        this.deps.erase();
        projection.ended?.(session, why);
      },
    };
  }

  #accept({ desired }: Command, record: SessionRecord | undefined): void {
    if (this.deps.pq !== 'require' || desired.kind !== 'setup-exit' || desired.kemKey.length > 0) return;
    if (this.#standing(desired, record) !== undefined) return;
    throw new VpndError('exit-refused', 'this exit takes sessions with post-quantum keys only (--pq require)');
  }

  /** What the session has already; another client's key makes it another tunnel. */
  #standing(setup: SetupExit, record: SessionRecord | undefined): Preshared | undefined {
    const before = record?.desired.find((one) => one.kind === 'setup-exit');
    return before?.clientKey === setup.clientKey ? before.preshared : undefined;
  }

  #prepare({ desired, session }: Command, next: SessionRecord, before: SessionRecord | undefined): SessionRecord {
    if (desired.kind !== 'setup-exit') return next;
    const standing = this.#standing(desired, before);
    const preshared =
      desired.kemKey.length === 0 || this.deps.pq === 'off'
        ? standing && this.#narrowed(session, standing)
        : this.#exchange(desired, next, standing);
    return { ...next, desired: next.desired.map((one) => (one.kind === 'setup-exit' ? { ...one, preshared } : one)) };
  }

  #exchange(setup: SetupExit, record: SessionRecord, standing: Preshared | undefined): Preshared {
    const { crypto, clock } = this.deps;
    const { session } = record;
    const { clientKey, kemKey } = setup;
    const exitKey = this.deps.exitKey(record);
    const kemKeyHash = crypto.sha256(kemKey);
    if (standing !== undefined && equalConstantTime(kemKeyHash, standing.kemKeyHash)) {
      // Its answer got lost; the client is about to have it.
      this.#trials.delete(session);
      return standing;
    }
    const made = crypto.kemEncapsulate(kemKey);
    if (made === undefined) throw new VpndError('exit-refused', 'the ML-KEM key of this session is malformed');
    const { ciphertext, sharedSecret } = made;
    const key = presharedKeyOf(crypto, sharedSecret, { session, clientKey, exitKey, kemKey, ciphertext });
    sharedSecret.fill(0);
    const older = standing === undefined ? [] : this.#possible(session, standing);
    return { kemKeyHash, ciphertext, keys: [key, ...older].slice(0, MOST_KEYS), since: clock.now() };
  }

  /** Without what is not needed any more. The newest one stays: its answer may be asked for again. */
  #narrowed(session: SessionId, preshared: Preshared): Preshared {
    const possible = this.#possible(session, preshared);
    const keys = preshared.keys.filter((key, i) => i === 0 || possible.includes(key));
    if (keys.length < preshared.keys.length) this.deps.erase();
    return { ...preshared, keys };
  }

  /** The keys the client may have. */
  #possible(session: SessionId, preshared: Preshared): readonly string[] {
    const trial = this.#trialOf(session, preshared);
    return trial?.works === true ? [trial.key] : preshared.keys;
  }

  #trialOf(session: SessionId, preshared: Preshared): Trial | undefined {
    const trial = this.#trials.get(session);
    return trial?.of === nameOf(preshared.kemKeyHash) ? trial : undefined;
  }

  #withKeyInUse(record: SessionRecord): SessionRecord {
    const preshared = presharedOf(record);
    const key = preshared && this.#trialOf(record.session, preshared)?.key;
    if (preshared === undefined || key === undefined || key === preshared.keys[0]) return record;
    const inUse = { ...preshared, keys: [key] };
    return {
      ...record,
      desired: record.desired.map((one) => (one.kind === 'setup-exit' ? { ...one, preshared: inUse } : one)),
    };
  }

  async #look(): Promise<void> {
    const open = this.deps.sessions().flatMap((record) => {
      const preshared = presharedOf(record);
      const isOpen = preshared !== undefined && this.#possible(record.session, preshared).length > 1;
      return isOpen ? [{ record, preshared }] : [];
    });
    if (open.length === 0) return;
    const peers = new Map((await this.deps.observe()).map((one) => [one.publicKey, one.lastHandshake]));
    for (const { record, preshared } of open) {
      const setup = record.desired.find((one) => one.kind === 'setup-exit');
      if (setup !== undefined) await this.#settle(record.session, preshared, peers.get(setup.clientKey));
    }
  }

  async #settle(session: SessionId, preshared: Preshared, handshake: Instant | undefined): Promise<void> {
    const now = this.deps.clock.now();
    const trial = this.#trialOf(session, preshared) ?? {
      of: nameOf(preshared.kemKeyHash),
      key: preshared.keys[0] ?? '',
      since: now,
      works: false,
    };
    this.#trials.set(session, trial);
    if (handshake !== undefined && since(handshake, trial.since) >= MARGIN) {
      this.#trials.set(session, { ...trial, works: true });
      return;
    }
    if (since(now, handshake ?? trial.since) < OVERDUE || since(now, trial.since) < TRY) return;
    const next = preshared.keys[(preshared.keys.indexOf(trial.key) + 1) % preshared.keys.length] ?? trial.key;
    this.deps.log.info('no handshake with this pre-shared key; trying another one', { session_id: session });
    await this.deps.reproject(session, () => {
      // An answer may have been asked for again meanwhile.
      if (this.#trials.get(session) === trial) this.#trials.set(session, { ...trial, key: next, since: now });
    });
  }
}

const nameOf = (kemKeyHash: Bytes): string => toHex(kemKeyHash);
