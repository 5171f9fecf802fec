import type { CertificateAuthority, CertificateTools } from '../../core/ports/authority.js';
import type { Identity } from '../../core/ports/crypto.js';
import type { TlsIdentity } from '../../core/ports/network.js';
import type { FactStore } from '../../core/ports/store.js';
import type { StateDir } from '../../identity/state-dir.js';
import type { Instant } from '../../model/time.js';
import { keptAuthority } from './anchors.js';

/** What makes a base this overlay's base. Losing either means that every node enrols anew. */
export interface BaseKeys {
  /** Signs memberships. */
  readonly identity: Identity;
  /** Signs the TLS certificates of supernodes and of base itself. */
  readonly authority: CertificateAuthority;
  /** The CA's, PEM; kept in the database from the first replacement on. */
  readonly privateKey?: string;
  /** Puts another CA in the place of the one in the state directory, of whose key nothing stays. */
  readonly keepAuthority?: (identity: TlsIdentity) => void;
}

/** Reads both from the state directory, making what is not there yet. Rejects as StateDir does. */
export async function loadBaseKeys(
  dir: StateDir,
  facts: FactStore,
  certificates: CertificateTools,
  now: Instant,
): Promise<BaseKeys> {
  const identity = dir.identity();
  // From the first replacement on the database knows which CA it is, and the files only follow.
  const stored = keptAuthority(facts) ?? dir.ca();
  const keepAuthority = (next: TlsIdentity) => dir.keepCa(next);
  if (stored !== undefined) {
    const { privateKey } = stored;
    return { identity, authority: await certificates.openAuthority(stored), privateKey, keepAuthority };
  }
  const fresh = await certificates.newAuthority(now);
  dir.saveCa(fresh.identity);
  const { privateKey } = fresh.identity;
  return { identity, authority: fresh.authority, privateKey, keepAuthority };
}
