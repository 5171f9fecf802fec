import type { Audit, AuditActor } from '../../core/ports/audit.js';
import type { CertificateAuthority } from '../../core/ports/authority.js';
import type { Clock } from '../../core/ports/clock.js';
import { RateLimiter } from '../../core/rate-limit.js';
import { type ErrorCode, toVpndError } from '../../model/errors.js';
import type { PeerId } from '../../model/ids.js';
import type { MemberRole } from '../../model/role.js';

/** Each use of the CA's key is written down. */
export function auditedAuthority(authority: CertificateAuthority, audit: Audit): CertificateAuthority {
  return {
    get certificate() {
      return authority.certificate;
    },
    get keyHash() {
      return authority.keyHash;
    },
    async issue(csr, subject, now, validity) {
      const certificate = await authority.issue(csr, subject, now, validity);
      const on = subject.kind === 'base' ? 'base' : `supernode:${subject.id}`;
      audit.note({ code: 'certificate-issued', by: 'daemon', on, detail: { hours: Math.round(validity / 3_600_000) } });
      return certificate;
    },
  };
}

/** Anybody can be refused as often as they like, so no more than this is written down of it. */
const WRITTEN = { perMinute: 30, burst: 60 };
/** Of those who were not even listened to nothing is known. */
const UNHEARD: ReadonlySet<ErrorCode> = new Set(['rate-limited']);

/** Who wanted to be enrolled and was not. */
export class RefusedEnrolments {
  readonly #limit: RateLimiter;
  #unwritten = 0;

  constructor(
    private readonly audit: Audit,
    clock: Clock,
  ) {
    this.#limit = new RateLimiter({ ...WRITTEN, maxKeys: 1 }, clock);
  }

  /** Answers with what it was given, once it has noted it. */
  noted(thrown: unknown, { peer, role }: { readonly peer: PeerId; readonly role: MemberRole }): unknown {
    const { code } = toVpndError(thrown);
    if (UNHEARD.has(code)) return thrown;
    if (!this.#limit.allow('everybody')) {
      this.#unwritten++;
      return thrown;
    }
    const by: AuditActor = 'stranger';
    const more = this.#unwritten > 0 ? { unwritten_before: this.#unwritten } : {};
    this.#unwritten = 0;
    this.audit.note({ code: 'enrolment-refused', by, on: `peer:${peer}`, detail: { refused: code, role, ...more } });
    return thrown;
  }
}
