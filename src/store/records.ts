import type { LedgerEntry, MemberRecord, Redemption, SessionRecord, TokenRecord } from '../core/ports/store.js';
import type { CommandDone, CommandKind, Desired } from '../model/command.js';
import { VpndError } from '../model/errors.js';
import type { PeerId } from '../model/ids.js';
import type { MemberRole, Region } from '../model/role.js';
import type { Instant } from '../model/time.js';
import { decodeJson, encodeJson } from './json-codec.js';

/** The rules that both stores share, so that the twin cannot drift from the real one. */

const KINDS: Readonly<Record<CommandKind, true>> = {
  'setup-exit': true,
  'relay-setup': true,
  'relay-update': true,
  'rotate-peer': true,
  disconnect: true,
};

const isKind = (kind: unknown): kind is CommandKind => typeof kind === 'string' && Object.hasOwn(KINDS, kind);

export const encodeDesired = (desired: readonly Desired[]): string => encodeJson(desired);

export function decodeDesired(text: string): readonly Desired[] {
  const value = decodeJson(text);
  if (!Array.isArray(value) || !value.every((item) => isRecord(item) && isKind(item.kind)))
    throw new VpndError('state-corrupt', 'a stored session holds something that is not a desired state');
  return value as Desired[];
}

export const encodeResponse = (response: CommandDone): string => encodeJson(response);

export function decodeResponse(text: string): CommandDone {
  const value = decodeJson(text);
  if (!isRecord(value)) throw new VpndError('state-corrupt', 'a stored answer is not an answer');
  if (value.offer === undefined) return { offer: undefined };
  const { offer } = value;
  if (!isRecord(offer) || !(offer.body instanceof Uint8Array) || !(offer.signature instanceof Uint8Array))
    throw new VpndError('state-corrupt', 'a stored answer holds something that is not an offer');
  return { offer: { body: offer.body, signature: offer.signature } };
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);

/** A session without desired states is a tombstone: it only holds the generation that stale commands are measured by. */
export const isTombstone = (session: SessionRecord): boolean => session.desired.length === 0;

/** A mistake of the caller, found before anything is written. */
export function checkRecord(entry: LedgerEntry, session: SessionRecord): void {
  if (entry.session !== session.session) throw new TypeError('an answer and a session record of different sessions');
}

export interface RedemptionWish {
  readonly peer: PeerId;
  readonly role: MemberRole;
  readonly region: Region | undefined;
}

export type RedemptionDecision =
  | { readonly kind: 'refuse'; readonly error: Extract<Redemption, { ok: false }>['error'] }
  /** The answer got lost on its way the first time. */
  | { readonly kind: 'repeat'; readonly member: MemberRecord }
  | { readonly kind: 'spend'; readonly token: TokenRecord; readonly member: MemberRecord };

/** What a use of a token leads to; whoever acts on it holds the write lock from before reading to after writing. */
export function decideRedemption(
  token: TokenRecord | undefined,
  known: MemberRecord | undefined,
  wish: RedemptionWish,
  now: Instant,
  revoked: boolean,
): RedemptionDecision {
  const refuse = (error: Extract<Redemption, { ok: false }>['error']): RedemptionDecision => ({
    kind: 'refuse',
    error,
  });
  if (token === undefined) return refuse('bad-token');
  // Whoever was shut out does not come back with another token, nor uses one up.
  if (revoked || known?.revokedAt !== undefined) return refuse('revoked');
  if (token.revoked) return refuse('token-revoked');
  if (now >= token.expiresAt) return refuse('token-expired');
  if (wish.role !== token.role) return refuse('wrong-role');
  if (wish.region !== undefined && wish.region !== token.region) return refuse('wrong-region');
  if (known !== undefined && known.tokenId === token.id) return { kind: 'repeat', member: known };
  if (token.usesLeft <= 0) return refuse('token-used');
  return {
    kind: 'spend',
    token: { ...token, usesLeft: token.usesLeft - 1 },
    // What the member is comes from the token alone; a later token replaces what an earlier one said.
    member: {
      peer: wish.peer,
      roles: token.role === 'supernode' && token.egress ? ['supernode', 'exit'] : [token.role],
      region: token.region,
      pool: token.pool,
      tokenId: token.id,
      enrolledAt: now,
      revokedAt: undefined,
    },
  };
}

/** The lowest free indices below `limit`, as many as are wanted and there are. */
export function lowestFree(taken: ReadonlySet<number>, wanted: number, limit: number): readonly number[] {
  const free: number[] = [];
  for (let index = 0; index < limit && free.length < wanted; index++) if (!taken.has(index)) free.push(index);
  return free;
}

export const byText =
  <T>(key: (item: T) => string) =>
  (a: T, b: T): number =>
    key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0;
