import type { MessageInitShape } from '@bufbuild/protobuf';
import type { BaseStore, MemberRecord, RevocationRecord } from '../../core/ports/store.js';
import type {
  ListMembersRequest,
  ListMembersResponseSchema,
  MemberSummarySchema,
  RevokeMemberRequest,
  RevokeMemberResponseSchema,
  UnrevokeMemberRequest,
} from '../../gen/vpnd/v1/admin_pb.js';
import { wireRole } from '../../identity/wire-roles.js';
import { VpndError } from '../../model/errors.js';
import { type PeerId, parsePeerId, shortId } from '../../model/ids.js';
import type { RevocationKind } from '../../model/revocation.js';
import type { RolePorts } from '../ports.js';
import type { BaseRevocations, Outcome } from './revocations.js';

/** Members in one answer: some hundred kilobytes, and tens of milliseconds in which nobody else is served. */
const PART = 2_000;
const LONGEST_REASON = 200;
/** Two nodes of an overlay of thousands rarely begin alike for so long. */
const SHORTEST_BEGINNING = 4;

/** Who is a member, as the operator of base sees and changes it. */
export class Members {
  constructor(
    private readonly ports: RolePorts<BaseStore>,
    private readonly revocations: BaseRevocations,
  ) {}

  /**
   * A part of the members, by their ids in order, so that nobody waits for long while a million of them are listed. The
   * first part begins with those who were shut out and never enrolled here. Rejects with bad-config for what is no id.
   */
  async list({ after }: ListMembersRequest): Promise<MessageInitShape<typeof ListMembersResponseSchema>> {
    const { directory } = this.ports.store;
    const from = after === '' ? undefined : parsePeerId(after);
    if (from?.ok === false) throw new VpndError('bad-config', 'a list goes on after a peer id');
    const [members, { epoch, revoked }] = await Promise.all([
      directory.members({ after: from?.value, limit: PART }),
      directory.revocations(),
    ]);
    const gone = new Map(revoked.map((one) => [one.peer, one]));
    const strangers = after === '' ? await this.#strangers(revoked) : [];
    const last = members.length < PART ? undefined : members.at(-1);
    return {
      epoch: BigInt(epoch),
      next: last?.peer ?? '',
      members: [
        ...strangers.map((one) => summaryOf(one.peer, undefined, one)),
        ...members.map((member) => summaryOf(member.peer, member, gone.get(member.peer))),
      ],
    };
  }

  /** Rejects with not-found, bad-config (ambiguous, another kind of node), full, and what audit and store reject with. */
  async revoke(request: RevokeMemberRequest): Promise<MessageInitShape<typeof RevokeMemberResponseSchema>> {
    const { reason, supernode } = request;
    if (reason.length > LONGEST_REASON || /\p{Cc}/u.test(reason))
      throw new VpndError('bad-config', `--reason is one line of at most ${LONGEST_REASON} characters`);
    const { directory } = this.ports.store;
    const beginning = beginningOf(request.peer);
    const alike = beginning === undefined ? [] : await directory.members({ beginning, limit: 2 });
    const peer = named(
      request.peer,
      alike.map((one) => one.peer),
    );
    const kind: RevocationKind = supernode ? 'supernode' : 'peer';
    const member = await directory.member(peer);
    if (member !== undefined) mustBe(kind, kindOf(member), peer, ['revoke', 'supernode ban']);
    return told(peer, await this.revocations.revoke({ peer, kind, reason }));
  }

  /** Rejects with not-found, bad-config, and what audit and store reject with. */
  async unrevoke(request: UnrevokeMemberRequest): Promise<MessageInitShape<typeof RevokeMemberResponseSchema>> {
    const { revoked } = await this.ports.store.directory.revocations();
    const peer = named(
      request.peer,
      revoked.map((one) => one.peer),
    );
    const one = revoked.find((candidate) => candidate.peer === peer);
    if (one !== undefined)
      mustBe(request.supernode ? 'supernode' : 'peer', one.kind, peer, ['unrevoke', 'supernode unban']);
    return told(peer, await this.revocations.unrevoke(peer));
  }

  async #strangers(revoked: readonly RevocationRecord[]): Promise<readonly RevocationRecord[]> {
    const { directory } = this.ports.store;
    const known = await Promise.all(revoked.map(({ peer }) => directory.member(peer)));
    return revoked.filter((_, n) => known[n] === undefined);
  }
}

/** Of an id that is not given whole; undefined for what no id begins with. */
const beginningOf = (text: string): string | undefined =>
  /^[a-z2-7]{1,52}$/.test(text) && text.length >= SHORTEST_BEGINNING ? text : undefined;

/** A whole id is taken as it is: whoever put an old state directory back shuts out nodes that this base does not know. */
function named(text: string, known: readonly PeerId[]): PeerId {
  const whole = parsePeerId(text);
  if (whole.ok) return whole.value;
  if (!/^[a-z2-7]{1,52}$/.test(text))
    throw new VpndError('bad-config', 'a peer id is 52 lower-case letters and digits; see `vpnd members`');
  if (text.length < SHORTEST_BEGINNING)
    throw new VpndError('bad-config', `give at least ${SHORTEST_BEGINNING} characters of the peer id`);
  const [only, another] = known.filter((id) => id.startsWith(text));
  if (only === undefined) throw new VpndError('not-found', `no node here begins with ${text}; see \`vpnd members\``);
  if (another !== undefined)
    throw new VpndError('bad-config', `more than one node begins with ${text}; give more of the peer id`);
  return only;
}

const kindOf = ({ roles }: MemberRecord): RevocationKind => (roles.includes('supernode') ? 'supernode' : 'peer');

/** `vpnd revoke` of a supernode takes more away than whoever types it may have in mind, and the other way round. */
function mustBe(
  meant: RevocationKind,
  is: RevocationKind,
  peer: PeerId,
  [forPeers, forSupernodes]: readonly [string, string],
): void {
  if (meant === is) return;
  const text =
    is === 'supernode'
      ? `${shortId(peer)} is a supernode: \`vpnd ${forSupernodes} ${shortId(peer)}\``
      : `${shortId(peer)} is no supernode: \`vpnd ${forPeers} ${shortId(peer)}\``;
  throw new VpndError('bad-config', text);
}

const told = (peer: PeerId, outcome: Outcome): MessageInitShape<typeof RevokeMemberResponseSchema> => ({
  peerId: peer,
  epoch: BigInt(outcome.epoch),
  changed: outcome.changed,
  told: outcome.told,
});

const summaryOf = (
  peer: PeerId,
  member: MemberRecord | undefined,
  gone: RevocationRecord | undefined,
): MessageInitShape<typeof MemberSummarySchema> => ({
  peerId: peer,
  roles: member?.roles.map(wireRole) ?? [],
  region: member?.region ?? '',
  pool: member?.pool ?? '',
  tokenId: member?.tokenId ?? '',
  enrolledMs: BigInt(Math.round(member?.enrolledAt ?? 0)),
  revokedMs: BigInt(Math.round(gone?.at ?? 0)),
  reason: gone?.reason ?? '',
});
