// @peculiar/x509 resolves its parts through decorators and does not load without this.
import 'reflect-metadata';
import { createHash, webcrypto } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import type { CertificateAuthority, CertificateRequest, CertificateTools } from '../core/ports/authority.js';
import { VpndError } from '../model/errors.js';
import type { PeerId } from '../model/ids.js';
import { shortId } from '../model/ids.js';
import { days, type Instant, instantOf, type Millis } from '../model/time.js';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;
const CA_NAME = 'CN=vpnd overlay CA';
const CA_VALIDITY = days(3650);
/**
 * How far a certificate may lie back: as long as it is valid for, at most a day. A node whose clock is an hour slow then
 * gets through TLS and is told `clock-skew` with a number, where it would read "certificate is not yet valid". It gives
 * nobody anything: before it was signed, nobody had the certificate.
 */
const BACKDATE_LIMIT = days(1);

x509.cryptoProvider.set(webcrypto as unknown as Parameters<typeof x509.cryptoProvider.set>[0]);

/** Certificates by @peculiar/x509 over WebCrypto: ECDSA P-256, SHA-256. */
export function certificateTools(): CertificateTools {
  return { newRequest, validity, openAuthority, newAuthority };
}

async function newRequest(): Promise<CertificateRequest> {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=vpnd',
    keys,
    signingAlgorithm: ALGORITHM,
  });
  return { csr: new Uint8Array(csr.rawData), privateKey: await pemOfKey(keys.privateKey) };
}

function validity(certificate: string): { notBefore: Instant; notAfter: Instant } {
  const parsed = parseCertificate(certificate);
  return { notBefore: instantOf(parsed.notBefore.getTime()), notAfter: instantOf(parsed.notAfter.getTime()) };
}

async function openAuthority(pem: { certificate: string; privateKey: string }): Promise<CertificateAuthority> {
  const certificate = parseCertificate(pem.certificate);
  let key: webcrypto.CryptoKey;
  try {
    const der = x509.PemConverter.decodeFirst(pem.privateKey);
    key = await webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
  } catch (cause) {
    throw new VpndError('state-unreadable', 'the private key of the CA is not a PKCS#8 P-256 key', { cause });
  }
  return authorityOf(certificate, key);
}

async function newAuthority(now: Instant) {
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    name: CA_NAME,
    keys,
    notBefore: new Date(now - BACKDATE_LIMIT),
    notAfter: new Date(now + CA_VALIDITY),
    signingAlgorithm: ALGORITHM,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  const authority = await authorityOf(certificate, keys.privateKey);
  return {
    authority,
    identity: { certificate: authority.certificate, privateKey: await pemOfKey(keys.privateKey) },
  };
}

async function authorityOf(ca: x509.X509Certificate, key: webcrypto.CryptoKey): Promise<CertificateAuthority> {
  const certificate = pemOf(ca);
  const authorityKey = await x509.AuthorityKeyIdentifierExtension.create(ca.publicKey);
  return {
    certificate,
    keyHash: new Uint8Array(createHash('sha256').update(new Uint8Array(ca.publicKey.rawData)).digest()),

    async issue(csr, subject, now, valid) {
      const request = await checkedRequest(csr);
      const leaf = await x509.X509CertificateGenerator.create({
        // Nothing of the request but its key is taken over: a name asked for is not a name given.
        publicKey: request.publicKey,
        subject: subject.kind === 'base' ? 'CN=vpnd base' : `CN=vpnd supernode ${shortId(subject.id)}`,
        issuer: ca.subject,
        notBefore: new Date(now - Math.min(valid, BACKDATE_LIMIT)),
        notAfter: new Date(now + clampValidity(valid, now, ca)),
        signingKey: key,
        signingAlgorithm: ALGORITHM,
        extensions: [
          new x509.BasicConstraintsExtension(false, undefined, true),
          new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
          new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
          new x509.SubjectAlternativeNameExtension([
            { type: 'url', value: subjectUri(subject) },
            { type: 'dns', value: 'vpnd' },
          ]),
          authorityKey,
          await x509.SubjectKeyIdentifierExtension.create(request.publicKey),
        ],
      });
      return pemOf(leaf) + certificate;
    },
  };
}

/** The name that diallers insist on: `vpnd://base` or `vpnd://supernode/<peer id>`. */
export const subjectUri = (subject: { kind: 'base' } | { kind: 'supernode'; id: PeerId }): string =>
  subject.kind === 'base' ? 'vpnd://base' : `vpnd://supernode/${subject.id}`;

async function checkedRequest(der: Uint8Array): Promise<x509.Pkcs10CertificateRequest> {
  let request: x509.Pkcs10CertificateRequest;
  let genuine: boolean;
  try {
    request = new x509.Pkcs10CertificateRequest(new Uint8Array(der));
    genuine = await request.verify();
  } catch (cause) {
    throw new VpndError('bad-message', 'the certificate request is not PKCS#10', { cause });
  }
  const algorithm = request.publicKey.algorithm as { name?: string; namedCurve?: string };
  if (algorithm.name !== 'ECDSA' || algorithm.namedCurve !== 'P-256')
    throw new VpndError('bad-message', 'the certificate request is for a key that is not ECDSA P-256');
  // Shows that whoever asks holds the key.
  if (!genuine) throw new VpndError('bad-signature', 'the certificate request is not signed by its own key');
  return request;
}

/** A leaf that outlives its CA would be refused by everybody at a moment nobody expects. */
function clampValidity(valid: Millis, now: Instant, ca: x509.X509Certificate): number {
  return Math.max(0, Math.min(valid, ca.notAfter.getTime() - now));
}

function parseCertificate(pem: string): x509.X509Certificate {
  try {
    return new x509.X509Certificate(x509.PemConverter.decodeFirst(pem));
  } catch (cause) {
    throw new VpndError('state-unreadable', 'this is not a certificate in PEM', { cause });
  }
}

const pemOf = (certificate: x509.X509Certificate): string => `${certificate.toString('pem').trim()}\n`;

async function pemOfKey(key: webcrypto.CryptoKey): Promise<string> {
  const der = await webcrypto.subtle.exportKey('pkcs8', key);
  return `${x509.PemConverter.encode(der, x509.PemConverter.PrivateKeyTag).trim()}\n`;
}
