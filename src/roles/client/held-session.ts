import type { BaseKey, Statements } from '../../core/ports/authority.js';
import type { Crypto, KemKeyPair } from '../../core/ports/crypto.js';
import { presharedKeyOf } from '../../core/preshared.js';
import type { Endpoint } from '../../model/address.js';
import { equalConstantTime } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { WireGuardKeyPair, WireGuardPublicKey } from '../../model/keys.js';
import type { Signed } from '../../model/membership.js';
import type { InnerAddresses, Offer } from '../../model/offer.js';
import type { Country, Path, PostQuantum, Region } from '../../model/role.js';
import type { ExitWish, SessionGrant } from '../../model/session.js';
import { type Instant, type Millis, minutes, plus } from '../../model/time.js';
import type { Revocations } from '../common/revocations.js';

/** A session as the client keeps it, on disk too, so that a restarted daemon finds its tunnel again. */
export interface HeldSession {
  readonly session: SessionId;
  readonly generation: number;
  readonly keys: WireGuardKeyPair;
  /** The supernode that granted it: the one that renews and ends it. */
  readonly supervisor: PeerId | undefined;
  readonly exit: PeerId;
  readonly exitKey: WireGuardPublicKey;
  readonly exitRegion: Region;
  readonly exitCountry: Country | undefined;
  readonly path: Path;
  readonly via: readonly PeerId[];
  /** Where WireGuard sends at present. */
  readonly endpoint: Endpoint;
  /** The supernode's relay port of this session; undefined where it was direct from the start. */
  readonly relay: { readonly endpoint: Endpoint; readonly path: Path } | undefined;
  readonly keepalive: number;
  readonly inner: InnerAddresses;
  /** Whether the exit carries IPv6. */
  readonly ipv6: boolean;
  readonly leaseUntil: Instant;
  readonly openedAt: Instant;
  readonly reasons: readonly string[];
  /** From the request until the WireGuard handshake was through; undefined until then. */
  readonly connectedAfter: Millis | undefined;
  /** WireGuard's pre-shared key; undefined without post-quantum protection, and in what older versions have written. */
  readonly preshared?: ClientPreshared | undefined;
}

export interface ClientPreshared {
  /** Base64, 32 bytes. */
  readonly key: string;
  readonly since: Instant;
}

/** What a client asks of its list of revocations. */
export type ShutOut = Pick<Revocations, 'has' | 'refusal' | 'mentioned'>;

/** Whom a session depends on: its exit, who granted it, and every supernode on its path. */
export const nodesOf = ({ exit, supervisor, via }: HeldSession): readonly PeerId[] => [
  exit,
  ...(supervisor === undefined ? [] : [supervisor]),
  ...via,
];

/** Clocks of exits may be off by so much. */
const CLOCK_TOLERANCE = minutes(5);

/**
 * A grant is worth what its exit signed: the membership must be base's, the offer the exit's, for this session, this
 * client's key, and nothing in it changed on the way; and nobody on its path is shut out. Throws VpndError `bad-offer`,
 * `bad-membership`, `revoked`.
 */
export function checkGrant(
  grant: SessionGrant,
  expected: {
    readonly keys: WireGuardKeyPair;
    readonly wish: ExitWish;
    readonly baseKey: BaseKey;
    readonly supervisor: PeerId | undefined;
    readonly pq: PostQuantum;
    /** What was sent with the request; undefined where nothing was. */
    readonly kem: KemKeyPair | undefined;
    /** Who is shut out of the overlay. */
    readonly revocations?: ShutOut | undefined;
  },
  { statements, crypto }: { readonly statements: Statements; readonly crypto: PresharedCrypto },
  now: Instant,
): HeldSession {
  const member = statements.checkMembership(expected.baseKey, grant.exitMembership, now, CLOCK_TOLERANCE);
  if (!member.ok) throw member.error;
  const { peer, roles, region, pool } = member.value;
  if (!roles.includes('exit')) throw refused('the node behind it is no exit');
  expected.revocations?.mentioned(member.value.epoch);
  for (const node of [peer, ...grant.via]) {
    const refusal = expected.revocations?.refusal(node);
    // The supernode may not have heard of it yet, or not want to.
    if (refusal !== undefined) throw new VpndError('revoked', refusal.message, { retryable: true });
  }
  const { wish } = expected;
  if (wish.exit !== undefined && peer !== wish.exit) throw refused('it comes from another exit than the one asked for');
  if (wish.region !== undefined && region !== wish.region) throw refused(`its exit is in region ${region}`);
  if (wish.pool !== undefined && pool !== wish.pool) throw refused('its exit is in another pool');
  if (wish.privacy === 'private' && !isOverTwo(grant, peer, expected.supervisor)) {
    throw refused('one supernode on its path would see both ends');
  }
  const checked = statements.checkOffer(peer, grant.offer, now);
  if (!checked.ok) throw checked.error;
  const offer = checked.value;
  if (offer.session !== grant.session) throw refused('it is for another session');
  if (offer.clientKey !== expected.keys.publicKey) throw refused('the exit was told another key than this client’s');
  const key = presharedKeyFrom(offer, expected.kem, crypto);
  if (key === undefined && expected.pq === 'require') {
    const why =
      'it brings no post-quantum key, and --pq require wants one; the exit may take no part in it (--pq prefer)';
    throw new VpndError('bad-offer', `the offer was refused: ${why}, or the supernode took the client’s key out`, {
      details: { exit: peer, missing: 'ml-kem-768' },
    });
  }
  return {
    session: grant.session,
    generation: grant.generation,
    keys: expected.keys,
    supervisor: expected.supervisor,
    exit: peer,
    exitKey: offer.exitKey,
    exitRegion: region,
    exitCountry: grant.exitCountry,
    path: grant.path,
    via: grant.via,
    endpoint: grant.endpoint,
    relay: grant.path === 'direct' ? undefined : { endpoint: grant.endpoint, path: grant.path },
    keepalive: grant.keepalive,
    inner: offer.inner,
    ipv6: offer.ipv6,
    leaseUntil: plus(now, grant.lease),
    openedAt: now,
    reasons: grant.reasons,
    connectedAfter: undefined,
    preshared: key === undefined ? undefined : { key, since: now },
  };
}

/**
 * The pre-shared key of a session that is held already, out of the offer that came for a fresh key. The exit must be the
 * session's, and nothing but the ciphertext may differ. Throws VpndError `bad-offer`.
 */
export function checkRekeyed(
  held: HeldSession,
  signed: Signed,
  kem: KemKeyPair,
  { statements, crypto }: { readonly statements: Statements; readonly crypto: PresharedCrypto },
  now: Instant,
): ClientPreshared {
  const checked = statements.checkOffer(held.exit, signed, now);
  if (!checked.ok) throw checked.error;
  const offer = checked.value;
  if (offer.session !== held.session) throw refused('it is for another session');
  if (offer.clientKey !== held.keys.publicKey || offer.exitKey !== held.exitKey) throw refused('its keys are others');
  const key = presharedKeyFrom(offer, kem, crypto);
  if (key === undefined) throw new VpndError('not-supported', 'this exit renews no post-quantum key');
  return { key, since: now };
}

type PresharedCrypto = Pick<Crypto, 'kemDecapsulate' | 'hkdfSha256' | 'sha256'>;

/** Undefined where the exit made none. An exit that was given another key than was sent would have another one. */
function presharedKeyFrom(offer: Offer, kem: KemKeyPair | undefined, crypto: PresharedCrypto): string | undefined {
  const { session, clientKey, exitKey, kemCiphertext: ciphertext, kemKeyHash } = offer;
  if (ciphertext.length === 0) return undefined;
  if (kem === undefined) throw refused('it has a post-quantum key that nobody asked for');
  if (!equalConstantTime(kemKeyHash, crypto.sha256(kem.publicKey))) {
    throw refused('the exit was told another ML-KEM key than this client’s');
  }
  const secret = crypto.kemDecapsulate(kem.secretKey, ciphertext);
  if (secret === undefined) throw refused('its ML-KEM ciphertext is malformed');
  return presharedKeyOf(crypto, secret, { session, clientKey, exitKey, kemKey: kem.publicKey, ciphertext });
}

/** What of a private path a client can see for itself: its own supernode, another one, and an exit that is neither. */
function isOverTwo(grant: SessionGrant, exit: PeerId, supervisor: PeerId | undefined): boolean {
  const [first, second, ...more] = grant.via;
  if (grant.path !== 'relay2' || first !== supervisor || second === undefined || more.length > 0) return false;
  return new Set([first, second, exit]).size === 3;
}

const refused = (why: string): VpndError =>
  new VpndError('bad-offer', `the offer was refused: ${why}; the supernode may have changed it`);
