import fc from 'fast-check';
import t from 'tap';
import { CHECKPOINT_EVERY, type FoundChain, verifyChain } from '../../src/core/audit-chain.js';
import type { AuditEntry, AuditSeal } from '../../src/core/ports/audit.js';
import { toHex } from '../../src/model/bytes.js';
import { instantOf } from '../../src/model/time.js';
import { entriesOf } from '../../src/obs/audit.js';
import { auditWorld } from '../support/audited.js';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
interface Chain extends FoundChain {
  entries: AuditEntry[];
  checkpoints: AuditSeal[];
  head: AuditSeal | undefined;
}

const COUNT = 150;
const world = auditWorld();
await world.fill(COUNT);
const { audit } = world.store;
const original: FoundChain = {
  entries: [...entriesOf(audit)],
  head: audit.head(),
  anchor: audit.anchor(),
  checkpoints: audit.checkpoints(),
};
const copy = (): Chain => ({
  ...original,
  entries: [...original.entries],
  checkpoints: [...original.checkpoints],
});
const deps = { keys: [world.key], crypto: world.crypto };
const verify = (chain: FoundChain, ...rest: [Parameters<typeof verifyChain>[2]?]) => verifyChain(chain, deps, ...rest);
const flipped = (bytes: Uint8Array, bit: number): Uint8Array => {
  const out = bytes.slice();
  out[bit >> 3] = (out[bit >> 3] ?? 0) ^ (1 << (bit & 7));
  return out;
};

t.test('a log as the node wrote it', (t) => {
  const verdict = verify(copy());
  t.match(verdict, { checked: COUNT, first: 1, last: COUNT, fault: undefined });
  t.equal(verdict.checkpoints, Math.floor(COUNT / CHECKPOINT_EVERY));
  t.end();
});

t.test('any bit of any field of any entry, flipped, is found in its place', (t) => {
  const text = ['by', 'code', 'on', 'detail'] as const;
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: COUNT - 1 }),
      fc.constantFrom(...text, 'at', 'sequence', 'previous', 'hash'),
      fc.nat(255),
      (index, field, bit) => {
        const chain = copy();
        const entry: Mutable<AuditEntry> = { ...(chain.entries[index] as AuditEntry) };
        if (field === 'previous' || field === 'hash') entry[field] = flipped(entry[field], bit);
        else if (field === 'at') entry.at = instantOf(entry.at + 2 ** (bit % 30));
        else if (field === 'sequence') entry.sequence += 1 + bit;
        else {
          const at = bit % entry[field].length;
          const changed = String.fromCharCode(entry[field].charCodeAt(at) ^ (1 << (bit & 3)));
          entry[field] = entry[field].slice(0, at) + changed + entry[field].slice(at + 1);
        }
        chain.entries[index] = entry;
        const { fault, checked } = verify(chain);
        return fault?.sequence === index + 1 && checked === index;
      },
    ),
    { numRuns: 500 },
  );
  t.end();
});

t.test('entries dropped from the middle are missing where they stood', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: COUNT - 2 }), fc.integer({ min: 1, max: 5 }), (from, count) => {
      const chain = copy();
      chain.entries.splice(from, Math.min(count, COUNT - 1 - from));
      return verify(chain).fault?.sequence === from + 1;
    }),
  );
  const chain = copy();
  chain.entries.splice(9, 3);
  t.same(verify(chain).fault, { sequence: 10, what: 'entries 10 to 12 are missing' });
  t.end();
});

t.test('two entries that change places are found at the first of them', (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: COUNT - 2 }), fc.integer({ min: 1, max: COUNT }), (a, far) => {
      const b = Math.min(a + far, COUNT - 1);
      const [one, other] = [original.entries, original.entries].map((list, i) => [...list][i === 0 ? a : b]);
      if (one === undefined || other === undefined) return false;
      const moved = copy();
      moved.entries[a] = other;
      moved.entries[b] = one;
      const relabelled = copy();
      relabelled.entries[a] = { ...other, sequence: one.sequence };
      relabelled.entries[b] = { ...one, sequence: other.sequence };
      return [moved, relabelled].every((chain) => verify(chain).fault?.sequence === a + 1);
    }),
  );
  t.end();
});

t.test('a log that was cut off, even at a checkpoint whose seal is put in the place of the head', (t) => {
  for (const keep of [0, 1, 63, 64, 65, 128, COUNT - 1]) {
    const chain = copy();
    chain.entries.length = keep;
    chain.checkpoints = chain.checkpoints.filter(({ sequence }) => sequence <= keep);
    t.match(verify(chain).fault, { sequence: keep + 1, what: /missing: the log was cut off/ }, `after ${keep}`);
    t.match(verify({ ...chain, head: undefined }).fault, { sequence: keep + 1 });
    const seal = original.checkpoints.find(({ sequence }) => sequence === keep);
    if (seal === undefined) continue;
    t.match(
      verify({ ...chain, head: seal }).fault,
      { sequence: keep + 1, what: /was not signed by this node/ },
      `a checkpoint for the head, after ${keep}`,
    );
  }
  t.end();
});

t.test('a rewritten log, all its hashes made to fit, is found at the next checkpoint, or at the end', async (t) => {
  const other = auditWorld(1);
  await other.fill(20);
  await other.audit.record({ code: 'token-made', by: 'operator', on: 'token:ffffffff' });
  await other.clock.advance(1_000);
  for (let n = 22; n <= COUNT; n++) await other.fill(1);
  const forged = { ...copy(), entries: [...entriesOf(other.store.audit)] };
  t.match(verify(forged).fault, { sequence: CHECKPOINT_EVERY, what: 'the node signed another entry in this place' });
  const without = { ...forged, checkpoints: [] };
  t.match(verify(without).fault, { sequence: COUNT, what: 'the node signed another entry in this place' });
  const stranger = auditWorld(2);
  await stranger.fill(COUNT);
  const strangers = { ...copy(), head: stranger.store.audit.head(), entries: [...entriesOf(stranger.store.audit)] };
  t.match(verify({ ...strangers, checkpoints: [] }).fault, { what: /not signed by this node/ }, "another node's log");
});

t.test('a checkpoint written down elsewhere shows what a whole machine rolled back hides', async (t) => {
  const earlier = auditWorld(1);
  await earlier.fill(100);
  const rolledBack: FoundChain = {
    entries: [...entriesOf(earlier.store.audit)],
    head: earlier.store.audit.head(),
    anchor: undefined,
    checkpoints: earlier.store.audit.checkpoints(),
  };
  t.equal(verify(rolledBack).fault, undefined, 'nothing in it tells');
  const known = { sequence: 128, hash: toHex((original.entries as AuditEntry[])[127]?.hash ?? new Uint8Array()) };
  t.match(verify(rolledBack, [known]).fault, { sequence: 101, what: /entries 101 to 128 are missing/ });
  t.equal(verify(copy(), [{ ...known, hash: known.hash.slice(0, 32).toUpperCase() }]).fault, undefined);
  t.match(verify(copy(), [{ sequence: 7, hash: 'abcd' }]).fault, { sequence: 7, what: /written down elsewhere/ });
});

t.test('no input makes it throw', (t) => {
  const bytes = fc.uint8Array({ maxLength: 40 });
  const entry = fc.record({
    sequence: fc.oneof(fc.integer(), fc.double()),
    at: fc.oneof(fc.integer(), fc.double()).map((n) => n as AuditEntry['at']),
    by: fc.string({ unit: 'binary' }),
    code: fc.string(),
    on: fc.string(),
    detail: fc.constant('\ud800'),
    previous: bytes,
    hash: bytes,
  });
  const seal = fc.record({
    sequence: fc.oneof(fc.integer(), fc.double()),
    at: fc.double().map((n) => n as AuditSeal['at']),
    hash: bytes,
    signature: bytes,
  });
  const chain = fc.record({
    entries: fc.array(entry, { maxLength: 3 }),
    head: fc.option(seal, { nil: undefined }),
    anchor: fc.option(seal, { nil: undefined }),
    checkpoints: fc.array(seal, { maxLength: 3 }),
  });
  fc.assert(fc.property(chain, (found) => verify(found).fault !== undefined));
  t.end();
});
