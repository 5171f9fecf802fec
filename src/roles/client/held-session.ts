import type { ClientConfig } from '../../config/types.js';
import type { Statements } from '../../core/ports/authority.js';
import { type Cidr, type Endpoint, hostCidr, parseIp } from '../../model/address.js';
import type { Bytes } from '../../model/bytes.js';
import type { Unit } from '../../model/dataplane.js';
import type { SupernodeInfo } from '../../model/directory.js';
import { VpndError } from '../../model/errors.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { WireGuardKeyPair, WireGuardPublicKey } from '../../model/keys.js';
import type { InnerAddresses } from '../../model/offer.js';
import type { Country, Path, Region } from '../../model/role.js';
import type { ExitWish, SessionGrant } from '../../model/session.js';
import { type Instant, type Millis, minutes, plus } from '../../model/time.js';
import { INNER_MTU } from '../common/exit-units.js';

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
  readonly endpoint: Endpoint;
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
/** Supernodes a client must reach outside the tunnel: its own, and those it would turn to next. */
const EXEMPT_SUPERNODES = 8;

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

/** The device alone, without addresses: made while the request is still under way. */
export const bareDevice = (config: ClientConfig, keys: WireGuardKeyPair): Unit => ({
  kind: 'device',
  name: config.interface,
  privateKey: keys.privateKey,
  listenPort: undefined,
  mtu: INNER_MTU,
  addresses: [],
});

/** What a held session asks of the data plane. */
export function sessionUnits(
  config: ClientConfig,
  held: HeldSession,
  supernodes: readonly SupernodeInfo[],
): readonly Unit[] {
  const { inner } = held;
  return [
    {
      ...(bareDevice(config, held.keys) as Extract<Unit, { kind: 'device' }>),
      addresses: [hostCidr(inner.ipv4), hostCidr(inner.ipv6)],
    },
    {
      kind: 'peer',
      device: config.interface,
      publicKey: held.exitKey,
      presharedKey: undefined,
      allowedIps: ['0.0.0.0/0' as Cidr, '::/0' as Cidr],
      endpoint: held.endpoint,
      keepalive: held.keepalive,
    },
    fullTunnel(config, held, supernodes),
  ];
}

/**
 * Without a peer but with its routes: traffic is held rather than leaked while a lost session is replaced. The
 * supernodes stay reachable.
 */
export function holdingUnits(
  config: ClientConfig,
  held: HeldSession,
  supernodes: readonly SupernodeInfo[],
): readonly Unit[] {
  return sessionUnits(config, held, supernodes).filter((unit) => unit.kind !== 'peer');
}

function fullTunnel(config: ClientConfig, held: HeldSession, supernodes: readonly SupernodeInfo[]): Unit {
  return {
    kind: 'full-tunnel',
    device: config.interface,
    use: 'active',
    table: config.table,
    sources: [held.inner.ipv4, held.inner.ipv6],
    exempt: [{ protocol: 'udp', endpoint: held.endpoint }, ...supernodeEndpoints(supernodes)],
    ipv6: held.ipv6 ? 'tunnel' : 'block',
    pin: undefined,
  };
}

/**
 * Exact endpoints only: a wider exemption leaks (TunnelCrack, CVE-2023-36672). A supernode dialled by name is reached
 * on its relay addresses, which are the same machine's.
 */
function supernodeEndpoints(
  supernodes: readonly SupernodeInfo[],
): { readonly protocol: 'tcp' | 'udp'; readonly endpoint: Endpoint }[] {
  const seen = new Map<string, { protocol: 'tcp' | 'udp'; endpoint: Endpoint }>();
  const add = (protocol: 'tcp' | 'udp', endpoint: Endpoint) =>
    seen.set(`${protocol}/${endpoint.ip}/${endpoint.port}`, { protocol, endpoint });
  for (const one of supernodes.slice(0, EXEMPT_SUPERNODES)) {
    for (const { host, port } of one.addresses) {
      const literal = parseIp(host);
      for (const ip of literal.ok ? [literal.value] : one.relayIps) add('tcp', { ip, port });
    }
    if (one.probePort !== undefined) for (const ip of one.relayIps) add('udp', { ip, port: one.probePort });
  }
  return [...seen.values()];
}
