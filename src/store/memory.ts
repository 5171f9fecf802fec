import type {
  BaseStore,
  DirectoryStore,
  FactStore,
  LedgerEntry,
  LedgerStore,
  MemberCount,
  MemberRecord,
  RevocationRecord,
  SessionRecord,
  TokenRecord,
} from '../core/ports/store.js';
import { equalConstantTime } from '../model/bytes.js';
import type { VpndError } from '../model/errors.js';
import type { CommandId, PeerId, SessionId } from '../model/ids.js';
import { type Instant, instantOf } from '../model/time.js';
import { decodeJson, encodeJson } from './json-codec.js';
import { type AuditContents, auditOver } from './memory-audit.js';
import { byText, checkRecord, decideRedemption, isTombstone, lowestFree } from './records.js';

/** A store in memory, and what a simulation does to it. */
export interface MemoryStore extends BaseStore {
  /** Every write throws this until it is undefined again, having changed nothing. */
  failWrites(error: VpndError | undefined): void;
  /** What a restarted process finds: the same contents, a fresh object. The old one is closed. */
  reopen(): MemoryStore;
}

interface Contents {
  readonly entries: Map<CommandId, string>;
  readonly sessions: Map<SessionId, string>;
  readonly facts: Map<string, string>;
  readonly tokens: Map<string, TokenRecord>;
  readonly members: Map<PeerId, MemberRecord>;
  readonly blocks: Map<number, PeerId>;
  readonly audit: AuditContents;
  readonly revoked: Map<PeerId, RevocationRecord>;
  readonly list: { epoch: number; changedAt: Instant };
}

/** The twin of src/store/sqlite: same rules, same contract suite, no disk. */
export function openMemoryStore(): MemoryStore {
  return over({
    entries: new Map(),
    sessions: new Map(),
    facts: new Map(),
    tokens: new Map(),
    members: new Map(),
    blocks: new Map(),
    audit: { entries: [], checkpoints: [], head: undefined, anchor: undefined },
    revoked: new Map(),
    list: { epoch: 0, changedAt: instantOf(0) },
  });
}

function over(contents: Contents): MemoryStore {
  let failure: VpndError | undefined;
  let open = true;
  const reading = <T>(read: () => T): T => {
    if (!open) throw new TypeError('this store is closed');
    return read();
  };
  const writing = <T>(write: () => T): T =>
    reading(() => {
      if (failure !== undefined) throw failure;
      return write();
    });
  const close = () => {
    open = false;
  };
  return {
    ledger: ledgerOver(contents, reading, writing),
    facts: factsOver(contents, reading, writing),
    directory: directoryOver(contents, reading, writing),
    audit: auditOver(contents.audit, reading, writing),
    purge: () => writing(() => true),
    close,
    failWrites(error) {
      failure = error;
    },
    reopen() {
      close();
      return over(contents);
    },
  };
}

export type Guard = <T>(action: () => T) => T;

// Values are kept encoded, as on disk: nobody can change what is stored by holding on to an object.
const freeze = encodeJson;
const thaw = <T>(text: string): T => decodeJson(text) as T;

function ledgerOver({ entries, sessions }: Contents, reading: Guard, writing: Guard): LedgerStore {
  const maybe = <T>(text: string | undefined): T | undefined => (text === undefined ? undefined : thaw<T>(text));
  return {
    command: (id) => reading(() => maybe<LedgerEntry>(entries.get(id))),
    session: (id) => reading(() => maybe<SessionRecord>(sessions.get(id))),
    sessions: () =>
      reading(() =>
        [...sessions.values()].map((text) => thaw<SessionRecord>(text)).sort(byText((session) => session.session)),
      ),
    record: (entry, session) =>
      writing(() => {
        checkRecord(entry, session);
        const [answer, state] = [freeze(entry), freeze(session)];
        entries.set(entry.id, answer);
        sessions.set(session.session, state);
      }),
    prune: (before) =>
      writing(() => {
        for (const [id, text] of entries) if (thaw<LedgerEntry>(text).appliedAt < before) entries.delete(id);
        for (const [id, text] of sessions) {
          const session = thaw<SessionRecord>(text);
          if (isTombstone(session) && session.updatedAt < before) sessions.delete(id);
        }
      }),
  };
}

function factsOver({ facts }: Contents, reading: Guard, writing: Guard): FactStore {
  return {
    get: <T>(name: string) =>
      reading(() => {
        const text = facts.get(name);
        return text === undefined ? undefined : thaw<T>(text);
      }),
    put: (name, value) =>
      writing(() => {
        facts.set(name, freeze(value));
      }),
    remove: (name) =>
      writing(() => {
        facts.delete(name);
      }),
    names: (prefix) => reading(() => [...facts.keys()].filter((name) => name.startsWith(prefix)).sort()),
  };
}

function directoryOver(contents: Contents, reading: Guard, writing: Guard): DirectoryStore {
  const { tokens, members, blocks, revoked, list } = contents;
  const mark = (peer: PeerId, revokedAt: Instant | undefined) => {
    const known = members.get(peer);
    if (known !== undefined) members.set(peer, { ...known, revokedAt });
  };
  return {
    createToken: async (token) =>
      writing(() => {
        if (tokens.has(token.id)) throw new TypeError(`there is a token ${token.id} already`);
        tokens.set(token.id, Object.freeze({ ...token, secretHash: token.secretHash.slice() }));
      }),
    tokens: async () => reading(() => [...tokens.values()].sort(byText((token) => token.id))),
    revokeToken: async (id) =>
      writing(() => {
        const token = tokens.get(id);
        if (token === undefined) return false;
        tokens.set(id, { ...token, revoked: true });
        return true;
      }),
    redeem: async (secretHash, wish, now) =>
      writing(() => {
        const token = [...tokens.values()].find((candidate) => equalConstantTime(candidate.secretHash, secretHash));
        const decision = decideRedemption(token, members.get(wish.peer), wish, now, revoked.has(wish.peer));
        if (decision.kind === 'refuse') return { ok: false, error: decision.error };
        if (decision.kind === 'spend') {
          tokens.set(decision.token.id, decision.token);
          members.set(decision.member.peer, decision.member);
        }
        return { ok: true, member: decision.member };
      }),
    member: async (peer) => reading(() => members.get(peer)),
    members: async ({ after = '', beginning = '', limit }) =>
      reading(() =>
        [...members.values()]
          .filter(({ peer }) => peer > after && peer.startsWith(beginning))
          .sort(byText((member) => member.peer))
          .slice(0, limit),
      ),
    census: async () => reading(() => counted(members.values())),
    revocations: async () => reading(() => ({ ...list, revoked: [...revoked.values()] })),
    revoke: async (record) =>
      writing(() => {
        if (revoked.has(record.peer)) return false;
        revoked.set(record.peer, Object.freeze({ ...record }));
        mark(record.peer, record.at);
        Object.assign(list, { epoch: list.epoch + 1, changedAt: record.at });
        return true;
      }),
    unrevoke: async (peer, now) =>
      writing(() => {
        if (!revoked.delete(peer)) return false;
        mark(peer, undefined);
        Object.assign(list, { epoch: list.epoch + 1, changedAt: now });
        return true;
      }),
    adoptRevocations: async ({ epoch, changedAt, revoked: adopted }) =>
      writing(() => {
        revoked.clear();
        for (const record of adopted) revoked.set(record.peer, Object.freeze({ ...record }));
        for (const peer of [...members.keys()]) mark(peer, revoked.get(peer)?.at);
        Object.assign(list, { epoch, changedAt });
      }),
    leaseBlocks: async (supernode, atLeast, limit) =>
      writing(() => {
        const held = [...blocks].filter(([, owner]) => owner === supernode).map(([index]) => index);
        for (const index of lowestFree(new Set(blocks.keys()), atLeast - held.length, limit)) {
          blocks.set(index, supernode);
          held.push(index);
        }
        return held.sort((a, b) => a - b);
      }),
  };
}

function counted(members: Iterable<MemberRecord>): readonly MemberCount[] {
  const counts = new Map<string, MemberCount>();
  for (const { roles, region } of members) {
    const key = `${roles.join(',')} ${region}`;
    counts.set(key, { roles, region, members: (counts.get(key)?.members ?? 0) + 1 });
  }
  return [...counts.values()];
}
