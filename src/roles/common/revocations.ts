import type { BaseKey, Statements } from '../../core/ports/authority.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Crypto } from '../../core/ports/crypto.js';
import type { Log } from '../../core/ports/log.js';
import type { FactStore } from '../../core/ports/store.js';
import { RateLimiter } from '../../core/rate-limit.js';
import {
  applyChange,
  noRevocations,
  packRevocations,
  RevocationHistory,
  type RevocationList,
  unpackRevocations,
} from '../../core/revocations.js';
import { type Bytes, equalConstantTime } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import { type PeerId, shortId } from '../../model/ids.js';
import type { Signed } from '../../model/membership.js';
import type { News } from '../../model/messages.js';
import type { Revocation, RevocationChange, RevocationHead } from '../../model/revocation.js';
import { type Millis, seconds } from '../../model/time.js';
import { RevocationParts, type Sender } from './revocation-parts.js';

const FACT = 'revocations';
const WANTED = { perMinute: 6, burst: 3, maxKeys: 20_000 };
/** A disk that is full or read-only now may take it later, and a restart must not let anybody in again. */
const TRY_AGAIN: Millis = seconds(10);

/** A list as it is on disk. */
interface Kept {
  readonly head: Signed;
  readonly packed: Bytes;
}

export interface RevocationsDeps {
  readonly baseKey: BaseKey;
  /** base has other keys than when this node enrolled: a list on disk that none of them has signed is merely old. */
  readonly mayBeOld?: boolean;
  readonly crypto: Pick<Crypto, 'sha256'>;
  readonly statements: Pick<Statements, 'checkRevocations'>;
  readonly facts: FactStore;
  readonly clock: Clock;
  readonly log: Log;
  /** A newer list is in force; `news` makes it of the one before. */
  readonly changed: (change: RevocationsChanged) => void;
  /** Something that base signed names a newer list than this node's: whoever has it is to send it. */
  readonly missing?: () => void;
  /** Something its operator, and base's, should know. */
  readonly report: (code: 'revocations-conflict' | 'bad-revocations', text: string) => void;
}

/** What a newer list has changed. */
export interface RevocationsChanged {
  readonly added: readonly Revocation[];
  readonly removed: readonly PeerId[];
  readonly news: readonly News[];
}

/**
 * Who is shut out, as far as this node knows: the newest list that base has signed and anybody has passed on. On disk,
 * so that it holds while base is down and after a restart.
 */
export class Revocations {
  readonly #history: RevocationHistory;
  readonly #parts = new RevocationParts();
  readonly #wanted: RateLimiter;
  #mentioned = 0;
  #cancelRetry: (() => void) | undefined;

  /** Throws `state-corrupt` for a list on disk that base has not signed. */
  constructor(private readonly deps: RevocationsDeps) {
    this.#history = new RevocationHistory(kept(deps) ?? noRevocations(deps.crypto.sha256));
    this.#wanted = new RateLimiter(WANTED, deps.clock);
  }

  get #list(): RevocationList {
    return this.#history.list;
  }

  get epoch(): number {
    return this.#list.epoch;
  }

  get count(): number {
    return this.#list.entries.size;
  }

  /** For AuthRequest and AuthResponse. */
  get head(): Signed | undefined {
    return this.#list.head;
  }

  has(peer: PeerId): boolean {
    return this.#list.entries.has(peer);
  }

  /** The refusal of a node that was shut out; undefined for everybody else. */
  refusal(peer: PeerId): VpndError | undefined {
    return this.has(peer) ? shutOut(peer) : undefined;
  }

  /**
   * What to tell an end that holds the list of `theirs`: nothing when that is no older, else the difference from it, or
   * the whole list where that difference is not known.
   */
  newerThan(theirs: Signed | undefined): readonly News[] {
    const epoch = this.#epochOf(theirs);
    return epoch < this.#list.epoch ? this.#since(epoch) : [];
  }

  /** The whole list, to one who wants it; not often, since it may be long. */
  wanted(from: Sender): readonly News[] {
    return this.#wanted.allow(from ?? 'base') ? this.#since(0) : [];
  }

  /**
   * Something that somebody has sent. Answers with what to tell that one in return: that the whole list is wanted, that it
   * is behind itself, or nothing.
   */
  take(from: Sender, change: RevocationChange): readonly News[] {
    const head = this.deps.statements.checkRevocations(this.deps.baseKey, change.head);
    if (!head.ok) {
      this.#parts.forget(from);
      this.#report(from, 'bad-revocations', head.error.message);
      return [];
    }
    if (head.value.epoch < this.#list.epoch) {
      this.#parts.forget(from);
      return change.part === 0 ? this.newerThan(change.head) : [];
    }
    const joined = this.#parts.join(from, change);
    return joined === undefined ? [] : this.#apply(from, head.value, joined);
  }

  /** A list of this epoch exists: a membership that base has signed says so, or a head. */
  mentioned(epoch: number): void {
    if (epoch <= this.epoch || epoch <= this.#mentioned) return;
    this.#mentioned = epoch;
    this.deps.missing?.();
  }

  /** What is known to exist and was not passed on to this node: somebody may be withholding it. */
  get behind(): number | undefined {
    return this.#mentioned > this.epoch ? this.#mentioned : undefined;
  }

  /** A stream ended: the rest of what it was sending does not come. */
  forget(from: Sender): void {
    this.#parts.forget(from);
  }

  /** What could not be written is not tried again. */
  stop(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
  }

  #apply(from: Sender, head: RevocationHead, change: RevocationChange): readonly News[] {
    const applied = applyChange(this.#list, head, change, this.deps.crypto.sha256);
    switch (applied.kind) {
      case 'newer':
        this.#newer(applied.list, applied.added, applied.removed);
        return [];
      case 'gap':
        return [{ kind: 'revocations-wanted' }];
      case 'conflict':
        this.#report(from, 'revocations-conflict', `base has signed two lists of revocations of epoch ${head.epoch}`);
        return [];
      case 'forged':
        this.#report(from, 'bad-revocations', 'a list of revocations came that is not the one base signed');
        return [];
      case 'same':
      case 'older':
        return [];
    }
  }

  #newer(list: RevocationList, added: readonly Revocation[], removed: readonly PeerId[]): void {
    const { epoch } = this;
    this.#history.become(list);
    this.#keep();
    this.deps.log.info(`a newer list of revocations: epoch ${list.epoch}`, { count: this.count });
    this.deps.changed({ added, removed, news: this.#since(epoch) });
  }

  #keep(): void {
    const { head, entries } = this.#list;
    if (head === undefined) return;
    const kept: Kept = { head, packed: packRevocations(entries.values()) };
    const isFirst = this.#cancelRetry === undefined;
    this.stop();
    try {
      this.deps.facts.put(FACT, kept);
    } catch (err) {
      // In force all the same; a restart before it is kept falls back on the list before until somebody passes it on.
      if (isFirst) this.deps.log.warn('the list of revocations cannot be kept on disk; it is tried again', { err });
      this.#cancelRetry = this.deps.clock.after(TRY_AGAIN, () => this.#keep());
    }
  }

  #since(epoch: number): readonly News[] {
    return this.#history.since(epoch).map((change) => ({ kind: 'revocations', change }));
  }

  /** One that cannot be checked is as good as none. */
  #epochOf(theirs: Signed | undefined): number {
    if (theirs === undefined) return 0;
    const head = this.deps.statements.checkRevocations(this.deps.baseKey, theirs);
    if (!head.ok) return 0;
    this.mentioned(head.value.epoch);
    return head.value.epoch;
  }

  #report(from: Sender, code: 'revocations-conflict' | 'bad-revocations', text: string): void {
    const by = from === undefined ? 'base' : shortId(from);
    this.deps.log.error(text, { code, ...(from !== undefined && { peer_id: from }) });
    this.deps.report(code, `${text} (it came from ${by})`);
  }
}

function kept({ facts, statements, baseKey, crypto, mayBeOld }: RevocationsDeps): RevocationList | undefined {
  const found = facts.get<Kept>(FACT);
  if (found === undefined) return undefined;
  const head = statements.checkRevocations(baseKey, found.head);
  if (!head.ok && mayBeOld === true) return undefined;
  const entries = unpackRevocations(found.packed);
  if (!head.ok || entries === undefined || !equalConstantTime(crypto.sha256(found.packed), head.value.digest)) {
    throw new VpndError('state-corrupt', 'the list of revocations in the state directory is not the one base signed');
  }
  const { epoch, digest } = head.value;
  return { epoch, head: found.head, digest, entries: new Map(entries.map((one) => [one.peer, one])) };
}

export const shutOut = (peer: PeerId): VpndError =>
  new VpndError('revoked', `${shortId(peer)} was shut out of this overlay by its operator`);
