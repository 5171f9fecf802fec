import { CLOCK_TOLERANCE, clockSkew, enrolSigningInput, renewalSigningInput } from '../../core/auth.js';
import type { BaseKey, Statements } from '../../core/ports/authority.js';
import type { Crypto, Identity } from '../../core/ports/crypto.js';
import type { DialTarget, TlsIdentity } from '../../core/ports/network.js';
import { formatHostPort, type HostPort } from '../../model/address.js';
import type { Trust } from '../../model/anchors.js';
import { type Bytes, equalConstantTime, fromHex, toHex } from '../../model/bytes.js';
import type { SupernodeInfo } from '../../model/directory.js';
import { type ErrorCode, toVpndError, VpndError } from '../../model/errors.js';
import type { PeerId } from '../../model/ids.js';
import type { Membership, Signed } from '../../model/membership.js';
import type {
  InfoQuestion,
  JoinToken,
  RegisterPeerRequest,
  RegisterPeerResponse,
  Renewal,
  RenewalResult,
} from '../../model/messages.js';
import type { MemberRole, Region } from '../../model/role.js';
import { type Instant, type Millis, seconds, since } from '../../model/time.js';
import type { RolePorts } from '../ports.js';
import { type Anchored, askForAnchors, bundleOf, followed, trustIn } from './trust-anchors.js';

export { loadEnrolment, saveEnrolment } from './enrolment-facts.js';

const CALL_TIMEOUT: Millis = seconds(15);
/** What a call ends with whose request may have been carried out. */
const OUTCOME_UNKNOWN: ReadonlySet<ErrorCode> = new Set([
  'unreachable',
  'timeout',
  'closed',
  'internal',
  'bad-message',
]);
const NO_CSR: Bytes = new Uint8Array(0);

/** What a node got from base when it joined, and what it needs to start again without base. */
export interface Enrolment {
  readonly peer: PeerId;
  readonly role: MemberRole;
  readonly region: Region;
  readonly membership: Signed;
  /** What this node goes by: base's keys and the overlay's CAs. */
  readonly anchors: Anchored;
  readonly baseAddresses: readonly HostPort[];
  /** As base last published them, best first. */
  readonly supernodes: readonly SupernodeInfo[];
  /** Supernodes only: certificate chain, PEM. */
  readonly certificate?: string;
  /** Supernodes only: the certificate's key, PEM. */
  readonly tlsKey?: string;
  /** SHA-256 of the secret of the token it joined with last, hexadecimal: the same one is not used again. */
  readonly token?: string;
}

type Ports = Pick<RolePorts, 'clock' | 'crypto' | 'network' | 'certificates' | 'statements' | 'log'>;

/** What `vpnd` says at a start without token and without enrolment. */
export const notEnrolled = (role: MemberRole): VpndError =>
  new VpndError(
    'not-enrolled',
    `this node is not enrolled yet: start it once with --join <token> (made on base with: vpnd token create --role ${role})`,
  );

/**
 * Spends the token and checks all that base answers: at a member's first start, or later to be enrolled anew.
 * Rejects with wrong-role, wrong-region, wrong-ca, unreachable, clock-skew, bad-membership, or base's refusal.
 */
export async function enrol(
  options: {
    readonly token: JoinToken;
    readonly role: MemberRole;
    /** The configured one; must agree with the token's. */
    readonly region?: Region | undefined;
    readonly identity: Identity;
    /** As it was enrolled before; only the same overlay enrols it anew. */
    readonly before?: Enrolment | undefined;
    /** Called just before the token is sent; what it throws keeps it unspent. */
    readonly asked?: () => void;
    /** Called when base, or whoever answers in its place, is certain not to have enrolled this node. */
    readonly refused?: () => void;
  },
  ports: Ports,
): Promise<Enrolment> {
  const { token, role, identity, before } = options;
  mustFit(token, role, options.region);
  const key = role === 'supernode' ? await ports.certificates.newRequest() : undefined;
  const unsigned = {
    tokenSecret: token.secret,
    peer: identity.id,
    role,
    region: options.region,
    csr: key?.csr ?? NO_CSR,
    timestamp: ports.clock.now(),
  };
  const request: RegisterPeerRequest = { ...unsigned, signature: identity.sign(enrolSigningInput(unsigned)) };
  const { trust, response, chain } = await firstThatAnswers(token.base, async (address) => {
    const trust = await trustOfToken(address, token, ports);
    if (before !== undefined && !isSameOverlay(before.anchors.trust, trust)) throw otherOverlay();
    const target = baseTarget(address, bundleOf(trust.authorities));
    options.asked?.();
    const response = await ports.network.call(target, 'registerPeer', request, { timeout: CALL_TIMEOUT });
    const { chain } = await ports.network
      .call(target, 'fetchAnchors', {}, { timeout: CALL_TIMEOUT })
      // It hears of it on its first stream, too.
      .catch(() => ({ chain: [] }));
    return { trust, response, chain };
  }).catch((thrown: unknown) => {
    if (!OUTCOME_UNKNOWN.has(toVpndError(thrown).code)) options.refused?.();
    throw thrown;
  });
  const membership = checkRegistration(response, identity.id, role, token.region, ports);
  ports.log.info('enrolled', { peer_id: identity.id, role, region: membership.region });
  return {
    peer: identity.id,
    role,
    region: membership.region,
    membership: response.membership,
    anchors: anchorsAfter(trust, response.baseKey, chain, ports),
    baseAddresses: token.base,
    supernodes: response.supernodes,
    token: tokenHash(token, ports.crypto),
    ...(key && certified(response.certificate, key.privateKey)),
  };
}

/** Whether a node joined with this token last. */
export const isTokenOf = ({ token }: Enrolment, { secret }: JoinToken, crypto: Pick<Crypto, 'sha256'>): boolean => {
  const known = token === undefined ? undefined : fromHex(token);
  return known !== undefined && equalConstantTime(known, crypto.sha256(secret));
};

/** What is kept of a token that was used. */
const tokenHash = ({ secret }: JoinToken, crypto: Pick<Crypto, 'sha256'>): string => toHex(crypto.sha256(secret));

/** A renewal to send up the stream with `Upstream.ask`. `csr` for supernodes: PKCS#10 in DER. */
export function renewalQuestion(identity: Identity, now: Instant, csr: Bytes = NO_CSR): InfoQuestion {
  return { kind: 'renewal', renewal: makeRenewal(identity, now, csr) };
}

export function makeRenewal(identity: Identity, now: Instant, csr: Bytes = NO_CSR): Renewal {
  const unsigned = { peer: identity.id, csr, timestamp: now };
  return { ...unsigned, signature: identity.sign(renewalSigningInput(unsigned)) };
}

/**
 * The enrolment with what base answered to a renewal, checked. Rejected answers leave the old one in force: it throws
 * bad-membership or membership-expired.
 * @param privateKey of the CSR that was sent, PEM; undefined when none was
 */
export function renewed(
  enrolment: Enrolment,
  result: RenewalResult,
  privateKey: string | undefined,
  ports: Pick<Ports, 'clock' | 'statements'>,
): Enrolment {
  const keys = { keys: enrolment.anchors.trust.baseKeys };
  const membership = checkOwn(result.membership, keys, enrolment.peer, enrolment.role, ports);
  const tls = privateKey === undefined ? {} : certified(result.certificate, privateKey);
  return { ...enrolment, region: membership.region, membership: result.membership, ...tls };
}

/**
 * A renewal asked of base itself rather than up a stream: the membership ran out while the node was away. Rejects with
 * base's refusal (revoked), unreachable, or wrong-ca.
 */
export async function renewDirect(known: Enrolment, identity: Identity, ports: Ports): Promise<Enrolment> {
  try {
    return await renewAtBase(known, identity, ports);
  } catch (thrown) {
    // Its CA is another one, or its key: what it goes by now is asked before the same question is asked again.
    const { code } = toVpndError(thrown);
    if (code !== 'wrong-ca' && code !== 'bad-membership') throw thrown;
    const anchored = await reanchored(known, ports).catch(() => {
      throw thrown;
    });
    return renewAtBase(anchored, identity, ports);
  }
}

/** A node that has missed a change of CA or key asks base itself what counts now. Rejects as `askForAnchors`. */
export async function reanchored(
  enrolment: Enrolment,
  ports: Pick<Ports, 'network' | 'statements'>,
): Promise<Enrolment> {
  const { trust } = enrolment.anchors;
  const anchors = await firstThatAnswers(enrolment.baseAddresses, (address) => askForAnchors(address, trust, ports));
  return { ...enrolment, anchors };
}

async function renewAtBase(enrolment: Enrolment, identity: Identity, ports: Ports): Promise<Enrolment> {
  const key = enrolment.role === 'supernode' ? await ports.certificates.newRequest() : undefined;
  const renewal = makeRenewal(identity, ports.clock.now(), key?.csr);
  const result = await firstThatAnswers(enrolment.baseAddresses, (address) =>
    ports.network.call(baseTarget(address, caOf(enrolment)), 'renewMembership', renewal, { timeout: CALL_TIMEOUT }),
  );
  return renewed(enrolment, result, key?.privateKey, ports);
}

/** The overlay's CAs, as TLS takes them. */
export const caOf = ({ anchors }: Pick<Enrolment, 'anchors'>): string => bundleOf(anchors.trust.authorities);

/** What a supernode shows and signs with in TLS; undefined for exits and clients. */
export function tlsIdentityOf({ certificate, tlsKey }: Enrolment): TlsIdentity | undefined {
  return certificate === undefined || tlsKey === undefined ? undefined : { certificate, privateKey: tlsKey };
}

/** base as this node dials it; with the node's certificate of the moment where it has one. */
export function baseTargets(enrolment: () => Enrolment): readonly DialTarget[] {
  const { baseAddresses } = enrolment();
  const ca = caOf(enrolment());
  const first = tlsIdentityOf(enrolment());
  if (first === undefined) return baseAddresses.map((address) => baseTarget(address, ca));
  const identity = () => tlsIdentityOf(enrolment()) ?? first;
  return baseAddresses.map((address) => ({ ...baseTarget(address, ca), identity }));
}

/** Supernodes as this node dials them, each address of each in turn. */
export function supernodeTargets(supernodes: readonly SupernodeInfo[], ca: string): readonly DialTarget[] {
  return supernodes.flatMap(({ id, addresses }) =>
    addresses.map((address) => ({ address, expect: { kind: 'supernode', id } as const, ca })),
  );
}

const baseTarget = (address: HostPort, ca: string): DialTarget => ({ address, expect: { kind: 'base' }, ca });

function mustFit(token: JoinToken, role: MemberRole, region: Region | undefined): void {
  if (token.role !== role) {
    throw new VpndError(
      'wrong-role',
      `this token is for role ${token.role}, not ${role}; ask for one for role ${role}`,
    );
  }
  if (region !== undefined && token.region !== region) {
    throw new VpndError(
      'wrong-region',
      `this token is for region ${token.region}, not ${region}; leave --region out, or ask for a token for ${region}`,
    );
  }
}

/**
 * Who is to be sent a token's secret: base by a certificate of the CA that the token names, or of one that base's key in
 * the token has signed since.
 */
async function trustOfToken(address: HostPort, token: JoinToken, ports: Ports): Promise<Trust> {
  const { baseKey } = token;
  try {
    const ca = await ports.network.fetchCa(address, token.caKeyHash, { timeout: CALL_TIMEOUT });
    return { serial: 0, baseKeys: baseKey === undefined ? [] : [baseKey], authorities: [ca] };
  } catch (thrown) {
    if (baseKey === undefined || toVpndError(thrown).code !== 'wrong-ca') throw thrown;
    const asked = askForAnchors(address, trustIn(baseKey), ports).catch(() => {
      // What is wrong is the token, or who answers: not what came of asking him.
      throw thrown;
    });
    return (await asked).trust;
  }
}

/** By a key, or by a CA: a token may be older or younger than what the node goes by. */
const isSameOverlay = (known: Trust, token: Trust): boolean =>
  known.authorities.some((one) => token.authorities.some((other) => one.trim() === other.trim())) ||
  known.baseKeys.some((one) => token.baseKeys.some((other) => equalConstantTime(one, other)));

/** What base told of itself over the connection that the token vouched for, and its statements since. */
function anchorsAfter(trust: Trust, baseKey: Bytes, chain: readonly Signed[], ports: Ports): Anchored {
  const begin = trustIn(baseKey, trust.authorities);
  return followed(ports.statements, { trust: begin }, chain) ?? { trust: begin, chain: [] };
}

const otherOverlay = (): VpndError =>
  new VpndError(
    'wrong-ca',
    'this token is of another overlay than the one this node is enrolled in; give it a --state-dir of its own',
  );

/** Asks one address after the other while they cannot be reached; a refusal is an answer. */
async function firstThatAnswers<T>(addresses: readonly HostPort[], ask: (address: HostPort) => Promise<T>): Promise<T> {
  const failures: string[] = [];
  let cause: VpndError | undefined;
  for (const address of addresses) {
    try {
      return await ask(address);
    } catch (thrown) {
      cause = toVpndError(thrown);
      if (cause.code !== 'unreachable' && cause.code !== 'timeout') throw cause;
      failures.push(`${formatHostPort(address)}: ${cause.message}`);
    }
  }
  const text =
    failures.length === 0 ? 'no address of base is known' : `base cannot be reached (${failures.join('; ')})`;
  throw new VpndError('unreachable', text, { cause, retryable: true });
}

function checkRegistration(
  response: RegisterPeerResponse,
  peer: PeerId,
  role: MemberRole,
  region: Region,
  ports: Pick<Ports, 'clock' | 'statements'>,
): Membership {
  const ahead = since(ports.clock.now(), response.serverTime);
  if (Math.abs(ahead) > CLOCK_TOLERANCE) throw clockSkew(ahead, 'base');
  const membership = checkOwn(response.membership, response.baseKey, peer, role, ports);
  if (membership.region !== region) {
    throw new VpndError(
      'bad-membership',
      `base answered with a membership in region ${membership.region}, not ${region}`,
    );
  }
  return membership;
}

function checkOwn(
  signed: Signed,
  baseKey: BaseKey,
  peer: PeerId,
  role: MemberRole,
  ports: { readonly clock: Ports['clock']; readonly statements: Statements },
): Membership {
  const checked = ports.statements.checkMembership(baseKey, signed, ports.clock.now(), CLOCK_TOLERANCE);
  if (!checked.ok) throw checked.error;
  const membership = checked.value;
  if (membership.peer !== peer || !membership.roles.includes(role)) {
    throw new VpndError('bad-membership', `base answered with a membership that is not this node's as ${role}`);
  }
  return membership;
}

function certified(certificate: string, tlsKey: string): { readonly certificate: string; readonly tlsKey: string } {
  if (certificate === '') throw new VpndError('bad-message', 'base sent no TLS certificate for this supernode');
  return { certificate, tlsKey };
}
