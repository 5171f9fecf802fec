import {
  BROKEN,
  CHAIN_START,
  CHECKPOINT_EVERY,
  type ChainEnd,
  isGenuine,
  nextEntry,
  sealed,
} from '../core/audit-chain.js';
import type { Audit, AuditEntry, AuditEvent, AuditStore } from '../core/ports/audit.js';
import type { Clock } from '../core/ports/clock.js';
import type { Crypto, Identity } from '../core/ports/crypto.js';
import type { Log } from '../core/ports/log.js';
import type { FactStore } from '../core/ports/store.js';
import { equalConstantTime, toHex } from '../model/bytes.js';
import { toVpndError, VpndError } from '../model/errors.js';
import { keyOf } from '../model/ids.js';
import { type Instant, minutes, seconds } from '../model/time.js';
import { scrubAddresses, scrubSecrets } from './scrub.js';

export interface AuditOptions {
  readonly store: AuditStore;
  readonly facts: FactStore;
  readonly identity: Identity;
  readonly crypto: Pick<Crypto, 'sha256' | 'verify'>;
  readonly clock: Clock;
  readonly log: Log;
  /**
   * Runs a task soon: what was recorded until then is one write. Real: setImmediate. Microtasks unless given, which is
   * what a simulation wants.
   */
  readonly soon?: (task: () => void) => void;
}

/** An audit log that is open for writing. */
export interface AuditLog extends Audit {
  /** Removes the entries from before this moment, as far as they are the oldest. Answers with how many went. */
  forget(before: Instant): number;
  /** Writes what has not been written. Nothing is recorded after that. Never throws. */
  close(): void;
}

/** Notes that wait for a disk; more are only counted. */
const MOST_WAITING = 1_000;
const TRY_AGAIN = seconds(30);
/** A person's own words (a token's note) are cut to this. */
const TEXT_LIMIT = 200;
const BEGAN = 'audit/began';
const BATCH = 1_000;
/** Removing entries is itself an entry, so it is not done for each single one that comes of age. */
export const PRUNE_EVERY = minutes(24 * 60);

interface Waiting {
  readonly event: AuditEvent;
  readonly at: Instant;
  /** Notes and orders wait apart and are written as they came. */
  readonly arrival: number;
}

interface Order {
  readonly events: readonly Waiting[];
  readonly done: () => void;
  readonly failed: (error: VpndError) => void;
}

/**
 * Opens a node's audit log. A chain that does not end where the node left it is continued from where it did, with an
 * entry that says so: what is missing stays missing for whoever verifies. Throws what the store does.
 */
export function openAudit(options: AuditOptions): AuditLog {
  return new ChainedAudit(options);
}

class ChainedAudit implements AuditLog {
  readonly #o: AuditOptions;
  readonly #soon: (task: () => void) => void;
  #end: ChainEnd;
  #orders: Order[] = [];
  #notes: Waiting[] = [];
  #missed = 0;
  #missedSince: Instant | undefined;
  #arrivals = 0;
  #planned = false;
  #closed = false;
  #failure: VpndError | undefined;
  #cancelRetry: () => void = () => {};

  constructor(options: AuditOptions) {
    this.#o = options;
    this.#soon = options.soon ?? queueMicrotask;
    const { end, damage } = this.#found();
    this.#end = end;
    if (damage !== undefined) {
      options.log.error(`the audit log is not as this node left it: ${damage}; \`vpnd audit verify\` says more`);
      this.note({ code: BROKEN, by: 'daemon', on: 'audit', detail: { found: damage } });
    }
  }

  record(...events: readonly AuditEvent[]): Promise<void> {
    if (this.#closed) return Promise.reject(new VpndError('closed', 'the audit log is closed'));
    return new Promise((done, failed) => {
      this.#orders.push({ events: events.map((event) => this.#stamped(event)), done, failed });
      this.#plan();
    });
  }

  note(event: AuditEvent): void {
    if (this.#closed) return;
    if (this.#notes.length < MOST_WAITING) this.#notes.push(this.#stamped(event));
    else {
      this.#missed++;
      this.#missedSince ??= this.#o.clock.now();
    }
    this.#plan();
  }

  forget(before: Instant): number {
    this.#flush();
    const { store, clock, identity } = this.#o;
    let last: ChainEnd | undefined;
    let count = 0;
    for (const entry of entriesOf(store)) {
      // The newest stays: an empty log could not be told from one that was emptied.
      if (entry.at >= before || entry.sequence >= this.#end.sequence) break;
      last = entry;
      count++;
    }
    if (last === undefined) return 0;
    store.forget(sealed('anchor', last, clock.now(), identity));
    this.note({ code: 'audit-pruned', by: 'daemon', on: 'audit', detail: { entries: count, up_to: last.sequence } });
    return count;
  }

  problem(): string | undefined {
    return this.#failure === undefined
      ? undefined
      : `the audit log cannot be written, so nothing is done that it must record: ${this.#failure.message}`;
  }

  close(): void {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    this.#cancelRetry();
    const lost = this.#notes.length + this.#missed;
    if (lost > 0) this.#o.log.error('things happened that the audit log does not say', { count: lost });
    this.#tellCheckpoint();
  }

  #plan(): void {
    if (this.#planned) return;
    this.#planned = true;
    this.#soon(() => {
      this.#planned = false;
      if (!this.#closed) this.#flush();
    });
  }

  /** Everything that waits, in one write: orders first come first served, notes as they happened among them. */
  #flush(): void {
    const orders = this.#orders;
    this.#orders = [];
    const gap = this.#gap();
    const waiting = [
      ...gap,
      ...[...this.#notes, ...orders.flatMap(({ events }) => events)].sort((a, b) => a.arrival - b.arrival),
    ];
    if (waiting.length === 0) return;
    try {
      this.#append(waiting);
    } catch (thrown) {
      this.#failed(toVpndError(thrown), orders);
      return;
    }
    this.#notes = [];
    this.#missed = 0;
    this.#missedSince = undefined;
    if (this.#failure !== undefined) this.#o.log.info('the audit log is written again');
    this.#failure = undefined;
    for (const { done } of orders) done();
  }

  #append(waiting: readonly Waiting[]): void {
    const { store, crypto, clock, identity } = this.#o;
    const entries: AuditEntry[] = [];
    let end = this.#end;
    for (const { event, at } of waiting) {
      const entry = nextEntry(end, event, at, crypto.sha256);
      entries.push(entry);
      end = entry;
    }
    const now = clock.now();
    const checkpoints = entries
      .filter(({ sequence }) => sequence % CHECKPOINT_EVERY === 0)
      .map((entry) => sealed('checkpoint', entry, now, identity));
    store.append(entries, sealed('head', end, now, identity), checkpoints);
    this.#end = end;
    if (checkpoints.length > 0) this.#tellCheckpoint();
  }

  #failed(error: VpndError, orders: readonly Order[]): void {
    if (this.#failure === undefined)
      this.#o.log.error('the audit log cannot be written: what it must record is refused until it can', { err: error });
    this.#failure = error;
    for (const { failed } of orders)
      failed(
        new VpndError(error.code, `not done, since the audit log cannot record it: ${error.message}`, {
          cause: error,
          details: { ...error.details },
          retryable: error.retryable,
        }),
      );
    if (this.#notes.length === 0 && this.#missed === 0) return;
    this.#cancelRetry();
    this.#cancelRetry = this.#o.clock.after(TRY_AGAIN, () => this.#plan());
  }

  #gap(): readonly Waiting[] {
    if (this.#missed === 0 || this.#missedSince === undefined) return [];
    const detail = { missed: this.#missed, since: new Date(this.#missedSince).toISOString() };
    return [this.#stamped({ code: 'audit-gap', by: 'daemon', on: 'audit', detail })];
  }

  /** Callers promise to put no secret in; this makes sure of those that can be recognised. */
  #stamped({ code, by, on, detail = {} }: AuditEvent): Waiting {
    const clean = Object.entries(detail).map(([name, value]) => [
      name,
      typeof value === 'string' ? cleaned(value) : value,
    ]);
    const event = { code, by: cleaned(by) as AuditEvent['by'], on: cleaned(on), detail: Object.fromEntries(clean) };
    return { event, at: this.#o.clock.now(), arrival: this.#arrivals++ };
  }

  /** For a place that whoever rewrites this machine's files does not reach: wherever its log goes. */
  #tellCheckpoint(): void {
    const { sequence, hash } = this.#end;
    // Much of it is as hard to hit as the whole, which looks like a key, and would be cut.
    if (sequence > 0) this.#o.log.info(`audit checkpoint ${sequence}:${toHex(hash).slice(0, 40)}`);
  }

  #found(): { readonly end: ChainEnd; readonly damage: string | undefined } {
    const { store, facts, identity, crypto, clock } = this.#o;
    const [head, anchor] = [store.head(), store.anchor()];
    const last = lastOf(store, head?.sequence ?? anchor?.sequence ?? 0);
    const began = facts.get<Instant>(BEGAN);
    if (began === undefined) facts.put(BEGAN, clock.now());
    const stored: ChainEnd = last ?? anchor ?? CHAIN_START;
    if (head === undefined) {
      if (stored.sequence > 0) return { end: stored, damage: 'its end is not signed' };
      return { end: stored, damage: began === undefined ? undefined : 'it is empty' };
    }
    if (!isGenuine('head', head, [keyOf(identity.id)], crypto))
      return { end: stored, damage: 'its end was not signed by this node' };
    if (stored.sequence === head.sequence && equalConstantTime(stored.hash, head.hash))
      return { end: head, damage: undefined };
    if (stored.sequence > head.sequence)
      return { end: { sequence: stored.sequence, hash: head.hash }, damage: 'it goes on after its signed end' };
    return {
      end: head,
      damage: stored.sequence < head.sequence ? 'its last entries are missing' : 'its last entry is another one',
    };
  }
}

/** All entries, a batch at a time. */
export function* entriesOf(store: Pick<AuditStore, 'read'>, from = 0): Generator<AuditEntry, void, undefined> {
  for (let next = from; ; ) {
    const batch = store.read(next, BATCH);
    yield* batch;
    const last = batch.at(-1);
    if (last === undefined || batch.length < BATCH) return;
    next = last.sequence + 1;
  }
}

/** The newest entry, looked for from where it should be. */
function lastOf(store: AuditStore, from: number): AuditEntry | undefined {
  let last: AuditEntry | undefined;
  for (const entry of entriesOf(store, from)) last = entry;
  if (last === undefined && from > 0) for (const entry of entriesOf(store)) last = entry;
  return last;
}

const cleaned = (text: string): string =>
  scrubAddresses(scrubSecrets(text), 'none')
    .replace(/[\p{Cc}\p{Cf}]/gu, ' ')
    .slice(0, TEXT_LIMIT)
    // Half a pair has no bytes to be hashed.
    .replace(/\p{Cs}/gu, '?');
