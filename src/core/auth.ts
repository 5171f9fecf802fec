import { type Bytes, signingInput, u32be, u64be, utf8 } from '../model/bytes.js';
import type { SupernodeInfo } from '../model/directory.js';
import { VpndError } from '../model/errors.js';
import { KEY_LENGTH, keyOf, type PeerId, shortId } from '../model/ids.js';
import { type WireGuardPublicKey, wireGuardKeyBytes } from '../model/keys.js';
import type { Membership, Signed } from '../model/membership.js';
import type { AuthRequest, Capabilities } from '../model/messages.js';
import { err, ok, type Result } from '../model/result.js';
import type { MemberRole, Region } from '../model/role.js';
import type { SessionDigest } from '../model/session.js';
import { type Instant, type Millis, minutes, seconds, since } from '../model/time.js';
import type { BaseKey, Statements } from './ports/authority.js';
import type { Crypto, Identity } from './ports/crypto.js';
import type { Random } from './ports/random.js';

export const PROTOCOL_VERSION = 1;
/** How long a server's challenge can be answered. */
export const CHALLENGE_LIFETIME: Millis = seconds(30);
/** How far a peer's clock may be off. Timestamps bound freshness only; the challenge is what stops a replay. */
export const CLOCK_TOLERANCE: Millis = minutes(5);

const NO_KEY = new Uint8Array(KEY_LENGTH);
/** The roles' numbers in vpnd.v1.Role, as signatures hold them. */
const ROLE_NUMBER: Readonly<Record<MemberRole, number>> = { supernode: 2, exit: 3, client: 4 };

/** What AuthRequest's signature covers, as control.proto says. */
export interface AuthFields {
  readonly protocolVersion: number;
  /** 32 bytes of the server. */
  readonly challenge: Bytes;
  /** Random bytes of the peer. */
  readonly clientNonce: Bytes;
  readonly peer: PeerId;
  readonly role: MemberRole;
  readonly region: Region;
  readonly wireguardKey: WireGuardPublicKey | undefined;
  /** Undefined for base. */
  readonly server: PeerId | undefined;
  /** SHA-256 of the server's TLS SubjectPublicKeyInfo: as the peer saw it, as the server showed it. */
  readonly serverKeyHash: Bytes;
  readonly timestamp: Instant;
}

export function authSigningInput(fields: AuthFields): Bytes {
  return signingInput('vpnd/auth/v1', [
    u32be(fields.protocolVersion),
    fields.challenge,
    fields.clientNonce,
    keyOf(fields.peer),
    Uint8Array.of(ROLE_NUMBER[fields.role]),
    utf8(fields.region),
    fields.wireguardKey === undefined ? NO_KEY : wireGuardKeyBytes(fields.wireguardKey),
    fields.server === undefined ? NO_KEY : keyOf(fields.server),
    fields.serverKeyHash,
    u64be(fields.timestamp),
  ]);
}

/** What RegisterPeerRequest's signature covers, as base.proto says. */
export function enrolSigningInput(fields: {
  readonly tokenSecret: Bytes;
  readonly peer: PeerId;
  readonly role: MemberRole;
  readonly region: Region | undefined;
  readonly csr: Bytes;
  readonly timestamp: Instant;
}): Bytes {
  return signingInput('vpnd/enrol/v1', [
    fields.tokenSecret,
    keyOf(fields.peer),
    Uint8Array.of(ROLE_NUMBER[fields.role]),
    utf8(fields.region ?? ''),
    fields.csr,
    u64be(fields.timestamp),
  ]);
}

/** What Renewal's signature covers, as control.proto says. */
export function renewalSigningInput(fields: {
  readonly peer: PeerId;
  readonly csr: Bytes;
  readonly timestamp: Instant;
}): Bytes {
  return signingInput('vpnd/renewal/v1', [keyOf(fields.peer), fields.csr, u64be(fields.timestamp)]);
}

/** What a peer says of itself on a new stream. */
export interface SelfDescription {
  readonly membership: Signed;
  readonly role: MemberRole;
  readonly region: Region;
  readonly wireguardKey: WireGuardPublicKey | undefined;
  readonly capabilities: Capabilities;
  readonly sessions: readonly SessionDigest[];
  readonly supernode: SupernodeInfo | undefined;
  /** The list of revocations that it holds. */
  readonly revocations?: Signed | undefined;
}

/** The server as the peer sees it. */
export interface ServerView {
  readonly id: PeerId | undefined;
  readonly challenge: Bytes;
  readonly serverKeyHash: Bytes;
}

/** The first message of a stream, by the peer. */
export function makeAuthRequest(
  identity: Identity,
  self: SelfDescription,
  server: ServerView,
  now: Instant,
  random: Random,
): AuthRequest {
  const clientNonce = random.bytes(32);
  const signature = identity.sign(
    authSigningInput({
      protocolVersion: PROTOCOL_VERSION,
      challenge: server.challenge,
      clientNonce,
      peer: identity.id,
      role: self.role,
      region: self.region,
      wireguardKey: self.wireguardKey,
      server: server.id,
      serverKeyHash: server.serverKeyHash,
      timestamp: now,
    }),
  );
  return {
    kind: 'auth-request',
    protocolVersion: PROTOCOL_VERSION,
    clientNonce,
    timestamp: now,
    signature,
    ...self,
    revocations: self.revocations,
  };
}

/** What a server knows and demands when an AuthRequest comes. */
export interface AuthExpectation {
  readonly challenge: Bytes;
  readonly challengeIssuedAt: Instant;
  /** The server's own id; undefined for base. */
  readonly self: PeerId | undefined;
  readonly serverKeyHash: Bytes;
  readonly baseKey: BaseKey;
  /** Roles this server has streams for. */
  readonly roles: readonly MemberRole[];
  /** Whose client certificate the connection carries. */
  readonly certified: PeerId | undefined;
  readonly requireCertificate: boolean;
  readonly now: Instant;
}

/**
 * Whether an AuthRequest is accepted. Any failure denies. What costs nothing is checked before signatures are; a clock
 * that is off is told apart from a membership that ran out, since their remedies differ.
 *
 * Errors: version-mismatch, unauthenticated (challenge too old, wrong certificate), wrong-role, clock-skew,
 * bad-membership, membership-expired, wrong-region, bad-message, bad-signature.
 */
export function checkAuthRequest(
  request: AuthRequest,
  expectation: AuthExpectation,
  tools: { readonly crypto: Crypto; readonly statements: Statements },
): Result<{ membership: Membership }, VpndError> {
  const cheap = refuseUnchecked(request, expectation);
  if (cheap !== undefined) return err(cheap);

  const checked = tools.statements.checkMembership(
    expectation.baseKey,
    request.membership,
    expectation.now,
    CLOCK_TOLERANCE,
  );
  if (!checked.ok) return checked;
  const membership = checked.value;
  const mismatch = refuseMismatch(request, membership, expectation);
  if (mismatch !== undefined) return err(mismatch);

  const input = authSigningInput({
    protocolVersion: request.protocolVersion,
    challenge: expectation.challenge,
    clientNonce: request.clientNonce,
    peer: membership.peer,
    role: request.role,
    region: request.region,
    wireguardKey: request.wireguardKey,
    server: expectation.self,
    serverKeyHash: expectation.serverKeyHash,
    timestamp: request.timestamp,
  });
  if (!tools.crypto.verify(keyOf(membership.peer), input, request.signature)) {
    return err(
      new VpndError(
        'bad-signature',
        'the signature does not fit this connection: another key, or somebody between the two ends',
      ),
    );
  }
  return ok({ membership });
}

function refuseUnchecked(request: AuthRequest, expectation: AuthExpectation): VpndError | undefined {
  if (request.protocolVersion !== PROTOCOL_VERSION) {
    return new VpndError(
      'version-mismatch',
      `this server speaks protocol version ${PROTOCOL_VERSION}, the peer version ${request.protocolVersion}; update the older of the two`,
      { details: { server: String(PROTOCOL_VERSION), peer: String(request.protocolVersion) } },
    );
  }
  if (since(expectation.now, expectation.challengeIssuedAt) > CHALLENGE_LIFETIME) {
    return new VpndError('unauthenticated', 'the challenge was answered after more than 30 s', { retryable: true });
  }
  if (!expectation.roles.includes(request.role)) {
    return new VpndError(
      'wrong-role',
      `${serverName(expectation)} has streams for ${expectation.roles.join(' and ')}, not for ${request.role}`,
    );
  }
  const ahead = since(request.timestamp, expectation.now);
  if (!(Math.abs(ahead) <= CLOCK_TOLERANCE)) return clockSkew(ahead, serverName(expectation));
  return undefined;
}

function refuseMismatch(
  request: AuthRequest,
  membership: Membership,
  expectation: AuthExpectation,
): VpndError | undefined {
  if (!membership.roles.includes(request.role)) {
    return new VpndError(
      'wrong-role',
      `this node is a member as ${membership.roles.join(', ')}, not as ${request.role}; enrol it with a token for ${request.role}`,
    );
  }
  if (membership.region !== request.region) {
    return new VpndError(
      'wrong-region',
      `this node is a member in region ${membership.region}, not ${request.region}; enrol it with a token for ${request.region}`,
    );
  }
  const { certified } = expectation;
  if (certified === undefined ? expectation.requireCertificate : certified !== membership.peer) {
    return new VpndError(
      'unauthenticated',
      certified === undefined
        ? `${serverName(expectation)} asks for a client certificate and the connection carries none`
        : `the connection carries the certificate of ${shortId(certified)}, the membership is that of ${shortId(membership.peer)}`,
    );
  }
  // What a supernode publishes of itself is taken from its membership; saying otherwise is an attempt at another's name.
  const published = request.supernode;
  if ((request.role === 'supernode') !== (published !== undefined)) {
    return new VpndError('bad-message', 'supernodes describe themselves in AuthRequest, and nobody else does');
  }
  if (published !== undefined && (published.id !== membership.peer || published.region !== membership.region)) {
    return new VpndError('bad-message', 'a supernode describes itself with its own id and region');
  }
  return undefined;
}

const serverName = (expectation: Pick<AuthExpectation, 'self'>): string =>
  expectation.self === undefined ? 'base' : 'the supernode';

/**
 * The refusal that tells a person which way their clock is off.
 * @param ahead how far the peer's clock is ahead of the server's; negative when it is behind
 * @param server "base", "the supernode"
 */
export function clockSkew(ahead: number, server: string): VpndError {
  const off = Math.abs(ahead);
  const amount = Number.isFinite(off) ? readable(off) : 'far';
  return new VpndError(
    'clock-skew',
    `this machine's clock is ${amount} ${ahead < 0 ? 'behind' : 'ahead of'} ${server}'s; set it, e.g. timedatectl set-ntp true`,
    { details: { ahead_ms: String(Math.round(ahead)) } },
  );
}

function readable(duration: number): string {
  const minutesOff = Math.round(duration / 60_000);
  if (minutesOff < 120) return `${minutesOff} min`;
  const hoursOff = Math.round(duration / 3_600_000);
  return hoursOff < 48 ? `${hoursOff} h` : `${Math.round(duration / 86_400_000)} days`;
}
