import { type Bytes, u64be } from '../model/bytes.js';
import { keyOf, type PeerId, peerIdOf } from '../model/ids.js';
import type { Signed } from '../model/membership.js';
import {
  MAX_REVOCATIONS,
  MAX_REVOCATIONS_PER_PART,
  type Revocation,
  type RevocationChange,
  type RevocationHead,
  type RevocationKind,
} from '../model/revocation.js';
import { instantOf } from '../model/time.js';

/** A list of revocations whose digest base has signed, or the empty one of epoch 0, which needs no signature. */
export interface RevocationList {
  readonly epoch: number;
  readonly head: Signed | undefined;
  readonly digest: Bytes;
  readonly entries: ReadonlyMap<PeerId, Revocation>;
}

export type Sha256 = (input: Bytes) => Bytes;

const KINDS: readonly RevocationKind[] = ['peer', 'supernode'];
const KEY = 32;
/** Key, kind, time. */
const RECORD = KEY + 1 + 8;

export const noRevocations = (sha256: Sha256): RevocationList => ({
  epoch: 0,
  head: undefined,
  digest: sha256(new Uint8Array(0)),
  entries: new Map(),
});

/** The one form that a list's digest is taken of: records of 41 bytes in ascending order of keys (types.proto). */
export function packRevocations(entries: Iterable<Revocation>): Bytes {
  const records = [...entries].map((one) => ({ ...one, key: keyOf(one.peer) })).sort((a, b) => compare(a.key, b.key));
  const packed = new Uint8Array(records.length * RECORD);
  for (const [i, { key, kind, at }] of records.entries()) {
    packed.set(key, i * RECORD);
    packed[i * RECORD + KEY] = KINDS.indexOf(kind) + 1;
    packed.set(u64be(at), i * RECORD + KEY + 1);
  }
  return packed;
}

/** Undefined for what `packRevocations` has not written. */
export function unpackRevocations(packed: Bytes): readonly Revocation[] | undefined {
  if (packed.length % RECORD !== 0 || packed.length > MAX_REVOCATIONS * RECORD) return undefined;
  const found: Revocation[] = [];
  for (let from = 0; from < packed.length; from += RECORD) {
    const peer = peerIdOf(packed.slice(from, from + KEY));
    const kind = KINDS[(packed[from + KEY] ?? 0) - 1];
    const at = Number(new DataView(packed.buffer, packed.byteOffset + from + KEY + 1, 8).getBigUint64(0));
    if (!peer.ok || kind === undefined || at > Number.MAX_SAFE_INTEGER) return undefined;
    // In order, and each once: otherwise one list would have many digests.
    if (from > 0 && compare(packed.subarray(from - RECORD), packed.subarray(from)) >= 0) return undefined;
    found.push({ peer: peer.value, kind, at: instantOf(at) });
  }
  return found;
}

export const digestOf = (entries: Iterable<Revocation>, sha256: Sha256): Bytes => sha256(packRevocations(entries));

export type Applied =
  | {
      readonly kind: 'newer';
      readonly list: RevocationList;
      readonly added: readonly Revocation[];
      readonly removed: readonly PeerId[];
    }
  /** Known already. */
  | { readonly kind: 'same' | 'older' }
  /** It changes a list that this node does not hold. */
  | { readonly kind: 'gap' }
  /** base has signed two lists of one epoch. */
  | { readonly kind: 'conflict' }
  /** What came with the head is not what base has signed. */
  | { readonly kind: 'forged' };

/**
 * What a change makes of a list. Pure. A higher epoch always wins and a lower one never does, so that the order in which
 * changes and whole lists come does not matter.
 *
 * @param head of `change.head`, whose signature was checked
 */
export function applyChange(
  list: RevocationList,
  head: RevocationHead,
  change: Pick<RevocationChange, 'head' | 'from' | 'added' | 'removed'>,
  sha256: Sha256,
): Applied {
  if (head.epoch < list.epoch) return { kind: 'older' };
  if (head.epoch === list.epoch) return { kind: same(head.digest, list.digest) ? 'same' : 'conflict' };
  if (change.from > list.epoch) return { kind: 'gap' };
  const whole = change.from === 0;
  const entries = new Map(whole ? [] : list.entries);
  for (const peer of change.removed) entries.delete(peer);
  for (const one of change.added) entries.set(one.peer, one);
  const digest = entries.size === head.count ? digestOf(entries.values(), sha256) : undefined;
  // A change from an older list than this one may leave out what came and went between the two.
  if (digest === undefined || !same(digest, head.digest))
    return { kind: whole || change.from === list.epoch ? 'forged' : 'gap' };
  const next: RevocationList = { epoch: head.epoch, head: change.head, digest, entries };
  return { kind: 'newer', list: next, ...difference(list.entries, entries) };
}

/** What makes `after` out of `before`. Pure. */
export function difference(
  before: ReadonlyMap<PeerId, Revocation>,
  after: ReadonlyMap<PeerId, Revocation>,
): { readonly added: readonly Revocation[]; readonly removed: readonly PeerId[] } {
  const added = [...after.values()].filter((one) => {
    const old = before.get(one.peer);
    return old === undefined || old.kind !== one.kind || old.at !== one.at;
  });
  return { added, removed: [...before.keys()].filter((peer) => !after.has(peer)) };
}

/** Changes kept in memory, for whoever holds one of the lists between them; everybody else gets the whole list. */
const REMEMBERED = 256;

/** The list in force, and what made it of the ones before. */
export class RevocationHistory {
  #list: RevocationList;
  readonly #changes: { readonly from: number; readonly touched: readonly PeerId[] }[] = [];
  #touched = 0;

  constructor(list: RevocationList) {
    this.#list = list;
  }

  get list(): RevocationList {
    return this.#list;
  }

  become(next: RevocationList): void {
    const { added, removed } = difference(this.#list.entries, next.entries);
    const touched = [...added.map((one) => one.peer), ...removed];
    this.#changes.push({ from: this.#list.epoch, touched });
    this.#touched += touched.length;
    this.#list = next;
    while (this.#changes.length > REMEMBERED || this.#touched > MAX_REVOCATIONS) {
      this.#touched -= this.#changes.shift()?.touched.length ?? 0;
    }
  }

  /** For an end that holds the list of `epoch`; nothing where that is no older. */
  since(epoch: number): readonly RevocationChange[] {
    const { head, entries, epoch: present } = this.#list;
    if (head === undefined || epoch >= present) return [];
    const known = this.#changes.findIndex(({ from }) => from === epoch);
    if (epoch === 0 || known < 0) return inParts(head, 0, [...entries.values()], []);
    const touched = new Set(this.#changes.slice(known).flatMap((one) => one.touched));
    const added = [...touched].flatMap((peer) => entries.get(peer) ?? []);
    return inParts(
      head,
      epoch,
      added,
      [...touched].filter((peer) => !entries.has(peer)),
    );
  }
}

/** A change as it travels: in as many parts as messages have to hold it. */
export function inParts(
  head: Signed,
  from: number,
  added: readonly Revocation[],
  removed: readonly PeerId[],
): readonly RevocationChange[] {
  const parts = Math.max(1, Math.ceil((added.length + removed.length) / MAX_REVOCATIONS_PER_PART));
  return Array.from({ length: parts }, (_, part) => {
    const [begin, end] = [part * MAX_REVOCATIONS_PER_PART, (part + 1) * MAX_REVOCATIONS_PER_PART];
    const slice = <T>(list: readonly T[], offset: number) =>
      list.slice(Math.max(0, begin - offset), Math.max(0, end - offset));
    return { head, from, added: slice(added, 0), removed: slice(removed, added.length), part, parts };
  });
}

function compare(a: Bytes, b: Bytes): number {
  for (let i = 0; i < KEY; i++) {
    const diff = (a[i] ?? 0) - (b[i] ?? 0);
    if (diff !== 0) return diff;
  }
  return 0;
}

/** Digests are public: no secret is compared here. */
const same = (a: Bytes, b: Bytes): boolean => a.length === b.length && a.every((byte, i) => byte === b[i]);
