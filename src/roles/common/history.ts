import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { FactStore } from '../../core/ports/store.js';
import { toVpndError } from '../../model/errors.js';
import type { EventCode, NodeEvent } from '../../model/event.js';
import type { SessionId } from '../../model/ids.js';
import { type Instant, ms } from '../../model/time.js';
import type { LocalHandlers } from '../../transport/local-api.js';
import { Changes } from './changes.js';

export interface HistoryOptions {
  readonly facts: FactStore;
  readonly clock: Clock;
  readonly log: Log;
  /** Events kept, in memory and on disk. */
  readonly limit?: number;
}

const LIMIT = 300;
const PREFIX = 'event/';
/** A write waits for the disk, and whatever happens at such a moment seldom comes alone: one write for all of it. */
const WRITE_AFTER = ms(500);

/** A fact: the events of one write, by the sequence of its first. */
interface Chunk {
  readonly name: string;
  readonly last: number;
  /** When its newest event was. */
  readonly lastAt: Instant;
}

/**
 * What happened on this node, for `vpnd events`: the latest few hundred events, restarts included. Recording never
 * throws and never waits for the disk; where that is full, events are kept in memory alone until it is not.
 */
export class History {
  readonly #options: HistoryOptions;
  readonly #limit: number;
  readonly #changes = new Changes();
  #events: NodeEvent[] = [];
  /** Oldest first. */
  #chunks: Chunk[] = [];
  #next = 0;
  /** Sequence of the first event that is not on disk. */
  #unwritten = 0;
  #cancelWrite: (() => void) | undefined;
  #failing = false;
  #closed = false;

  constructor(options: HistoryOptions) {
    this.#options = options;
    this.#limit = options.limit ?? LIMIT;
    try {
      this.#load();
    } catch (thrown) {
      options.log.warn('the history of events cannot be read; it begins anew', { err: toVpndError(thrown) });
    }
    this.#unwritten = this.#next;
  }

  /** Remembers that this happened, now. `text` is one line for a person, with no key and no address of a peer in it. */
  record(code: EventCode, text: string, session?: SessionId): void {
    this.#events.push({ sequence: this.#next++, at: this.#options.clock.now(), code, text, session });
    if (this.#events.length > this.#limit) this.#events.splice(0, this.#events.length - this.#limit);
    if (!this.#closed) this.#cancelWrite ??= this.#options.clock.after(WRITE_AFTER, () => this.flush());
    this.#changes.notify();
  }

  /** The newest events, oldest first; all that are kept unless limited. */
  list(limit: number = this.#limit): readonly NodeEvent[] {
    return limit <= 0 ? [] : this.#events.slice(-limit);
  }

  /** What the local API answers with it. */
  get local(): Pick<LocalHandlers, 'events' | 'nextEvent'> {
    return { events: (limit) => this.list(limit), nextEvent: (signal) => this.next(signal) };
  }

  /** Resolves at the next event, or when the signal aborts. */
  next(signal: AbortSignal): Promise<void> {
    return this.#changes.next(signal);
  }

  /** Forgets all events from before this moment, here and on disk. Throws what the store does. */
  forget(before: Instant): void {
    this.#events = this.#events.filter(({ at }) => at >= before);
    // A chunk is what happened within half a second: it is old as a whole, or as good as.
    const old = this.#chunks.filter(({ lastAt }) => lastAt < before);
    for (const { name } of old) this.#options.facts.remove(name);
    this.#chunks = this.#chunks.filter((chunk) => !old.includes(chunk));
  }

  /** Writes what has not been written. Never throws. */
  flush(): void {
    this.#cancelWrite?.();
    this.#cancelWrite = undefined;
    if (this.#closed) return;
    try {
      this.#write();
      this.#prune();
      this.#failing = false;
    } catch (thrown) {
      if (!this.#failing) {
        const err = toVpndError(thrown);
        this.#options.log.warn('the history of events is not written to disk at present', { code: err.code, err });
      }
      this.#failing = true;
    }
  }

  /** Writes what has not been written, and nothing after that: the store is about to close. */
  close(): void {
    this.flush();
    this.#closed = true;
  }

  #write(): void {
    const events = this.#events.filter((event) => event.sequence >= this.#unwritten);
    const [first, last] = [events[0], events.at(-1)];
    if (first === undefined || last === undefined) return;
    const name = nameOf(first.sequence);
    this.#options.facts.put(name, events);
    this.#chunks.push({ name, last: last.sequence, lastAt: last.at });
    this.#unwritten = last.sequence + 1;
  }

  #prune(): void {
    const oldest = this.#next - this.#limit;
    for (let chunk = this.#chunks[0]; chunk !== undefined && chunk.last < oldest; chunk = this.#chunks[0]) {
      this.#options.facts.remove(chunk.name);
      this.#chunks.shift();
    }
  }

  #load(): void {
    const { facts } = this.#options;
    for (const name of facts.names(PREFIX)) {
      const events = facts.get<readonly NodeEvent[]>(name) ?? [];
      const last = events.at(-1);
      if (last === undefined) continue;
      this.#chunks.push({ name, last: last.sequence, lastAt: last.at });
      this.#events.push(...events);
      this.#next = Math.max(this.#next, last.sequence + 1);
    }
    this.#events = this.#events.slice(-this.#limit);
  }
}

/** Sorted as text they are in order. */
const nameOf = (sequence: number): string => `${PREFIX}${String(sequence).padStart(12, '0')}`;
