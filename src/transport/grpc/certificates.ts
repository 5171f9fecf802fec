import { createHash, type KeyObject, X509Certificate } from 'node:crypto';
import type { ExpectedServer } from '../../core/ports/network.js';
import type { Bytes } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import { type PeerId, parsePeerId, shortId } from '../../model/ids.js';

const SUPERNODE_URI = 'vpnd://supernode/';

/** The URI that a node's certificate carries as a subject alternative name. */
export const uriOf = (node: ExpectedServer): string =>
  node.kind === 'base' ? 'vpnd://base' : `${SUPERNODE_URI}${node.id}`;

/** For messages to people. */
export const describe = (node: ExpectedServer): string =>
  node.kind === 'base' ? 'base' : `supernode ${shortId(node.id)}`;

/** SHA-256 of a key's SubjectPublicKeyInfo (DER). */
export const keyHash = (key: KeyObject): Bytes =>
  new Uint8Array(
    createHash('sha256')
      .update(key.export({ type: 'spki', format: 'der' }))
      .digest(),
  );

/** The first certificate of a chain in PEM. Throws VpndError `state-unreadable`. */
export function certificateOf(pem: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new VpndError('state-unreadable', 'a certificate in PEM was expected', { cause });
  }
}

/** The URIs among a certificate's subject alternative names. */
export function uriNames(certificate: X509Certificate): readonly string[] {
  // Node writes `URI:a, DNS:b` and quotes every name in which a comma could pass for a separator.
  const names = certificate.subjectAltName?.match(/[A-Za-z0-9 ]+:(?:"(?:[^"\\]|\\.)*"|[^,]*)/g) ?? [];
  return names.map((name) => name.trim()).flatMap((name) => (name.startsWith('URI:') ? [name.slice(4)] : []));
}

export interface Certified {
  readonly peer: PeerId;
  readonly notBefore: number;
  readonly notAfter: number;
}

/** All certificates of a text in PEM, at least one. Throws VpndError `state-unreadable`. */
export function authoritiesOf(pem: string): readonly X509Certificate[] {
  const all = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
  return (all ?? [pem]).map(certificateOf);
}

/** Which supernode a client certificate is for, its signature checked by a CA's key; undefined for any other. */
export function certifiedSupernode(raw: Uint8Array, authorities: readonly X509Certificate[]): Certified | undefined {
  const certificate = new X509Certificate(raw);
  const isOf = (ca: X509Certificate) => certificate.checkIssued(ca) && certificate.verify(ca.publicKey);
  if (certificate.ca || !authorities.some(isOf)) return undefined;
  const uris = uriNames(certificate).filter((uri) => uri.startsWith('vpnd://'));
  const [uri] = uris;
  if (uri === undefined || uris.length !== 1 || !uri.startsWith(SUPERNODE_URI)) return undefined;
  const peer = parsePeerId(uri.slice(SUPERNODE_URI.length));
  return peer.ok
    ? { peer: peer.value, notBefore: Date.parse(certificate.validFrom), notAfter: Date.parse(certificate.validTo) }
    : undefined;
}
