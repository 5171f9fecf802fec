import { type Bytes, equalConstantTime, signingInput, toHex, u64be, utf8 } from '../model/bytes.js';
import type { Instant } from '../model/time.js';
import type { AuditCode, AuditEntry, AuditEvent, AuditSeal } from './ports/audit.js';
import type { Crypto, Identity } from './ports/crypto.js';

/**
 * The audit log as a hash chain: each entry holds the hash of the one before, and the node signs what the chain ends
 * with (the head, anew with every write), ended with on its way (checkpoints), and began with after old entries were
 * removed (the anchor). docs/security.md says what that shows and what it cannot.
 */

export const HASH_LENGTH = 32;
const NOTHING_BEFORE: Bytes = new Uint8Array(HASH_LENGTH);
const ENTRY_TAG = 'vpnd/audit-entry/v1';
/** Each kind of seal has its own tag: an old checkpoint cannot be passed off as the head, which would hide a cut. */
const SEAL_TAG = {
  head: 'vpnd/audit-head/v1',
  checkpoint: 'vpnd/audit-checkpoint/v1',
  anchor: 'vpnd/audit-anchor/v1',
} as const;
export type SealKind = keyof typeof SEAL_TAG;

/** As often as this, so that a rewritten log is found out near the place. */
export const CHECKPOINT_EVERY = 64;

type Sha256 = Crypto['sha256'];
/** The end of a chain, to hang the next entry on. */
export type ChainEnd = Pick<AuditEntry, 'sequence' | 'hash'>;

export const CHAIN_START: ChainEnd = { sequence: 0, hash: NOTHING_BEFORE };

/** The entry that comes after `end`. */
export function nextEntry(end: ChainEnd, event: AuditEvent, at: Instant, sha256: Sha256): AuditEntry {
  const unhashed = {
    sequence: end.sequence + 1,
    at,
    by: event.by,
    code: event.code,
    on: event.on,
    detail: detailText(event.detail ?? {}),
    previous: end.hash,
  };
  return { ...unhashed, hash: entryHash(unhashed, sha256) };
}

/** SHA-256 over all of an entry but its hash. */
export function entryHash(entry: Omit<AuditEntry, 'hash'>, sha256: Sha256): Bytes {
  const { sequence, at, by, code, on, detail, previous } = entry;
  return sha256(
    signingInput(ENTRY_TAG, [count(sequence), count(at), text(by), text(code), text(on), text(detail), previous]),
  );
}

/** Keys in order: one meaning has one text, and one hash. */
function detailText(detail: NonNullable<AuditEvent['detail']>): string {
  return JSON.stringify(Object.fromEntries(Object.entries(detail).sort(([a], [b]) => (a < b ? -1 : 1))));
}

export function sealed(kind: SealKind, end: ChainEnd, at: Instant, identity: Identity): AuditSeal {
  const seal = { sequence: end.sequence, hash: end.hash, at };
  return { ...seal, signature: identity.sign(sealInput(kind, seal)) };
}

/** Whether one of these nodes (their Ed25519 keys) signed this. */
export const isGenuine = (kind: SealKind, seal: AuditSeal, keys: readonly Bytes[], crypto: Pick<Crypto, 'verify'>) =>
  keys.some((key) => crypto.verify(key, sealInput(kind, seal), seal.signature));

const sealInput = (kind: SealKind, seal: Omit<AuditSeal, 'signature'>): Bytes =>
  signingInput(SEAL_TAG[kind], [count(seal.sequence), count(seal.at), seal.hash]);

// What a damaged row holds must end in another hash, not in an exception.
const text = (value: string): Bytes => {
  try {
    return utf8(value);
  } catch {
    return new Uint8Array();
  }
};
const count = (value: number): Bytes => (Number.isSafeInteger(value) && value >= 0 ? u64be(value) : utf8(`${value}`));

/** A chain as it was found: in a database, or in a file it was exported to. */
export interface FoundChain {
  /** All there are, in the order of their sequence. */
  readonly entries: Iterable<AuditEntry>;
  readonly head: AuditSeal | undefined;
  readonly anchor: AuditSeal | undefined;
  readonly checkpoints: readonly AuditSeal[];
}

/** What somebody wrote down elsewhere: at this sequence the chain had a hash that begins so, in hexadecimal. */
export interface KnownPoint {
  readonly sequence: number;
  readonly hash: string;
}

export interface Verdict {
  /** How many entries were looked at and found good, up to the fault where there is one. */
  readonly checked: number;
  readonly first: number | undefined;
  readonly last: number | undefined;
  readonly checkpoints: number;
  /** The first thing wrong, and at which entry. */
  readonly fault: { readonly sequence: number; readonly what: string } | undefined;
  /** Known points of entries that have been removed since: they can no longer be compared. */
  readonly outlived: number;
}

/** What the daemon writes into the chain when it finds at a start that its log is not as it left it. */
export const BROKEN: AuditCode = 'audit-broken';

/** Walks a chain to its end, or to the first thing that is wrong. Never throws for what it finds. */
export function verifyChain(
  chain: FoundChain,
  deps: { readonly keys: readonly Bytes[]; readonly crypto: Pick<Crypto, 'verify' | 'sha256'> },
  known: readonly KnownPoint[] = [],
): Verdict {
  const { anchor, head } = chain;
  const genuine = (kind: SealKind, seal: AuditSeal) => isGenuine(kind, seal, deps.keys, deps.crypto);
  const checkpoints = new Map(chain.checkpoints.map((seal) => [seal.sequence, seal]));
  const start = anchor ?? CHAIN_START;
  let end: ChainEnd = start;
  let passed = 0;
  let first: number | undefined;
  const verdict = (sequence: number | undefined, what = ''): Verdict => ({
    checked: first === undefined ? 0 : end.sequence - first + 1,
    first,
    last: first === undefined ? undefined : end.sequence,
    checkpoints: passed,
    fault: sequence === undefined ? undefined : { sequence, what },
    outlived: known.filter(({ sequence }) => sequence < start.sequence).length,
  });

  if (anchor !== undefined && !genuine('anchor', anchor))
    return verdict(anchor.sequence, 'the removal of the entries up to here was not signed by this node');
  for (const entry of chain.entries) {
    const expected = end.sequence + 1;
    if (entry.sequence !== expected) {
      const missing = entry.sequence > expected ? span(expected, entry.sequence - 1) : undefined;
      return verdict(expected, missing === undefined ? 'it should not be there' : `${missing} missing`);
    }
    if (!same(entry.hash, entryHash(entry, deps.crypto.sha256)))
      return verdict(expected, 'it was changed: its hash does not fit what it says');
    if (!same(entry.previous, end.hash)) return verdict(expected, 'it does not follow the entry before it');
    const checkpoint = checkpoints.get(expected);
    if (checkpoint !== undefined) {
      if (!genuine('checkpoint', checkpoint)) return verdict(expected, 'its checkpoint was not signed by this node');
      if (!same(checkpoint.hash, entry.hash)) return verdict(expected, 'the node signed another entry in this place');
      passed++;
      checkpoints.delete(expected);
    }
    const point = known.find(({ sequence }) => sequence === expected);
    if (point !== undefined && !toHex(entry.hash).startsWith(point.hash.toLowerCase()))
      return verdict(expected, 'it is not the entry that was written down elsewhere');
    if (entry.code === BROKEN) return verdict(expected, `the node itself found its log damaged: ${entry.detail}`);
    first ??= expected;
    end = entry;
  }
  return verdict(...endFault());

  function endFault(): [sequence: number | undefined, what?: string] {
    const after = end.sequence + 1;
    if (head === undefined)
      return [after, first === undefined ? 'there is no entry at all' : 'the end of the log is not signed'];
    if (!genuine('head', head)) return [after, 'the end of the log was not signed by this node'];
    if (head.sequence > end.sequence) return [after, `${span(after, head.sequence)} missing: the log was cut off`];
    if (head.sequence < end.sequence)
      return [head.sequence + 1, 'it was not written by this node, which signed an earlier end'];
    if (!same(head.hash, end.hash)) return [end.sequence, 'the node signed another entry in this place'];
    const [stray] = [...checkpoints.keys()].filter((sequence) => sequence > end.sequence);
    if (stray !== undefined) return [after, `${span(after, stray)} missing: there is a later checkpoint`];
    const beyond = known.find(({ sequence }) => sequence > end.sequence);
    if (beyond !== undefined) return [after, `${span(after, beyond.sequence)} missing: one was written down elsewhere`];
    // Compared where the chain begins, too: the last entry that was removed.
    const removed = known.find(({ sequence }) => sequence === start.sequence && sequence > 0);
    if (removed !== undefined && !toHex(start.hash).startsWith(removed.hash.toLowerCase()))
      return [start.sequence, 'it is not the entry that was written down elsewhere'];
    return [undefined];
  }
}

const span = (from: number, to: number): string => (from === to ? `entry ${from} is` : `entries ${from} to ${to} are`);

/** Nothing here is secret; there is simply one comparison of bytes in this project. */
const same = equalConstantTime;
