import { type Bytes, toHex, utf8 } from '../model/bytes.js';
import type { Command, CommandDone } from '../model/command.js';
import { type Unit, type UnitId, unitIdOf } from '../model/dataplane.js';
import { toVpndError, VpndError } from '../model/errors.js';
import type { CommandId, PeerId, SessionId } from '../model/ids.js';
import { days, type Instant, type Millis, ms, plus, seconds, since } from '../model/time.js';
import { contentHash, judge } from './ledger.js';
import type { Clock } from './ports/clock.js';
import type { Crypto } from './ports/crypto.js';
import type { DataPlane, Reconciliation } from './ports/dataplane.js';
import type { Log } from './ports/log.js';
import type { Metrics } from './ports/metrics.js';
import type { LedgerStore, SessionRecord } from './ports/store.js';
import { KeyedQueue } from './serial.js';

/** A clock that was set back since makes no lease longer than it was. */
const atMostWhole = ({ leaseUntil, updatedAt }: SessionRecord, now: Instant): Instant =>
  Math.min(leaseUntil, plus(now, ms(Math.max(0, since(leaseUntil, updatedAt))))) as Instant;

/** What a role makes of commands: the units of a session, and the answer to a command that was applied. */
export interface Projection {
  /** Units that do not belong to any session: devices, egress. */
  fixed(): readonly Unit[];
  units(record: SessionRecord): readonly Unit[];
  /**
   * Throws VpndError to refuse a command before anything is touched. `others` are the other sessions, those that are
   * being set up at this moment included.
   */
  accept?(command: Command, record: SessionRecord | undefined, others: readonly SessionRecord[]): void;
  /** The session's next record, with what this node adds to it of its own; called after `accept`. Throws like it. */
  prepare?(command: Command, next: SessionRecord, before: SessionRecord | undefined): SessionRecord;
  answer(command: Command, record: SessionRecord): CommandDone;
  /** After a session's last unit is gone, by DISCONNECT or because its lease ran out. */
  ended?(session: SessionId, why: 'disconnect' | 'expired'): void;
}

export interface ExecutorPorts {
  readonly clock: Clock;
  readonly crypto: Pick<Crypto, 'sha256'>;
  readonly ledger: LedgerStore;
  readonly dataplane: DataPlane;
  readonly log: Log;
  readonly metrics: Metrics;
}

/** Answers and tombstones older than any lease can matter no more. */
const LEDGER_MEMORY: Millis = days(7);
/** Timers overflow beyond 2^31 ms; nothing is lost by looking once an hour. */
const LONGEST_WAIT: Millis = seconds(3600);

/**
 * The one way a command becomes kernel state, for those pushed to a peer and those a supernode gives itself: look up,
 * judge, apply by difference, record durably, acknowledge. Commands of one session run one after the other.
 */
export class CommandExecutor {
  readonly #queue = new KeyedQueue<SessionId>();
  /** Sessions in force, as the ledger has them; tombstones stay in the store alone. */
  readonly #live = new Map<SessionId, SessionRecord>();
  /** Accepted and not on record yet. One per session, since a session's commands run one after the other. */
  readonly #applying = new Map<SessionId, SessionRecord>();
  /** A full comparison that is under way: it must not meet a command that is applied and not yet on record. */
  #comparison: Promise<unknown> | undefined;
  #cancelExpiry: () => void = () => {};
  #nextExpiry: Instant | undefined;
  #stopped = false;

  constructor(
    private readonly ports: ExecutorPorts,
    private readonly projection: Projection,
  ) {}

  /**
   * Adopt what the kernel has: compare it with the ledger and repair the difference. Sessions whose lease ran out
   * while the daemon was away are ended. Rejects with what the data plane rejects with.
   */
  async start(): Promise<Reconciliation> {
    const now = this.ports.clock.now();
    this.ports.ledger.prune(plus(now, ms(-LEDGER_MEMORY)));
    for (const record of this.ports.ledger.sessions()) {
      if (record.desired.length === 0) continue;
      if (record.leaseUntil > now) this.#live.set(record.session, { ...record, leaseUntil: atMostWhole(record, now) });
      else this.#entomb(record, now);
    }
    const result = await this.reconcile();
    this.#scheduleExpiry();
    return result;
  }

  /** The answer of an applied command; rejects with the VpndError of a refusal or of the data plane. */
  async execute(command: Command, owner: PeerId): Promise<CommandDone> {
    const started = this.ports.clock.monotonic();
    const kind = command.desired.kind;
    try {
      const done = await this.#inTurn(command.session, () => this.#execute(command, owner));
      this.ports.metrics.commandSuccess.inc({ kind });
      return done;
    } catch (thrown) {
      const error = toVpndError(thrown);
      this.ports.metrics.commandFailure.inc({ kind, code: error.code });
      throw error;
    } finally {
      this.ports.metrics.commandLatencySeconds.observe((this.ports.clock.monotonic() - started) / 1000, { kind });
    }
  }

  /** Sessions in force. */
  sessions(): readonly SessionRecord[] {
    return [...this.#live.values()];
  }

  session(id: SessionId): SessionRecord | undefined {
    return this.#live.get(id);
  }

  /** For an order of this node to itself: newer than whatever its ledger has of the session, ended ones included. */
  nextGeneration(id: SessionId): number {
    return (this.ports.ledger.session(id)?.generation ?? 0) + 1;
  }

  /** The fold of everything accepted: what the kernel has to hold. */
  desired(): readonly Unit[] {
    return [...this.projection.fixed(), ...this.sessions().flatMap((record) => this.projection.units(record))];
  }

  /** Make the kernel equal to the ledger. Commands that come meanwhile wait. */
  async reconcile(): Promise<Reconciliation> {
    while (this.#comparison !== undefined) await this.#comparison;
    const comparison = this.#queue.idle().then(() => this.ports.dataplane.reconcile(this.desired()));
    this.#comparison = comparison
      .catch(() => {})
      .then(() => {
        this.#comparison = undefined;
      });
    const result = await comparison;
    for (const unit of result.repaired) this.ports.metrics.repairs.inc({ what: unit.slice(0, unit.indexOf('/')) });
    for (const _ of result.removed) this.ports.metrics.repairs.inc({ what: 'residue' });
    return result;
  }

  /**
   * Of what a session's units are, something changes that no command says: `change` switches the projection over, the
   * kernel follows. Rejects with what the data plane rejects with; the projection stays switched over, and the next
   * full comparison tries again.
   */
  async reproject(session: SessionId, change: () => void): Promise<void> {
    await this.#inTurn(session, async () => {
      const record = this.session(session);
      const before = this.#unitsOf(record);
      change();
      if (!this.#stopped) await this.#become(before, this.#unitsOf(record));
    });
  }

  /** Wait for what is under way; nothing is torn down. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelExpiry();
    while (this.#comparison !== undefined) await this.#comparison;
    await this.#queue.idle();
  }

  async #inTurn<T>(session: SessionId, task: () => Promise<T>): Promise<T> {
    while (this.#comparison !== undefined) await this.#comparison;
    return this.#queue.run(session, task);
  }

  async #execute(command: Command, owner: PeerId): Promise<CommandDone> {
    const { ledger, clock } = this.ports;
    if (this.#stopped) throw new VpndError('closed', 'this node is shutting down', { retryable: true });
    const hash = contentHash(command, this.ports.crypto);
    const session = ledger.session(command.session);
    const verdict = judge(command, owner, hash, { entry: ledger.command(command.id), session }, clock.now());
    if (verdict.kind === 'refuse') throw verdict.error;
    if (verdict.kind === 'answered') return verdict.entry.response;

    this.projection.accept?.(command, session, this.#others(command.session));
    const next = this.projection.prepare?.(command, verdict.next, session) ?? verdict.next;
    this.#applying.set(command.session, next);
    try {
      return await this.#applyAndRecord(command, hash, session, next);
    } finally {
      this.#applying.delete(command.session);
    }
  }

  #others(session: SessionId): readonly SessionRecord[] {
    const all = new Map([...this.#live, ...this.#applying]);
    all.delete(session);
    return [...all.values()].filter((record) => record.desired.length > 0);
  }

  async #applyAndRecord(
    command: Command,
    hash: Bytes,
    session: SessionRecord | undefined,
    next: SessionRecord,
  ): Promise<CommandDone> {
    const { ledger, clock } = this.ports;
    await this.#move(session, next);
    try {
      const response = this.projection.answer(command, next);
      ledger.record(
        {
          id: command.id,
          session: command.session,
          generation: command.generation,
          contentHash: hash,
          response,
          appliedAt: clock.now(),
        },
        next,
      );
      this.#remember(next);
      if (command.desired.kind === 'disconnect' && session !== undefined && session.desired.length > 0) {
        this.projection.ended?.(command.session, 'disconnect');
      }
      return response;
    } catch (thrown) {
      // Not on record, so not in force: the kernel goes back to what the ledger says.
      await this.#move(next, session).catch((failed: unknown) =>
        this.ports.log.error('could not undo a command that was not recorded', {
          session_id: command.session,
          err: failed,
        }),
      );
      throw thrown;
    }
  }

  #move(before: SessionRecord | undefined, after: SessionRecord | undefined): Promise<void> {
    return this.#become(this.#unitsOf(before), this.#unitsOf(after));
  }

  #unitsOf(record: SessionRecord | undefined): readonly Unit[] {
    return record === undefined ? [] : this.projection.units(record);
  }

  async #become(before: readonly Unit[], put: readonly Unit[]): Promise<void> {
    const kept = new Set<UnitId>(put.map(unitIdOf));
    const remove = before.map(unitIdOf).filter((id) => !kept.has(id));
    if (put.length > 0 || remove.length > 0) await this.ports.dataplane.apply({ put, remove });
  }

  #remember(record: SessionRecord): void {
    if (record.desired.length === 0) {
      this.#live.delete(record.session);
      return;
    }
    this.#live.set(record.session, record);
    if (this.#nextExpiry === undefined || record.leaseUntil < this.#nextExpiry) this.#scheduleExpiry(record.leaseUntil);
  }

  /** One timer for all sessions: at the earliest end known, or after a look at every session. */
  #scheduleExpiry(at?: Instant): void {
    this.#cancelExpiry();
    this.#nextExpiry = at;
    if (at === undefined) {
      for (const { leaseUntil } of this.#live.values()) {
        if (this.#nextExpiry === undefined || leaseUntil < this.#nextExpiry) this.#nextExpiry = leaseUntil;
      }
    }
    if (this.#stopped || this.#nextExpiry === undefined) return;
    const wait = Math.min(LONGEST_WAIT, Math.max(0, since(this.#nextExpiry, this.ports.clock.now())));
    this.#cancelExpiry = this.ports.clock.after(ms(wait), () => void this.#expire());
  }

  async #expire(): Promise<void> {
    const now = this.ports.clock.now();
    const due = this.sessions().filter((record) => record.leaseUntil <= now);
    await Promise.all(
      due.map((record) =>
        this.#inTurn(record.session, async () => {
          const current = this.session(record.session);
          // A stopped one leaves it to the next start: its store may be closed by now.
          if (this.#stopped || current === undefined || current.leaseUntil > now) return;
          await this.#move(current, undefined);
          this.#entomb(current, now);
          this.#live.delete(record.session);
          this.ports.log.info('a session ended: its lease ran out', { session_id: record.session });
          this.projection.ended?.(record.session, 'expired');
        }),
      ),
    ).catch((thrown: unknown) => this.ports.log.error('could not remove an expired session', { err: thrown }));
    // Not at once after a failure: the data plane may need a moment.
    this.#scheduleExpiry(due.some((record) => this.#live.has(record.session)) ? plus(now, seconds(5)) : undefined);
  }

  #entomb(record: SessionRecord, now: Instant): void {
    this.ports.ledger.record(
      {
        id: this.#expiryId(record),
        session: record.session,
        generation: record.generation,
        contentHash: new Uint8Array(32),
        response: { offer: undefined },
        appliedAt: now,
      },
      { ...record, desired: [], updatedAt: now },
    );
  }

  /** Expiry is on record like a command; its id follows from what expired. */
  #expiryId(record: SessionRecord): CommandId {
    const input = utf8(`vpnd/expired/${record.session}/${record.generation}/${record.updatedAt}`);
    return toHex(this.ports.crypto.sha256(input).slice(0, 16)) as CommandId;
  }
}
