import { createHash, X509Certificate } from 'node:crypto';
import type { CertificateAuthority, CertificateTools } from '../../core/ports/authority.js';
import type { Random } from '../../core/ports/random.js';
import { type Bytes, equalConstantTime, fromHex, toHex, utf8 } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import { instantOf } from '../../model/time.js';
import { keyHash, uriNames, uriOf } from '../grpc/certificates.js';

const CERTIFICATE = 'vpnd-memory-certificate ';
const REQUEST = 'vpnd-memory-request ';
const KEY = 'vpnd-memory-key ';

/** What the in-memory network looks at in a certificate. */
export interface ReadCertificate {
  readonly text: string;
  readonly keyHash: Bytes;
  readonly uris: readonly string[];
  readonly notBefore: number;
  readonly notAfter: number;
  issuedBy(ca: ReadCertificate): boolean;
}

interface Fields {
  readonly uri: string;
  readonly key: string;
  readonly issuer: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

/**
 * A certificate authority for simulations: certificates are lines of JSON, made at once and by the given chance, so that
 * a run replays. Nothing is signed: in a simulation nobody forges.
 */
export function memoryCertificates(random: Random): CertificateTools {
  const newKey = () => toHex(random.bytes(32));
  return {
    async newRequest() {
      const key = newKey();
      return { csr: utf8(REQUEST + key), privateKey: KEY + key };
    },
    validity(certificate) {
      const { notBefore, notAfter } = first(certificate);
      return { notBefore: instantOf(notBefore), notAfter: instantOf(notAfter) };
    },
    openAuthority: async (pem) => authorityOf(pem.certificate),
    async newAuthority(now) {
      const key = newKey();
      const certificate = write({ uri: '', key, issuer: key, notBefore: now, notAfter: now + 3650 * 86_400_000 });
      return { authority: authorityOf(certificate), identity: { certificate, privateKey: KEY + key } };
    },
  };
}

function authorityOf(certificate: string): CertificateAuthority {
  const ca = first(certificate);
  const { key: issuer } = fieldsOf(certificate.trim());
  return {
    certificate,
    keyHash: ca.keyHash,
    async issue(csr, subject, now, validity) {
      const text = Buffer.from(csr).toString('utf8');
      const key = text.slice(REQUEST.length);
      if (!text.startsWith(REQUEST) || fromHex(key)?.length !== 32)
        throw new VpndError('bad-message', 'this is not a certificate request');
      return write({ uri: uriOf(subject), key, issuer, notBefore: now, notAfter: now + validity }) + certificate;
    },
  };
}

const write = (fields: Fields): string => `${CERTIFICATE}${JSON.stringify(fields)}\n`;

function fieldsOf(line: string): Fields {
  try {
    if (!line.startsWith(CERTIFICATE)) throw new Error('not a certificate of a simulation');
    return JSON.parse(line.slice(CERTIFICATE.length)) as Fields;
  } catch (cause) {
    throw new VpndError('state-unreadable', 'this is not a certificate', { cause });
  }
}

function first(chain: string): ReadCertificate {
  const [certificate] = readChain(chain);
  if (certificate === undefined) throw new VpndError('state-unreadable', 'this is not a certificate');
  return certificate;
}

/** A chain as a TlsIdentity holds it: certificates of a simulation, or real ones in PEM. */
export function readChain(chain: string): readonly ReadCertificate[] {
  const pems = chain.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
  if (pems !== null) return pems.map(readX509);
  return chain
    .split('\n')
    .filter((line) => line !== '')
    .map(readLine);
}

function readLine(line: string): ReadCertificate {
  const { uri, key, issuer, notBefore, notAfter } = fieldsOf(line);
  const hashOf = (hex: string) => new Uint8Array(createHash('sha256').update(hex).digest());
  return {
    text: `${line}\n`,
    keyHash: hashOf(key),
    uris: uri === '' ? [] : [uri],
    notBefore,
    notAfter,
    issuedBy: (ca) => equalConstantTime(hashOf(issuer), ca.keyHash),
  };
}

function readX509(pem: string): ReadCertificate {
  const certificate = new X509Certificate(pem);
  return {
    text: `${pem}\n`,
    keyHash: keyHash(certificate.publicKey),
    uris: uriNames(certificate),
    notBefore: Date.parse(certificate.validFrom),
    notAfter: Date.parse(certificate.validTo),
    issuedBy: (ca) => ca.text.startsWith('-----') && certificate.verify(new X509Certificate(ca.text).publicKey),
  };
}
