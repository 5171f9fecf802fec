import type { CertificateAuthority, CertificateTools } from '../../core/ports/authority.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { TlsIdentity } from '../../core/ports/network.js';
import type { Millis } from '../../model/time.js';
import { Renewer } from '../common/renewal.js';

/**
 * Certificates lie back as long as they are valid for (see identity/ca.ts), so five sixths of the whole are two thirds of
 * what was left when they were issued.
 */
const RENEW_AFTER = 5 / 6;

interface Ports {
  readonly clock: Clock;
  readonly log: Log;
  readonly certificates: CertificateTools;
}

/** base's own TLS certificate: a fresh key at every start and renewal, never on disk. */
export class OwnCertificate {
  #current: TlsIdentity;
  readonly #renewer: Renewer;
  readonly #renew: () => Promise<void>;

  private constructor(first: TlsIdentity, renew: () => Promise<TlsIdentity>, changed: () => void, ports: Ports) {
    this.#current = first;
    this.#renew = async () => {
      this.#current = await renew();
      changed();
    };
    this.#renewer = new Renewer(
      {
        what: "base's certificate",
        after: RENEW_AFTER,
        validity: () => ports.certificates.validity(this.#current.certificate),
        renew: this.#renew,
      },
      ports,
    );
  }

  /** Issues the first one. `changed` is called after every renewal. */
  static async issue(
    authority: CertificateAuthority,
    validity: Millis,
    ports: Ports,
    changed: () => void,
  ): Promise<OwnCertificate> {
    const renew = async (): Promise<TlsIdentity> => {
      const request = await ports.certificates.newRequest();
      const certificate = await authority.issue(request.csr, { kind: 'base' }, ports.clock.now(), validity);
      return { certificate, privateKey: request.privateKey };
    };
    return new OwnCertificate(await renew(), renew, changed, ports);
  }

  get identity(): TlsIdentity {
    return this.#current;
  }

  /** Before it is due: another CA issues from now on. */
  renew(): Promise<void> {
    return this.#renew();
  }

  start(): void {
    this.#renewer.start();
  }

  stop(): void {
    this.#renewer.stop();
  }
}
