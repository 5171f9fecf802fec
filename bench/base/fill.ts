import { randomBytes } from 'node:crypto';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { CHAIN_START, CHECKPOINT_EVERY, nextEntry, sealed } from '../../src/core/audit-chain.js';
import type { AuditEvent } from '../../src/core/ports/audit.js';
import type { CertificateAuthority } from '../../src/core/ports/authority.js';
import type { Identity } from '../../src/core/ports/crypto.js';
import type { BaseStore } from '../../src/core/ports/store.js';
import { certificateTools } from '../../src/identity/ca.js';
import { hashTokenSecret } from '../../src/identity/secret.js';
import type { SodiumCrypto } from '../../src/identity/sodium.js';
import { openStateDir } from '../../src/identity/state-dir.js';
import { type PeerId, peerIdOf } from '../../src/model/ids.js';
import type { MemberRole, Region } from '../../src/model/role.js';
import { days, type Instant, instantOf, plus } from '../../src/model/time.js';
import { loadBaseKeys } from '../../src/roles/base/keys.js';
import { openBaseStore, STORE_FILE } from '../../src/store/sqlite/open.js';

export interface FillOptions {
  readonly supernodes: number;
  readonly peers: number;
  readonly regions: number;
  /** Nodes that are shut out. */
  readonly revoked: number;
  /** The audit log has the entries of every so manyth enrolment: writing all would be most of the benchmark's time. */
  readonly auditEvery: number;
  /** Members whose keys are known, so that calls can be made in their name. */
  readonly known: number;
}

/** A member whose key the benchmark has. */
export interface KnownMember {
  readonly identity: Identity;
  readonly region: Region;
}

export interface Filled {
  readonly dir: string;
  readonly base: Identity;
  readonly authority: CertificateAuthority;
  readonly supernodes: readonly KnownMember[];
  readonly peers: readonly KnownMember[];
  /** Secret of a token for clients with more uses than anybody needs. */
  readonly token: Uint8Array;
  readonly seconds: number;
  readonly megabytes: number;
}

/** Peers in one transaction. */
const BATCH = 10_000;
const EXIT_EVERY = 10;
const TOKENS = 500;
const ENROLLED_OVER = days(300);
const USES = 1_000_000;

/**
 * A state directory as a base has it after so many enrolments: the same rows, written in transactions of thousands instead
 * of one at a time; its audit log has the three entries of every tenth enrolment, chained and sealed as base does it.
 */
export async function fill(dir: string, options: FillOptions, crypto: SodiumCrypto): Promise<Filled> {
  const began = performance.now();
  const now = instantOf(Date.now());
  const store = openBaseStore(dir);
  const keys = await loadBaseKeys(openStateDir(dir, crypto, { lock: false }), store.facts, certificateTools(), now);
  const regions = Array.from({ length: options.regions }, (_, i) => `r${String(i).padStart(2, '0')}` as Region);
  const regionOf = (n: number): Region => regions[n % regions.length] ?? ('r00' as Region);
  const token = new Uint8Array(randomBytes(32));
  await addTokens(store, token, crypto, now);
  const known = (n: number): KnownMember => ({ identity: crypto.newIdentity().identity, region: regionOf(n) });
  const supernodes = Array.from({ length: options.supernodes }, (_, n) => known(n));
  const peers = Array.from({ length: Math.min(options.known, options.peers) }, (_, n) => known(n));
  const writer = new Writer(dir, store, keys.identity, crypto, now, options.auditEvery);
  for (const { identity, region } of supernodes) writer.add(identity.id, 'supernode', region);
  for (let n = 0; n < options.peers; n++) {
    const id = peers[n]?.identity.id ?? someId();
    writer.add(id, n % EXIT_EVERY === 0 && n >= peers.length ? 'exit' : 'client', regionOf(n));
  }
  writer.end();
  const revoked = Array.from({ length: options.revoked }, () => ({
    peer: someId(),
    kind: 'peer' as const,
    at: now,
    reason: 'left the club',
  }));
  if (revoked.length > 0) await store.directory.adoptRevocations({ epoch: revoked.length, changedAt: now, revoked });
  store.purge();
  store.close();
  const megabytes = statSync(join(dir, STORE_FILE)).size / 2 ** 20;
  const seconds = (performance.now() - began) / 1000;
  return { dir, base: keys.identity, authority: keys.authority, supernodes, peers, token, seconds, megabytes };
}

async function addTokens(store: BaseStore, secret: Uint8Array, crypto: SodiumCrypto, now: Instant): Promise<void> {
  for (let n = 0; n < TOKENS; n++) {
    const id = n.toString(16).padStart(8, '0');
    await store.directory.createToken({
      id,
      secretHash: n === 0 ? hashTokenSecret(crypto, secret) : new Uint8Array(randomBytes(32)),
      role: 'client',
      egress: false,
      region: 'r00' as Region,
      pool: '',
      note: '',
      createdAt: now,
      expiresAt: plus(now, days(30)),
      uses: USES,
      usesLeft: n === 0 ? USES : 0,
      revoked: false,
    });
  }
}

/** Members and what the audit log says of them, a batch at a time. */
class Writer {
  readonly #db: Database.Database;
  readonly #insert: (rows: readonly Row[]) => void;
  #rows: Row[] = [];
  #end = CHAIN_START;
  #count = 0;

  constructor(
    dir: string,
    private readonly store: BaseStore,
    private readonly identity: Identity,
    private readonly crypto: SodiumCrypto,
    private readonly now: Instant,
    private readonly auditEvery: number,
  ) {
    this.#db = new Database(join(dir, STORE_FILE));
    this.#db.pragma('synchronous = OFF');
    const put = this.#db.prepare<[string, string, string, string, number]>(
      "INSERT INTO member (peer, roles, region, pool, token_id, enrolled_at, revoked_at) VALUES (?, ?, ?, '', ?, ?, NULL)",
    );
    const all = this.#db.transaction((rows: readonly Row[]) => {
      for (const { id, role, region, token, at } of rows) put.run(id, role, region, token, at);
    });
    this.#insert = (rows) => all(rows);
  }

  add(id: PeerId, role: MemberRole, region: Region): void {
    const token = (this.#count++ % TOKENS).toString(16).padStart(8, '0');
    this.#rows.push({ id, role, region, token, at: this.now - ENROLLED_OVER });
    if (this.#rows.length >= BATCH) this.#flush();
  }

  end(): void {
    this.#flush();
    this.#db.close();
  }

  #flush(): void {
    if (this.#rows.length === 0) return;
    this.#insert(this.#rows);
    const at = instantOf(this.now - ENROLLED_OVER);
    const entries = this.#rows
      .filter((_, n) => n % this.auditEvery === 0)
      .flatMap((row) => enrolled(row, this.now))
      .map((event) => {
        const entry = nextEntry(this.#end, event, at, (bytes) => this.crypto.sha256(bytes));
        this.#end = entry;
        return entry;
      });
    const checkpoints = entries
      .filter(({ sequence }) => sequence % CHECKPOINT_EVERY === 0)
      .map((entry) => sealed('checkpoint', entry, at, this.identity));
    this.store.audit.append(entries, sealed('head', this.#end, at, this.identity), checkpoints);
    this.#rows = [];
  }
}

interface Row {
  readonly id: PeerId;
  readonly role: MemberRole;
  readonly region: Region;
  readonly token: string;
  readonly at: number;
}

function enrolled({ id, role, region, token }: Row, now: Instant): readonly AuditEvent[] {
  const by = `peer:${id}` as const;
  const on = `peer:${id}`;
  return [
    { code: 'token-spent', by, on: `token:${token}` },
    { code: 'enrolled', by, on, detail: { token } },
    {
      code: 'membership-issued',
      by: 'daemon',
      on,
      detail: { roles: role, region, until: new Date(now).toISOString() },
    },
  ];
}

function someId(): PeerId {
  const id = peerIdOf(new Uint8Array(randomBytes(32)));
  if (!id.ok) throw new Error('an id is 32 bytes');
  return id.value;
}
