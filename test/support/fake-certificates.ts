import type { CertificateAuthority, CertificateTools } from '../../src/core/ports/authority.js';
import { type Bytes, toHex, utf8 } from '../../src/model/bytes.js';
import { VpndError } from '../../src/model/errors.js';
import { type Instant, instantOf, type Millis } from '../../src/model/time.js';

/** What a fake certificate says, which is JSON where a real one is PEM. */
export interface FakeCertificate {
  readonly subject: string;
  readonly key: string;
  readonly notBefore: number;
  readonly notAfter: number;
}

export const readFake = (certificate: string): FakeCertificate => JSON.parse(certificate) as FakeCertificate;

/** Certificates without cryptography, settled within one turn of the event loop: virtual time needs that. */
export function fakeCertificates(): CertificateTools {
  let serial = 0;
  const authority: CertificateAuthority = {
    certificate: JSON.stringify({ subject: 'ca', key: 'ca', notBefore: 0, notAfter: Number.MAX_SAFE_INTEGER }),
    keyHash: new Uint8Array(32).fill(0xca),
    async issue(csr: Bytes, subject, now: Instant, validity: Millis) {
      if (!toHex(csr).startsWith(toHex(utf8('csr')))) throw new VpndError('bad-message', 'not a certificate request');
      return JSON.stringify({
        subject: subject.kind === 'base' ? 'base' : subject.id,
        key: toHex(csr),
        notBefore: now - validity,
        notAfter: now + validity,
      });
    },
  };
  return {
    newRequest: async () => ({ csr: utf8(`csr ${++serial}`), privateKey: `key ${serial}` }),
    validity(certificate) {
      const { notBefore, notAfter } = readFake(certificate);
      return { notBefore: instantOf(notBefore), notAfter: instantOf(notAfter) };
    },
    openAuthority: async () => authority,
    newAuthority: async () => ({ authority, identity: { certificate: authority.certificate, privateKey: 'ca key' } }),
  };
}
