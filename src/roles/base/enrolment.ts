import { CLOCK_TOLERANCE, clockSkew, enrolSigningInput, renewalSigningInput } from '../../core/auth.js';
import { byPeer } from '../../core/ports/audit.js';
import type { CertificateAuthority } from '../../core/ports/authority.js';
import type { Identity } from '../../core/ports/crypto.js';
import type { UnaryContext } from '../../core/ports/network.js';
import type { BaseStore, MemberRecord, Redemption } from '../../core/ports/store.js';
import { limitKey, RateLimiter } from '../../core/rate-limit.js';
import { hashTokenSecret } from '../../identity/secret.js';
import type { Bytes } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import { keyOf, type PeerId, shortId } from '../../model/ids.js';
import type { Signed } from '../../model/membership.js';
import type { RegisterPeerRequest, RegisterPeerResponse, Renewal, RenewalResult } from '../../model/messages.js';
import { type Instant, type Millis, minutes, plus, since } from '../../model/time.js';
import type { RolePorts } from '../ports.js';
import { RefusedEnrolments } from './audited.js';
import type { SupernodeDirectory } from './directory.js';
import type { BaseRevocations } from './revocations.js';

/** Memberships hold for nodes whose clock is a little slow, too. */
const BACKDATED: Millis = minutes(10);
/** A newcomer needs somewhere to go first, where it is told of all: a list of hundreds is most of what an enrolment costs. */
const FIRST_SUPERNODES = 32;
/** A household behind one address enrols a handful of nodes; a school a few dozen. */
const PER_ADDRESS = { perMinute: 120, burst: 60, maxKeys: 20_000 };
/** A supernode hands on the renewals of all its peers, which may all be due when base comes back. */
const PER_SUPERNODE = { perMinute: 6_000, burst: 2_000, maxKeys: 10_000 };

/** Joining and staying: from a token to a membership, from an old membership to a new one. */
export class Enrolment {
  readonly #refused: RefusedEnrolments;
  readonly #strangers: RateLimiter;
  readonly #supernodes: RateLimiter;

  constructor(
    private readonly options: { readonly membershipTtl: Millis; readonly certificateTtl: Millis },
    private readonly keys: { readonly signer: Identity; readonly authority: CertificateAuthority },
    private readonly directory: SupernodeDirectory,
    private readonly revocations: Pick<BaseRevocations, 'epoch' | 'refusal'>,
    private readonly ports: RolePorts<BaseStore>,
  ) {
    this.#refused = new RefusedEnrolments(ports.audit, ports.clock);
    this.#strangers = new RateLimiter(PER_ADDRESS, ports.clock);
    this.#supernodes = new RateLimiter(PER_SUPERNODE, ports.clock);
  }

  /**
   * Rejects with rate-limited, clock-skew, bad-message, bad-signature, revoked, and what a token is refused for. A clock
   * that is off is refused before the token is spent. The same node may ask again, should the answer get lost.
   */
  async register(request: RegisterPeerRequest, context: UnaryContext): Promise<RegisterPeerResponse> {
    try {
      return await this.#register(request, context);
    } catch (thrown) {
      throw this.#refused.noted(thrown, request);
    }
  }

  async #register(request: RegisterPeerRequest, context: UnaryContext): Promise<RegisterPeerResponse> {
    this.#limit(context);
    this.#fresh(request.timestamp);
    const { peer, role, region, csr } = request;
    if ((role === 'supernode') !== csr.length > 0)
      throw new VpndError('bad-message', 'supernodes enrol with a certificate request, and nobody else does');
    this.#signed(peer, enrolSigningInput(request), request.signature);

    const { directory } = this.ports.store;
    this.#admitted(peer);
    const secretHash = hashTokenSecret(this.ports.crypto, request.tokenSecret);
    const outcome = await directory.redeem(secretHash, { peer, role, region }, this.ports.clock.now());
    if (!outcome.ok) throw tokenRefused(outcome.error);
    const { member } = outcome;
    // Nobody has anything of it yet: a node that asks again with the same token is answered once this can be recorded.
    await this.#recordEnrolment(member);
    this.ports.log.info('peer enrolled', { peer_id: peer, role, region: member.region });
    return {
      membership: this.#membership(member),
      baseKey: keyOf(this.keys.signer.id),
      caCertificate: this.keys.authority.certificate,
      certificate: await this.#certificate(member, csr),
      supernodes: this.directory.list(member.region).slice(0, FIRST_SUPERNODES),
      serverTime: this.ports.clock.now(),
    };
  }

  /** For nodes whose membership or certificate ran out, or handed on by their supernode. Rejects as `register`, not-enrolled. */
  async renewByCall(renewal: Renewal, context: UnaryContext): Promise<RenewalResult> {
    this.#limit(context);
    return this.#renew(renewal);
  }

  /** On a node's own stream. */
  async renewOnStream(renewal: Renewal, peer: PeerId): Promise<RenewalResult> {
    if (renewal.peer !== peer) throw new VpndError('forbidden', 'a node renews its own membership only');
    return this.#renew(renewal);
  }

  /** The member behind an id. Rejects with not-enrolled, revoked. */
  async member(peer: PeerId): Promise<MemberRecord> {
    this.#admitted(peer);
    const member = await this.ports.store.directory.member(peer);
    if (member === undefined)
      throw new VpndError('not-enrolled', `${shortId(peer)} is no member of this overlay; enrol it with a join token`);
    // It may have been shut out while the store answered.
    this.#admitted(peer);
    return member;
  }

  async #renew(renewal: Renewal): Promise<RenewalResult> {
    this.#fresh(renewal.timestamp);
    this.#signed(renewal.peer, renewalSigningInput(renewal), renewal.signature);
    const member = await this.member(renewal.peer);
    if (renewal.csr.length > 0 && !member.roles.includes('supernode'))
      throw new VpndError('forbidden', 'only supernodes have TLS certificates');
    const certificate = await this.#certificate(member, renewal.csr);
    // A full disk must not end what runs: a renewal gives nobody anything that base has not recorded before.
    const on = `peer:${member.peer}`;
    this.ports.audit.note({ code: 'membership-renewed', by: byPeer(member.peer), on, detail: this.#granted(member) });
    return { membership: this.#membership(member), certificate };
  }

  async #recordEnrolment(member: MemberRecord): Promise<void> {
    const by = byPeer(member.peer);
    const on = `peer:${member.peer}`;
    await this.ports.audit.record(
      { code: 'token-spent', by, on: `token:${member.tokenId}` },
      { code: 'enrolled', by, on, detail: { token: member.tokenId } },
      { code: 'membership-issued', by: 'daemon', on, detail: this.#granted(member) },
    );
  }

  #granted({ roles, region, pool }: MemberRecord) {
    const until = new Date(plus(this.ports.clock.now(), this.options.membershipTtl)).toISOString();
    return { roles: roles.join('+'), region, ...(pool === '' ? {} : { pool }), until };
  }

  #membership(member: MemberRecord): Signed {
    const now = this.ports.clock.now();
    return this.ports.statements.signMembership(this.keys.signer, {
      peer: member.peer,
      roles: member.roles,
      region: member.region,
      pool: member.pool,
      notBefore: (now - BACKDATED) as Instant,
      notAfter: plus(now, this.options.membershipTtl),
      epoch: this.revocations.epoch,
    });
  }

  async #certificate(member: MemberRecord, csr: Bytes): Promise<string> {
    if (csr.length === 0) return '';
    const subject = { kind: 'supernode', id: member.peer } as const;
    return this.keys.authority.issue(csr, subject, this.ports.clock.now(), this.options.certificateTtl);
  }

  #admitted(peer: PeerId): void {
    const refusal = this.revocations.refusal(peer);
    if (refusal !== undefined) throw refusal;
  }

  /** First of all, before any signature is checked or the store is asked. */
  #limit({ remote, certified }: UnaryContext): void {
    const allowed =
      certified === undefined ? this.#strangers.allow(limitKey(remote)) : this.#supernodes.allow(certified);
    if (!allowed)
      throw new VpndError('rate-limited', 'too many requests from this address; try again in a minute', {
        retryable: true,
      });
  }

  #fresh(timestamp: Instant): void {
    const ahead = since(timestamp, this.ports.clock.now());
    if (!(Math.abs(ahead) <= CLOCK_TOLERANCE)) throw clockSkew(ahead, 'base');
  }

  #signed(peer: PeerId, input: Bytes, signature: Bytes): void {
    if (!this.ports.crypto.verify(keyOf(peer), input, signature))
      throw new VpndError('bad-signature', "the request is not signed by the node's identity");
  }
}

const TOKEN_REFUSALS: Readonly<Record<Extract<Redemption, { ok: false }>['error'], string>> = {
  'bad-token': 'base does not know this join token; was it made by this base?',
  'token-expired': 'this join token has expired; ask for a new one',
  'token-used': 'this join token has been used up; ask for a new one',
  'token-revoked': 'this join token was revoked; ask for a new one',
  revoked: 'this node was shut out of this overlay by its operator',
  'wrong-role': 'this join token is for another role; ask for one for this role',
  'wrong-region': 'this join token is for another region; leave --region out or ask for one for this region',
};

const tokenRefused = (code: Extract<Redemption, { ok: false }>['error']): VpndError =>
  new VpndError(code, TOKEN_REFUSALS[code]);
