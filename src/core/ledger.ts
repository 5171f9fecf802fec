import { type Bytes, equalConstantTime, toBase64, utf8 } from '../model/bytes.js';
import type { Command, Desired } from '../model/command.js';
import { VpndError } from '../model/errors.js';
import type { PeerId } from '../model/ids.js';
import { type Instant, plus } from '../model/time.js';
import type { Crypto } from './ports/crypto.js';
import type { LedgerEntry, SessionRecord } from './ports/store.js';

/** The ledger's rules: what becomes of a command, given what is already on record. Pure. */
export type Verdict =
  | { readonly kind: 'answered'; readonly entry: LedgerEntry }
  | { readonly kind: 'apply'; readonly next: SessionRecord }
  | { readonly kind: 'refuse'; readonly error: VpndError };

export interface Recorded {
  readonly entry: LedgerEntry | undefined;
  readonly session: SessionRecord | undefined;
}

/**
 * 1. A command that was applied answers as it did then; its id with other content is refused.
 * 2. A session belongs to who opened it here; nobody else changes or ends it.
 * 3. An older generation is stale; after DISCONNECT so is its own generation.
 * 4. Otherwise the session's desired states become the old ones with this one put in its place.
 */
export function judge(command: Command, owner: PeerId, hash: Bytes, recorded: Recorded, now: Instant): Verdict {
  const { entry, session } = recorded;
  if (entry !== undefined) {
    return equalConstantTime(entry.contentHash, hash)
      ? { kind: 'answered', entry }
      : refuse('command-conflict', `command ${command.id} was applied before with other content`);
  }
  if (session !== undefined && session.owner !== owner) {
    return refuse('forbidden', `session ${command.session} belongs to another supervisor`);
  }
  const ended = session !== undefined && session.desired.length === 0;
  if (session !== undefined && (command.generation < session.generation || (ended && !isNewer(command, session)))) {
    return refuse('stale-generation', `generation ${command.generation} is older than ${session.generation}`);
  }
  if (command.desired.kind === 'rotate-peer') {
    return refuse('not-supported', 'rotate-peer is for clients');
  }
  if (command.desired.kind === 'relay-update' && !session?.desired.some((one) => one.kind === 'setup-exit')) {
    return refuse('no-session', `session ${command.session} is not set up here: there is nothing to move`);
  }
  return {
    kind: 'apply',
    next: {
      session: command.session,
      generation: command.generation,
      owner,
      desired: merge(session?.desired ?? [], command.desired),
      leaseUntil: plus(now, command.lease),
      updatedAt: now,
    },
  };
}

const isNewer = (command: Command, session: SessionRecord): boolean =>
  command.generation > session.generation ||
  (command.desired.kind === 'disconnect' && command.generation === session.generation);

const refuse = (
  code: 'command-conflict' | 'forbidden' | 'stale-generation' | 'not-supported' | 'no-session',
  text: string,
): Verdict => ({
  kind: 'refuse',
  error: new VpndError(code, text),
});

/** What a desired state replaces: SETUP_EXIT the session's only one, RELAY_SETUP the one of its port. */
const slotOf = (desired: Desired): string => (desired.kind === 'relay-setup' ? `relay/${desired.port}` : desired.kind);

function merge(before: readonly Desired[], put: Desired): readonly Desired[] {
  if (put.kind === 'disconnect') return [];
  return [...before.filter((one) => slotOf(one) !== slotOf(put)), put];
}

/** SHA-256 over everything a command says, by which the same id with other content is recognised. */
export function contentHash(command: Command, crypto: Pick<Crypto, 'sha256'>): Bytes {
  return crypto.sha256(utf8(canonical(command)));
}

/** JSON with sorted keys and bytes as base64: equal values give equal text. */
function canonical(value: unknown): string {
  if (value instanceof Uint8Array) return JSON.stringify(toBase64(value));
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`;
  if (value !== null && typeof value === 'object') {
    const fields = Object.entries(value).filter(([, field]) => field !== undefined);
    fields.sort(([a], [b]) => (a < b ? -1 : 1));
    return `{${fields.map(([name, field]) => `${JSON.stringify(name)}:${canonical(field)}`).join(',')}}`;
  }
  return JSON.stringify(value) ?? 'null';
}
