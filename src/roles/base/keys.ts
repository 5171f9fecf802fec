import type { CertificateAuthority, CertificateTools } from '../../core/ports/authority.js';
import type { Identity } from '../../core/ports/crypto.js';
import type { StateDir } from '../../identity/state-dir.js';
import type { Instant } from '../../model/time.js';

/** What makes a base this overlay's base. Losing either means that every node enrols anew. */
export interface BaseKeys {
  /** Signs memberships. */
  readonly identity: Identity;
  /** Signs the TLS certificates of supernodes and of base itself. */
  readonly authority: CertificateAuthority;
}

/** Reads both from the state directory, making what is not there yet. Rejects as StateDir does. */
export async function loadBaseKeys(dir: StateDir, certificates: CertificateTools, now: Instant): Promise<BaseKeys> {
  const identity = dir.identity();
  const stored = dir.ca();
  if (stored !== undefined) return { identity, authority: await certificates.openAuthority(stored) };
  const fresh = await certificates.newAuthority(now);
  dir.saveCa(fresh.identity);
  return { identity, authority: fresh.authority };
}
