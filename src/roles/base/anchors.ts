import type { BaseConfig } from '../../config/types.js';
import type { Audit } from '../../core/ports/audit.js';
import type { CertificateAuthority, CertificateTools, Statements } from '../../core/ports/authority.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Crypto, Identity } from '../../core/ports/crypto.js';
import type { Log } from '../../core/ports/log.js';
import type { TlsIdentity } from '../../core/ports/network.js';
import type { FactStore } from '../../core/ports/store.js';
import type { RotateKeyRequest } from '../../gen/vpnd/v1/admin_pb.js';
import type { Bytes } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import { keyOf } from '../../model/ids.js';
import type { Signed } from '../../model/membership.js';
import { hours, type Instant, instantOf, type Millis, ms, plus, seconds } from '../../model/time.js';
import { MAX_ANCHOR_CHAIN } from '../../transport/codec/limits.js';
import { keyReason, unknownKey } from '../common/key-request.js';
import { Periodic } from '../common/periodic.js';
import { bundleOf } from '../common/trust-anchors.js';
import type { BaseKeys } from './keys.js';

const FACT = 'anchors';
const LOOK_EVERY: Millis = seconds(10);

/** What is replaced at present. */
export type AnchorKind = 'ca' | 'base';

/**
 * `announced`: both count, and the one before is used still, until everybody has heard of the new one. `used`: both count,
 * and the new one is used, until nothing is left by the one before.
 */
interface Overlap {
  readonly kind: AnchorKind;
  readonly phase: 'announced' | 'used';
  readonly since: Instant;
  readonly lasts: Millis;
}

interface Kept {
  readonly serial: number;
  /** The one in use first. */
  readonly authorities: readonly TlsIdentity[];
  /** Seeds of the keys that sign; none for the node's identity. The one in use first. */
  readonly signers: readonly (Bytes | 'identity')[];
  readonly overlap?: Overlap | undefined;
  /** Oldest first, for nodes that have missed some. */
  readonly chain: readonly Signed[];
}

/** The CA in use, where one was ever replaced. */
export const keptAuthority = (facts: FactStore): TlsIdentity | undefined => facts.get<Kept>(FACT)?.authorities[0];

export interface AnchorsDeps {
  readonly keys: BaseKeys;
  readonly facts: FactStore;
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly statements: Statements;
  readonly certificates: CertificateTools;
  readonly audit: Audit;
  readonly log: Log;
  /** Others count, or are used, than before: everything that shows or checks them follows. */
  readonly changed: (kind: AnchorKind, chain: readonly Signed[]) => Promise<void>;
  /** A private key was taken off the record. */
  readonly erase: () => void;
}

/**
 * base's signing key and CA, and their replacement: announced, used, and the one before dropped, each by a signed
 * statement. Every step is one write, and the rest follows from what is written: after a power cut, too.
 */
export class BaseAnchors {
  #kept: Kept;
  #authority: CertificateAuthority;
  #signers: readonly Identity[];
  readonly #looking: Periodic;
  /** Signs with the key in use, whichever that is. */
  readonly signer: Identity;
  /** Issues by the CA in use. */
  readonly authority: CertificateAuthority;

  private constructor(
    private readonly deps: AnchorsDeps,
    kept: Kept,
    authority: CertificateAuthority,
  ) {
    this.#kept = kept;
    this.#authority = authority;
    this.#signers = this.#open(kept);
    this.#looking = new Periodic('replacing keys of base', LOOK_EVERY, () => this.#look(), deps);
    const signing = () => this.#signing;
    this.signer = {
      get id() {
        return signing().id;
      },
      sign: (input) => signing().sign(input),
    };
    const issuing = () => this.#authority;
    this.authority = {
      get certificate() {
        return issuing().certificate;
      },
      get keyHash() {
        return issuing().keyHash;
      },
      issue: (...asked) => issuing().issue(...asked),
    };
  }

  static async open(deps: AnchorsDeps): Promise<BaseAnchors> {
    const { keys, facts, certificates } = deps;
    const kept = facts.get<Kept>(FACT);
    if (kept === undefined) {
      const first = { certificate: keys.authority.certificate, privateKey: keys.privateKey ?? '' };
      const begin: Kept = { serial: 0, authorities: [first], signers: ['identity'], chain: [] };
      return new BaseAnchors(deps, begin, keys.authority);
    }
    const [first] = kept.authorities;
    if (first === undefined) throw new VpndError('state-corrupt', 'the database of base names no CA');
    const open = new BaseAnchors(deps, kept, await certificates.openAuthority(first));
    // A crash may have come before the files followed.
    open.#tidyFiles();
    return open;
  }

  /** PEM of all that count. */
  get bundle(): string {
    return bundleOf(this.#kept.authorities.map(({ certificate }) => certificate));
  }

  /** base's keys that count: what any of them has signed is base's. */
  get keys(): readonly Bytes[] {
    return this.#signers.map(({ id }) => keyOf(id));
  }

  get chain(): readonly Signed[] {
    return this.#kept.chain;
  }

  /** For a status: what is replaced, and when that ends; undefined while nothing is. */
  get underWay(): string | undefined {
    const { overlap } = this.#kept;
    if (overlap === undefined) return undefined;
    const what = NAMES[overlap.kind];
    const at = (part: number) => new Date(overlap.since + overlap.lasts * part).toISOString();
    return overlap.phase === 'announced'
      ? `${what}: announced; the new one is used from ${at(0.5)}, the one before counts until ${at(1)}`
      : `${what}: the new one is used; the one before counts until ${at(1)}`;
  }

  /** Another key has begun to sign what the one before signed. */
  get isNewSigner(): boolean {
    const { overlap } = this.#kept;
    return overlap?.kind === 'base' && overlap.phase === 'used';
  }

  start(): void {
    this.#looking.start();
  }

  stop(): Promise<void> {
    return this.#looking.stop();
  }

  /**
   * Begins to replace the CA or the signing key. Resolves when the new one is published. Rejects with `draining` while
   * another replacement goes on, and with what audit and store reject with; nothing has changed then.
   */
  async rotate(kind: AnchorKind, lasts: Millis, reason: string): Promise<Instant> {
    if (this.#kept.overlap !== undefined)
      throw new VpndError('draining', `another replacement goes on: ${this.underWay}`, { retryable: true });
    const { clock, crypto, certificates, audit } = this.deps;
    const now = clock.now();
    await audit.record({
      code: 'key-rotated',
      by: 'operator',
      on: `key:${kind}`,
      detail: { step: 'announced', reason },
    });
    const { authorities, signers } = this.#kept;
    const next =
      kind === 'ca'
        ? { authorities: [...authorities, (await certificates.newAuthority(now)).identity], signers }
        : { authorities, signers: [...signers, crypto.newIdentity().seed] };
    await this.#become({ ...this.#kept, ...next, overlap: { kind, phase: 'announced', since: now, lasts } });
    return plus(now, lasts);
  }

  async #look(): Promise<void> {
    const { overlap, authorities, signers } = this.#kept;
    if (overlap === undefined) return;
    const { kind, phase, since, lasts } = overlap;
    const now = this.deps.clock.now();
    if (phase === 'announced' && now >= plus(since, ms(lasts / 2))) {
      this.#note(kind, 'used');
      const turned =
        kind === 'ca'
          ? { authorities: [...authorities].reverse(), signers }
          : { authorities, signers: [...signers].reverse() };
      await this.#become({ ...this.#kept, ...turned, overlap: { ...overlap, phase: 'used' } });
    } else if (phase === 'used' && now >= plus(since, lasts)) {
      this.#note(kind, 'dropped');
      const left =
        kind === 'ca'
          ? { authorities: authorities.slice(0, 1), signers }
          : { authorities, signers: signers.slice(0, 1) };
      await this.#become({ ...this.#kept, ...left, overlap: undefined });
      this.#tidyFiles();
      this.deps.erase();
    }
  }

  /** Each statement is signed by the key in use before it: whoever knows that one can follow. */
  async #become(next: Omit<Kept, 'serial' | 'chain'>): Promise<void> {
    const { facts, clock, statements, certificates, changed, log } = this.deps;
    const serial = this.#kept.serial + 1;
    const signers = this.#open(next);
    const statement = statements.signAnchors(this.#signing, {
      serial,
      issuedAt: instantOf(Math.floor(clock.now())),
      baseKeys: signers.map(({ id }) => keyOf(id)),
      authorities: next.authorities.map(({ certificate }) => certificate),
    });
    const [issuing] = next.authorities;
    if (issuing === undefined) throw new VpndError('internal', 'base is left without a CA');
    const isSame = issuing.certificate === this.#authority.certificate;
    const authority = isSame ? this.#authority : await certificates.openAuthority(issuing);
    const chain = [...this.#kept.chain, statement].slice(-MAX_ANCHOR_CHAIN);
    const kind = (next.overlap ?? this.#kept.overlap)?.kind ?? 'ca';
    const kept: Kept = { ...next, serial, chain };
    facts.put(FACT, kept);
    this.#kept = kept;
    this.#signers = signers;
    this.#authority = authority;
    log.info(`base goes by other keys or CAs (statement ${serial})`);
    await changed(kind, chain);
  }

  get #signing(): Identity {
    return this.#signers[0] ?? this.deps.keys.identity;
  }

  #open({ signers }: Pick<Kept, 'signers'>): readonly Identity[] {
    const { keys, crypto } = this.deps;
    return signers.map((one) => (one === 'identity' ? keys.identity : crypto.identityFromSeed(one)));
  }

  /** The database has the CA from the first replacement on; its files follow, so that nothing stays of the one before. */
  #tidyFiles(): void {
    const [only, another] = this.#kept.authorities;
    if (only === undefined || another !== undefined) return;
    try {
      this.deps.keys.keepAuthority?.(only);
    } catch (err) {
      this.deps.log.warn('the files of a CA that was replaced may still be there', { err });
    }
  }

  #note(kind: AnchorKind, step: string): void {
    this.deps.audit.note({ code: 'key-rotated', by: 'daemon', on: `key:${kind}`, detail: { step } });
  }
}

const NAMES: Readonly<Record<AnchorKind, string>> = { ca: 'the CA', base: 'the key that base signs with' };

/** `vpnd keys rotate ca` and `base`. Rejects with `bad-config` for an overlap that nodes could not follow, and as `rotate`. */
export async function rotateAnchor(
  config: Pick<BaseConfig, 'certificateTtl' | 'membershipTtl'>,
  anchors: BaseAnchors,
  { what, overlapMs, reason }: RotateKeyRequest,
) {
  if (what !== 'ca' && what !== 'base') throw unknownKey('base', what);
  // Whatever is by the one before has been renewed once in each half.
  const least = ms(2 * (what === 'ca' ? config.certificateTtl : config.membershipTtl));
  const lasts = overlapMs === 0n ? least : ms(Number(overlapMs));
  if (lasts < least)
    throw new VpndError(
      'bad-config',
      `--overlap is at least ${readable(least)}: until then there are ${what === 'ca' ? 'certificates' : 'memberships'} by the one before`,
    );
  const until = await anchors.rotate(what, lasts, keyReason(reason));
  const text = `announced; the new one is used from ${at(plus(until, ms(-lasts / 2)))}, and the one before does not count any more from ${at(until)}`;
  return { text, untilMs: BigInt(Math.round(until)) };
}

const readable = (duration: Millis): string =>
  duration >= hours(1) ? `${Math.ceil(duration / hours(1))}h` : `${Math.ceil(duration / seconds(1))}s`;

const at = (instant: Instant): string => new Date(instant).toISOString();
