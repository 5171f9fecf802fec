import type { SodiumCrypto } from '../../src/identity/sodium.js';
import { openStateDir } from '../../src/identity/state-dir.js';
import { statements } from '../../src/identity/statements.js';
import { fromBase64, toBase64 } from '../../src/model/bytes.js';
import type { PeerId } from '../../src/model/ids.js';
import type { WireGuardPublicKey } from '../../src/model/keys.js';
import type { Signed } from '../../src/model/membership.js';
import type { MemberRole, Region } from '../../src/model/role.js';
import { days, type Instant, minutes, ms, plus } from '../../src/model/time.js';

/** A client or exit that a base vouches for, as JSON. */
export interface Member {
  readonly role: Exclude<MemberRole, 'supernode'>;
  /** Base64; the identity follows from it. */
  readonly seed: string;
  /** Its membership's bytes and signature, base64. */
  readonly body: string;
  readonly signature: string;
}

/** What a load generator must know of the overlay, besides its members. */
export interface OverlayKeys {
  readonly ca: string;
  readonly supernode: PeerId;
}

/**
 * `count` members, the first of them exits and the others clients, with memberships signed by the key of the base whose
 * state directory this is: what enrolling them one by one gives, without a TLS connection for each.
 */
export function signMembers(
  baseDir: string,
  supernodeDir: string,
  options: { readonly count: number; readonly exits?: number; readonly region: Region; readonly now: Instant },
  crypto: SodiumCrypto,
): { readonly keys: OverlayKeys; readonly members: readonly Member[] } {
  const base = openStateDir(baseDir, crypto, { lock: false });
  const ca = base.ca();
  if (ca === undefined) throw new Error(`${baseDir} holds no CA`);
  const signer = base.identity();
  const { signMembership } = statements(crypto);
  const members = Array.from({ length: options.count }, (_, i): Member => {
    const { identity, seed } = crypto.newIdentity();
    const role = i < (options.exits ?? 0) ? 'exit' : 'client';
    const { body, signature } = signMembership(signer, {
      peer: identity.id,
      roles: [role],
      region: options.region,
      pool: '',
      notBefore: plus(options.now, ms(-minutes(5))),
      notAfter: plus(options.now, days(1)),
      epoch: 0,
    });
    return { role, seed: toBase64(seed), body: toBase64(body), signature: toBase64(signature) };
  });
  const supernode = openStateDir(supernodeDir, crypto, { lock: false }).identity().id;
  return { keys: { ca: ca.certificate, supernode }, members };
}

/** Throws for text that is no base64. */
function membershipOf(member: Member): Signed {
  return { body: bytesOf(member.body), signature: bytesOf(member.signature) };
}

/** What a member that is nothing but a stream says of itself. Throws for text that is no base64. */
export const selfOf = (member: Member, region: string, software: string, wireguardKey?: WireGuardPublicKey) =>
  ({
    membership: membershipOf(member),
    role: member.role,
    region: region as Region,
    wireguardKey,
    capabilities: {
      software,
      ipv6: false,
      publicEndpoint: undefined,
      country: undefined,
      maxMbps: 0,
      sessionCapacity: member.role === 'exit' ? 10_000 : 0,
    },
    sessions: [],
    supernode: undefined,
  }) as const;

export function bytesOf(text: string): Uint8Array {
  const bytes = fromBase64(text);
  if (bytes === undefined) throw new Error('expected base64');
  return bytes;
}
