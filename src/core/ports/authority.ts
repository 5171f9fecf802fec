import type { Anchors } from '../../model/anchors.js';
import type { Bytes } from '../../model/bytes.js';
import type { VpndError } from '../../model/errors.js';
import type { PeerId } from '../../model/ids.js';
import type { Membership, Signed } from '../../model/membership.js';
import type { Offer } from '../../model/offer.js';
import type { Result } from '../../model/result.js';
import type { RevocationHead } from '../../model/revocation.js';
import type { Instant, Millis } from '../../model/time.js';
import type { Identity } from './crypto.js';
import type { TlsIdentity } from './network.js';

/** base's key, or its keys while one takes the place of another; asked for at every check. */
export type BaseKey = Bytes | { readonly keys: readonly Bytes[] };

/** Statements between parsing and trust: encode and sign, check and decode. Real: src/identity/statements.ts. */
export interface Statements {
  signMembership(base: Identity, membership: Membership): Signed;
  /**
   * Offline check: base's signature, validity at `now` (with `tolerance` for clocks that are a little off).
   * Errors: bad-membership, membership-expired.
   */
  checkMembership(baseKey: BaseKey, signed: Signed, now: Instant, tolerance?: Millis): Result<Membership, VpndError>;
  /** base's statement of who is shut out. */
  signRevocations(base: Identity, head: RevocationHead): Signed;
  /** base's signature; which of two is newer their epochs say, and no clock. Errors: bad-revocations. */
  checkRevocations(baseKey: BaseKey, signed: Signed): Result<RevocationHead, VpndError>;
  /** base's statement of its keys and CAs, by a key of the statement before. */
  signAnchors(base: Identity, anchors: Anchors): Signed;
  /** Errors: bad-signature, bad-message. */
  checkAnchors(baseKey: BaseKey, signed: Signed): Result<Anchors, VpndError>;
  signOffer(exit: Identity, offer: Offer): Signed;
  /** The exit's signature and the expiry. Errors: bad-offer. */
  checkOffer(exit: PeerId, signed: Signed, now: Instant): Result<Offer, VpndError>;
}

/** base's certificate authority (X.509, ECDSA P-256). Real: src/identity/ca.ts. */
export interface CertificateAuthority {
  /** PEM. */
  readonly certificate: string;
  /** SHA-256 of the CA's SubjectPublicKeyInfo. */
  readonly keyHash: Bytes;
  /** A server-and-client certificate for a CSR whose signature is checked; PEM with the CA's appended. */
  issue(
    csr: Bytes,
    subject: { kind: 'supernode'; id: PeerId } | { kind: 'base' },
    now: Instant,
    validity: Millis,
  ): Promise<string>;
}

/** A TLS key pair of a node, and its signing request (PKCS#10 DER). */
export interface CertificateRequest {
  readonly csr: Bytes;
  /** PEM, PKCS#8. */
  readonly privateKey: string;
}

export interface CertificateTools {
  newRequest(): Promise<CertificateRequest>;
  /** When a PEM certificate ends. */
  validity(certificate: string): { readonly notBefore: Instant; readonly notAfter: Instant };
  openAuthority(pem: { readonly certificate: string; readonly privateKey: string }): Promise<CertificateAuthority>;
  newAuthority(now: Instant): Promise<{ readonly authority: CertificateAuthority; readonly identity: TlsIdentity }>;
}
