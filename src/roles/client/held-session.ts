import type { Statements } from '../../core/ports/authority.js';
import type { Endpoint } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { WireGuardKeyPair, WireGuardPublicKey } from '../../model/keys.js';
import type { InnerAddresses } from '../../model/offer.js';
import type { Country, Path, Region } from '../../model/role.js';
import type { ExitWish, SessionGrant } from '../../model/session.js';
import { type Instant, type Millis, minutes, plus } from '../../model/time.js';

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
}

/** Clocks of exits may be off by so much. */
const CLOCK_TOLERANCE = minutes(5);

/**
 * A grant is worth what its exit signed: the membership must be base's, the offer the exit's, for this session, this
 * client's key, and nothing in it changed on the way. Throws VpndError `bad-offer`, `bad-membership`.
 */
export function checkGrant(
  grant: SessionGrant,
  expected: {
    readonly keys: WireGuardKeyPair;
    readonly wish: ExitWish;
    readonly baseKey: Bytes;
    readonly supervisor: PeerId | undefined;
  },
  statements: Statements,
  now: Instant,
): HeldSession {
  const member = statements.checkMembership(expected.baseKey, grant.exitMembership, now, CLOCK_TOLERANCE);
  if (!member.ok) throw member.error;
  const { peer, roles, region, pool } = member.value;
  if (!roles.includes('exit')) throw refused('the node behind it is no exit');
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
  };
}

/** What of a private path a client can see for itself: its own supernode, another one, and an exit that is neither. */
function isOverTwo(grant: SessionGrant, exit: PeerId, supervisor: PeerId | undefined): boolean {
  const [first, second, ...more] = grant.via;
  if (grant.path !== 'relay2' || first !== supervisor || second === undefined || more.length > 0) return false;
  return new Set([first, second, exit]).size === 3;
}

const refused = (why: string): VpndError =>
  new VpndError('bad-offer', `the offer was refused: ${why}; the supernode may have changed it`);
