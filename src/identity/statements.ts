import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { CLOCK_TOLERANCE } from '../core/auth.js';
import type { BaseKey, Statements } from '../core/ports/authority.js';
import type { Crypto, Identity } from '../core/ports/crypto.js';
import { AnchorsSchema, MembershipSchema, OfferSchema, RevocationHeadSchema } from '../gen/vpnd/v1/types_pb.js';
import { familyOf, type IpAddress, parseIp } from '../model/address.js';
import { type Anchors, MAX_ANCHORS } from '../model/anchors.js';
import { type Bytes, signingInput } from '../model/bytes.js';
import { VpndError } from '../model/errors.js';
import { idBytes, keyOf, peerIdOf, sessionIdOf } from '../model/ids.js';
import { wireGuardKeyBytes, wireGuardPublicKeyOf } from '../model/keys.js';
import type { Membership, Signed } from '../model/membership.js';
import type { Offer } from '../model/offer.js';
import { err, ok } from '../model/result.js';
import { MAX_REVOCATIONS, type RevocationHead } from '../model/revocation.js';
import { type MemberRole, parseRegion } from '../model/role.js';
import { type Instant, instantOf } from '../model/time.js';
import { memberRoleOf, wireRole } from './wire-roles.js';

const MEMBERSHIP_TAG = 'vpnd/membership/v1';
const OFFER_TAG = 'vpnd/offer/v1';
const REVOCATIONS_TAG = 'vpnd/revocations/v1';
const ANCHORS_TAG = 'vpnd/anchors/v1';
/** A CA's certificate has some 600. */
const PEM_LIMIT = 4096;
const PEM = /^[\x20-\x7e\r\n]+$/;

/** ML-KEM-768 (FIPS 203). */
const KEM_CIPHERTEXT_LENGTH = 1088;
/** SHA-256. */
const HASH_LENGTH = 32;
/** No statement comes near it; keeps a stranger from making us parse megabytes. */
const BODY_LIMIT = 16 * 1024;

/** Bodies are protobuf (types.proto), signatures Ed25519 over `signingInput(tag, [body])`. */
export function statements(crypto: Crypto): Statements {
  const sign = (identity: Identity, tag: string, body: Bytes): Signed => ({
    body,
    signature: identity.sign(signingInput(tag, [body])),
  });
  const genuine = (key: BaseKey, tag: string, { body, signature }: Signed): boolean => {
    if (body.length > BODY_LIMIT) return false;
    const input = signingInput(tag, [body]);
    const keys = key instanceof Uint8Array ? [key] : key.keys;
    return keys.some((one) => crypto.verify(one, input, signature));
  };

  return {
    signMembership: (base, membership) => sign(base, MEMBERSHIP_TAG, encodeMembership(membership)),

    checkMembership(baseKey, signed, now, tolerance = CLOCK_TOLERANCE) {
      if (!genuine(baseKey, MEMBERSHIP_TAG, signed)) return err(badMembership('it was not signed by this base'));
      const membership = decode(() => decodeMembership(signed.body));
      if (typeof membership === 'string') return err(badMembership(membership));
      if (now + tolerance < membership.notBefore)
        return err(
          badMembership(
            `it is valid from ${iso(membership.notBefore)} only, and this machine's clock says ${iso(now)}; set it, e.g. timedatectl set-ntp true`,
          ),
        );
      if (now - tolerance >= membership.notAfter)
        return err(
          new VpndError(
            'membership-expired',
            `the membership of ${membership.peer} ended at ${iso(membership.notAfter)}`,
            {
              details: { not_after_ms: String(membership.notAfter) },
            },
          ),
        );
      return ok(membership);
    },

    signRevocations: (base, head) => sign(base, REVOCATIONS_TAG, encodeRevocations(head)),

    checkRevocations(baseKey, signed) {
      if (!genuine(baseKey, REVOCATIONS_TAG, signed)) return err(badRevocations('it was not signed by this base'));
      const head = decode(() => decodeRevocations(signed.body));
      return typeof head === 'string' ? err(badRevocations(head)) : ok(head);
    },

    signAnchors: (base, anchors) => sign(base, ANCHORS_TAG, encodeAnchors(anchors)),

    checkAnchors(baseKey, signed) {
      if (!genuine(baseKey, ANCHORS_TAG, signed))
        return err(new VpndError('bad-signature', 'this statement of keys and CAs was not signed by this base'));
      const anchors = decode(() => decodeAnchors(signed.body));
      return typeof anchors === 'string'
        ? err(new VpndError('bad-message', `a statement of keys and CAs: ${anchors}`))
        : ok(anchors);
    },

    signOffer: (exit, offer) => sign(exit, OFFER_TAG, encodeOffer(offer)),

    checkOffer(exit, signed, now) {
      if (!genuine(keyOf(exit), OFFER_TAG, signed)) return err(badOffer('it was not signed by this exit'));
      const offer = decode(() => decodeOffer(signed.body));
      if (typeof offer === 'string') return err(badOffer(offer));
      if (now - CLOCK_TOLERANCE >= offer.expires) return err(badOffer(`it ended at ${iso(offer.expires)}`));
      return ok(offer);
    },
  };
}

function encodeMembership(membership: Membership): Bytes {
  return toBinary(
    MembershipSchema,
    create(MembershipSchema, {
      peerKey: keyOf(membership.peer),
      roles: membership.roles.map(wireRole),
      region: membership.region,
      pool: membership.pool,
      notBeforeMs: BigInt(membership.notBefore),
      notAfterMs: BigInt(membership.notAfter),
      epoch: BigInt(membership.epoch),
    }),
  );
}

function decodeMembership(body: Bytes): Membership {
  const wire = fromBinary(MembershipSchema, body);
  const peer = peerIdOf(wire.peerKey);
  if (!peer.ok) throw new Malformed('its peer key is not 32 bytes long');
  const roles = wire.roles.map((role): MemberRole => memberRoleOf(role) ?? fail(`it names the unknown role ${role}`));
  if (roles.length === 0 || new Set(roles).size !== roles.length) fail('its roles are none, or one of them twice');
  const region = parseRegion(wire.region);
  if (!region.ok) throw new Malformed('its region is not a region');
  // A pool is an operator's label like a region is; empty for none.
  if (wire.pool !== '' && !parseRegion(wire.pool).ok) fail('its pool is not a pool');
  const notBefore = instantOf(count(wire.notBeforeMs, 'not_before'));
  const notAfter = instantOf(count(wire.notAfterMs, 'not_after'));
  if (notAfter <= notBefore) fail('it ends before it begins');
  const epoch = count(wire.epoch, 'epoch');
  return { peer: peer.value, roles, region: region.value, pool: wire.pool, notBefore, notAfter, epoch };
}

function encodeRevocations(head: RevocationHead): Bytes {
  return toBinary(
    RevocationHeadSchema,
    create(RevocationHeadSchema, {
      epoch: BigInt(head.epoch),
      issuedMs: BigInt(head.issuedAt),
      count: head.count,
      digest: head.digest,
    }),
  );
}

function decodeRevocations(body: Bytes): RevocationHead {
  const wire = fromBinary(RevocationHeadSchema, body);
  const epoch = count(wire.epoch, 'epoch');
  if (epoch === 0) fail('its epoch is 0, where there is no list');
  if (wire.count > MAX_REVOCATIONS) fail(`it is of ${wire.count} nodes, and ${MAX_REVOCATIONS} are the most`);
  if (wire.digest.length !== HASH_LENGTH) fail('its digest is not 32 bytes long');
  return { epoch, issuedAt: instantOf(count(wire.issuedMs, 'issued')), count: wire.count, digest: wire.digest };
}

function encodeAnchors(anchors: Anchors): Bytes {
  return toBinary(
    AnchorsSchema,
    create(AnchorsSchema, {
      serial: BigInt(anchors.serial),
      issuedMs: BigInt(anchors.issuedAt),
      baseKeys: [...anchors.baseKeys],
      authorities: [...anchors.authorities],
    }),
  );
}

function decodeAnchors(body: Bytes): Anchors {
  const { serial, issuedMs, baseKeys, authorities } = fromBinary(AnchorsSchema, body);
  for (const [of, { length }] of [['keys', baseKeys] as const, ['CAs', authorities] as const])
    if (length < 1 || length > MAX_ANCHORS) fail(`it names ${length} ${of}`);
  if (baseKeys.some((key) => key.length !== 32)) fail('a key of base is not 32 bytes long');
  if (authorities.some((pem) => pem.length > PEM_LIMIT || !PEM.test(pem))) fail('a CA is no certificate in PEM');
  if (serial === 0n) fail('its serial is 0');
  return { serial: count(serial, 'serial'), issuedAt: instantOf(count(issuedMs, 'issued')), baseKeys, authorities };
}

function encodeOffer(offer: Offer): Bytes {
  return toBinary(
    OfferSchema,
    create(OfferSchema, {
      sessionId: idBytes(offer.session),
      clientKey: wireGuardKeyBytes(offer.clientKey),
      exitWireguardKey: wireGuardKeyBytes(offer.exitKey),
      innerIpv4: offer.inner.ipv4,
      innerIpv6: offer.inner.ipv6,
      gatewayIpv4: offer.inner.gatewayIpv4,
      gatewayIpv6: offer.inner.gatewayIpv6,
      kemCiphertext: offer.kemCiphertext,
      expiresMs: BigInt(offer.expires),
      ipv6: offer.ipv6,
      kemKeyHash: offer.kemKeyHash,
    }),
  );
}

function decodeOffer(body: Bytes): Offer {
  const wire = fromBinary(OfferSchema, body);
  const session = sessionIdOf(wire.sessionId);
  if (!session.ok) throw new Malformed('its session id is not 16 bytes long');
  const clientKey = wireGuardPublicKeyOf(wire.clientKey);
  if (!clientKey.ok) throw new Malformed('its client key is not 32 bytes long');
  const exitKey = wireGuardPublicKeyOf(wire.exitWireguardKey);
  if (!exitKey.ok) throw new Malformed("its exit's WireGuard key is not 32 bytes long");
  if (wire.kemCiphertext.length !== 0 && wire.kemCiphertext.length !== KEM_CIPHERTEXT_LENGTH)
    fail(`its ML-KEM ciphertext has ${wire.kemCiphertext.length} bytes instead of ${KEM_CIPHERTEXT_LENGTH}`);
  if (wire.kemKeyHash.length !== (wire.kemCiphertext.length === 0 ? 0 : HASH_LENGTH))
    fail('it does not say for which ML-KEM key its ciphertext is');
  const inner = {
    ipv4: address(wire.innerIpv4, 4, 'inner_ipv4'),
    ipv6: address(wire.innerIpv6, 6, 'inner_ipv6'),
    gatewayIpv4: address(wire.gatewayIpv4, 4, 'gateway_ipv4'),
    gatewayIpv6: address(wire.gatewayIpv6, 6, 'gateway_ipv6'),
  };
  return {
    session: session.value,
    clientKey: clientKey.value,
    exitKey: exitKey.value,
    inner,
    kemCiphertext: wire.kemCiphertext,
    expires: instantOf(count(wire.expiresMs, 'expires')),
    ipv6: wire.ipv6,
    kemKeyHash: wire.kemKeyHash,
  };
}

/** What a body that parses as protobuf may still have wrong with it. */
class Malformed extends Error {}

function fail(what: string): never {
  throw new Malformed(what);
}

/** The value, or what is wrong with the bytes. */
function decode<T extends object>(parse: () => T): T | string {
  try {
    return parse();
  } catch (thrown) {
    return thrown instanceof Malformed ? thrown.message : 'its bytes are not a statement';
  }
}

function count(value: bigint, field: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) fail(`its ${field} is out of range`);
  return Number(value);
}

function address(text: string, family: 4 | 6, field: string): IpAddress {
  const parsed = parseIp(text);
  // Only the canonical form, so that one address is one text everywhere.
  if (!parsed.ok || parsed.value !== text || familyOf(parsed.value) !== family)
    throw new Malformed(`its ${field} is not an IPv${family} address`);
  return parsed.value;
}

const badMembership = (what: string): VpndError =>
  new VpndError('bad-membership', `this membership is refused: ${what}`);
const badRevocations = (what: string): VpndError =>
  new VpndError('bad-revocations', `this list of revocations is refused: ${what}`);
const badOffer = (what: string): VpndError => new VpndError('bad-offer', `the exit's offer is refused: ${what}`);
/** For messages only: a date that is out of Date's range must not throw out of a check. */
const iso = (at: Instant): string => (at <= 8.64e15 ? new Date(at).toISOString() : `${at} ms`);
