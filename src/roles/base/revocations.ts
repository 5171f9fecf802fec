import { type AuditCode, bySupernode } from '../../core/ports/audit.js';
import type { BaseKey } from '../../core/ports/authority.js';
import type { Identity } from '../../core/ports/crypto.js';
import type { BaseStore, RevocationRecord, RevocationSet } from '../../core/ports/store.js';
import {
  applyChange,
  digestOf,
  noRevocations,
  RevocationHistory,
  type RevocationList,
} from '../../core/revocations.js';
import { KeyedQueue } from '../../core/serial.js';
import { equalConstantTime } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import { type PeerId, shortId } from '../../model/ids.js';
import type { Signed } from '../../model/membership.js';
import type { News } from '../../model/messages.js';
import {
  MAX_REVOCATIONS,
  type Revocation,
  type RevocationChange,
  type RevocationHead,
} from '../../model/revocation.js';
import { type Instant, instantOf } from '../../model/time.js';
import { RevocationParts } from '../common/revocation-parts.js';
import { shutOut } from '../common/revocations.js';
import type { RolePorts } from '../ports.js';

export interface Outcome {
  readonly epoch: number;
  /** False where it was so already. */
  readonly changed: boolean;
  /** Supernodes that have been sent the news. */
  readonly told: number;
}

export interface RevocationEffects {
  /** Who is connected and was shut out loses its stream; a banned supernode is published no more. */
  readonly shutOut: (peers: readonly Revocation[]) => void;
  /** Sends to every connected supernode; answers with how many of them are members. */
  readonly broadcast: (news: News) => number;
  readonly changed: () => void;
}

const TAKEN_BACK = 'from a supernode: this base had an older list';

/** Who is shut out: durable in the directory, signed, and told to the supernodes. */
export class BaseRevocations {
  readonly #history: RevocationHistory;
  readonly #parts = new RevocationParts();
  /** One change at a time: each is the next epoch. */
  readonly #turn = new KeyedQueue<'one'>();
  #restored = false;

  constructor(
    private readonly identity: Identity,
    private readonly baseKey: BaseKey,
    private readonly ports: RolePorts<BaseStore>,
    private readonly effects: RevocationEffects,
  ) {
    this.#history = new RevocationHistory(noRevocations(ports.crypto.sha256));
  }

  /** Before anybody is served. */
  async load(): Promise<void> {
    const set = await this.ports.store.directory.revocations();
    if (set.epoch > 0) this.#history.become(this.#signed(set));
  }

  /** Another key signs from now on: the list is signed by it, as the next epoch, so that everybody takes it. */
  async resign(): Promise<void> {
    await this.#change(async () => {
      const set = await this.ports.store.directory.revocations();
      if (set.epoch === 0) return false;
      await this.ports.store.directory.adoptRevocations({ ...set, epoch: set.epoch + 1, changedAt: this.#now() });
      return true;
    });
  }

  get epoch(): number {
    return this.#history.list.epoch;
  }

  get count(): number {
    return this.#history.list.entries.size;
  }

  get head(): Signed | undefined {
    return this.#history.list.head;
  }

  /** Something a person should act on. */
  get problem(): string | undefined {
    return this.#restored
      ? 'this base has older state than its supernodes have seen: it took the list of revocations back from one of them; members and tokens made since are lost (docs/runbook.md)'
      : undefined;
  }

  refusal(peer: PeerId): VpndError | undefined {
    return this.#history.list.entries.has(peer) ? shutOut(peer) : undefined;
  }

  /**
   * What a supernode is told that connects: what it has missed. Where it holds a list of this base's that this base does
   * not know, it is asked for it.
   */
  greeting(peer: PeerId, theirs: Signed | undefined): readonly News[] {
    const head = theirs === undefined ? undefined : this.#checked(theirs);
    if (head === undefined) return this.#since(0);
    const { list } = this.#history;
    if (head.epoch < list.epoch) return this.#since(head.epoch);
    const known = head.epoch === list.epoch && equalConstantTime(head.digest, list.digest);
    if (!known)
      this.ports.log.error('a supernode holds a list of revocations that this base has forgotten', { peer_id: peer });
    return known ? [] : [{ kind: 'revocations-wanted' }];
  }

  whole(): readonly News[] {
    return this.#since(0);
  }

  /** Rejects with `full`, and with what audit and store reject with; nothing has changed then. */
  revoke(wanted: Pick<RevocationRecord, 'peer' | 'kind' | 'reason'>): Promise<Outcome> {
    return this.#change(async () => {
      const { peer, kind } = wanted;
      if (this.refusal(peer) !== undefined) return false;
      if (this.count >= MAX_REVOCATIONS)
        throw new VpndError('full', `${MAX_REVOCATIONS} nodes are shut out already, and a list holds no more`);
      await this.#record(kind === 'supernode' ? 'supernode-banned' : 'peer-revoked', kind, peer);
      return this.ports.store.directory.revoke({ ...wanted, at: this.#now() });
    });
  }

  /** Rejects with what audit and store reject with. */
  unrevoke(peer: PeerId): Promise<Outcome> {
    return this.#change(async () => {
      const one = this.#history.list.entries.get(peer);
      if (one === undefined) return false;
      const code = one.kind === 'supernode' ? 'supernode-restored' : 'peer-restored';
      await this.#record(code, one.kind, peer);
      return this.ports.store.directory.unrevoke(peer, this.#now());
    });
  }

  /**
   * A list that a supernode holds and this base has forgotten: an older state directory was put back. Its own signature
   * is on it, so it holds again, together with whatever was added since. Answers with what to tell the supernode.
   */
  async take(from: PeerId, change: RevocationChange): Promise<readonly News[]> {
    const head = this.#checked(change.head);
    if (head === undefined || head.epoch < this.epoch) return [];
    const whole = this.#parts.join(from, change);
    if (whole === undefined) return [];
    const answer: News[] = [];
    await this.#change(async () => {
      const { list } = this.#history;
      if (head.epoch < list.epoch || (head.epoch === list.epoch && equalConstantTime(head.digest, list.digest)))
        return false;
      // Two lists of one epoch: theirs is put together from nothing, since it is no change of this one.
      const ground = whole.from === 0 ? noRevocations(this.ports.crypto.sha256) : list;
      const applied = applyChange(ground, head, whole, this.ports.crypto.sha256);
      if (applied.kind !== 'newer') {
        if (whole.from !== 0) answer.push({ kind: 'revocations-wanted' });
        return false;
      }
      await this.#adopt(from, head, applied.list);
      return true;
    });
    return answer;
  }

  forget(from: PeerId): void {
    this.#parts.forget(from);
  }

  async #adopt(from: PeerId, head: RevocationHead, theirs: RevocationList): Promise<void> {
    const { audit, log, store } = this.ports;
    const own = await store.directory.revocations();
    const merged = new Map<PeerId, RevocationRecord>();
    for (const one of theirs.entries.values()) merged.set(one.peer, { ...one, reason: TAKEN_BACK });
    for (const one of own.revoked) merged.set(one.peer, one);
    const asTheirs =
      head.epoch > own.epoch && equalConstantTime(digestOf(merged.values(), this.ports.crypto.sha256), head.digest);
    await audit.record({
      code: 'list-signed',
      by: bySupernode(from),
      on: 'revocations',
      detail: { taken_back: head.epoch },
    });
    await store.directory.adoptRevocations({
      revoked: [...merged.values()],
      epoch: asTheirs ? head.epoch : Math.max(own.epoch, head.epoch) + 1,
      changedAt: asTheirs ? head.issuedAt : this.#now(),
    });
    this.#restored = true;
    log.error('took the list of revocations back from a supernode', { peer_id: from, count: merged.size });
  }

  #change(step: () => Promise<boolean>): Promise<Outcome> {
    return this.#turn.run('one', async () => {
      if (!(await step())) return { epoch: this.epoch, changed: false, told: 0 };
      const before = this.#history.list;
      const next = this.#signed(await this.ports.store.directory.revocations());
      this.#history.become(next);
      const added = [...next.entries.values()].filter((one) => !before.entries.has(one.peer));
      const removed = [...before.entries.keys()].filter((peer) => !next.entries.has(peer));
      this.#log(added, removed);
      // A banned supernode hears of it, too: one that does as it should passes it on to peers that have no other stream.
      const told = Math.max(0, ...this.#since(before.epoch).map((news) => this.effects.broadcast(news)));
      this.effects.shutOut(added);
      this.effects.changed();
      return { epoch: next.epoch, changed: true, told };
    });
  }

  #since(epoch: number): readonly News[] {
    return this.#history.since(epoch).map((change) => ({ kind: 'revocations', change }));
  }

  /** Signing the same list again gives the same bytes: it is dated by its change. */
  #signed(set: RevocationSet): RevocationList {
    const entries = new Map<PeerId, Revocation>(set.revoked.map(({ peer, kind, at }) => [peer, { peer, kind, at }]));
    const digest = digestOf(entries.values(), this.ports.crypto.sha256);
    const content = { epoch: set.epoch, issuedAt: set.changedAt, count: entries.size, digest };
    return { epoch: set.epoch, head: this.ports.statements.signRevocations(this.identity, content), digest, entries };
  }

  #checked(head: Signed): RevocationHead | undefined {
    const checked = this.ports.statements.checkRevocations(this.baseKey, head);
    return checked.ok ? checked.value : undefined;
  }

  async #record(code: AuditCode, kind: Revocation['kind'], peer: PeerId): Promise<void> {
    const by = 'operator';
    await this.ports.audit.record(
      { code, by, on: `${kind}:${peer}` },
      { code: 'list-signed', by, on: 'revocations', detail: { epoch: this.epoch + 1 } },
    );
  }

  #log(added: readonly Revocation[], removed: readonly PeerId[]): void {
    const { log } = this.ports;
    for (const { peer } of added) log.info(`${shortId(peer)} is shut out`, { peer_id: peer });
    for (const peer of removed) log.info(`${shortId(peer)} is let in again`, { peer_id: peer });
  }

  /** Whole milliseconds, as they are signed. */
  #now(): Instant {
    return instantOf(Math.floor(this.ports.clock.now()));
  }
}
