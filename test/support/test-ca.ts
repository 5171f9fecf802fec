import type { CertificateAuthority, CertificateTools } from '../../src/core/ports/authority.js';
import type { ExpectedServer, TlsIdentity } from '../../src/core/ports/network.js';
import { type Instant, instantOf, type Millis, ms } from '../../src/model/time.js';

/** An overlay's CA for tests, over the real certificate tools or those of a simulation. */
export interface TestCa {
  readonly authority: CertificateAuthority;
  /** A fresh key and its certificate, with the CA's appended. */
  identity(node: ExpectedServer, valid?: { from?: Instant; for?: Millis }): Promise<TlsIdentity>;
}

const A_DAY = ms(86_400_000);

export async function testCa(tools: CertificateTools, now: Instant = instantOf(Date.now())): Promise<TestCa> {
  // A CA older than anything it signs, so that a leaf can lie in the past.
  const { authority } = await tools.newAuthority(instantOf(now - 30 * A_DAY));
  return {
    authority,
    async identity(node, valid = {}) {
      const request = await tools.newRequest();
      const certificate = await authority.issue(request.csr, node, valid.from ?? now, valid.for ?? A_DAY);
      return { certificate, privateKey: request.privateKey };
    },
  };
}
