import fc from 'fast-check';
import t from 'tap';
import {
  applyChange,
  difference,
  digestOf,
  inParts,
  noRevocations,
  packRevocations,
  RevocationHistory,
  type RevocationList,
  unpackRevocations,
} from '../../src/core/revocations.js';
import { openSodium } from '../../src/identity/sodium.js';
import { statements as openStatements } from '../../src/identity/statements.js';
import { type Bytes, toHex, utf8 } from '../../src/model/bytes.js';
import type { VpndError } from '../../src/model/errors.js';
import { keyOf, type PeerId, peerIdOf } from '../../src/model/ids.js';
import type { Signed } from '../../src/model/membership.js';
import type { News } from '../../src/model/messages.js';
import {
  MAX_REVOCATIONS,
  MAX_REVOCATIONS_PER_PART,
  type Revocation,
  type RevocationChange,
} from '../../src/model/revocation.js';
import { instantOf } from '../../src/model/time.js';
import { Revocations } from '../../src/roles/common/revocations.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { encodeControl } from '../../src/transport/codec/control.js';
import { MAX_MESSAGE_BYTES } from '../../src/transport/codec/limits.js';
import { OUTBOX_BYTES, OUTBOX_MESSAGES } from '../../src/transport/framed-stream.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

const { crypto } = await openSodium();
const { sha256 } = crypto;
const statements = openStatements(crypto);
const base = crypto.identityFromSeed(new Uint8Array(32).fill(1));
const stranger = crypto.identityFromSeed(new Uint8Array(32).fill(2));

const peer = (n: number): PeerId => {
  const made = peerIdOf(sha256(utf8(String(n))));
  if (!made.ok) throw new Error('no id');
  return made.value;
};
const revoked = (n: number, at = n): Revocation => ({
  peer: peer(n),
  kind: n % 3 === 0 ? 'supernode' : 'peer',
  at: instantOf(at),
});

const listOf = (epoch: number, entries: readonly Revocation[], by = base): RevocationList => {
  const digest = digestOf(entries, sha256);
  const head = statements.signRevocations(by, { epoch, issuedAt: instantOf(epoch), count: entries.length, digest });
  return { epoch, head, digest, entries: new Map(entries.map((one) => [one.peer, one])) };
};

/** base's life: list after list, each the one before with somebody more or fewer on it. */
function lives(steps: readonly { readonly who: number; readonly out: boolean }[]): readonly RevocationList[] {
  const lists = [noRevocations(sha256)];
  for (const { who, out } of steps) {
    const last = lists.at(-1) ?? noRevocations(sha256);
    const entries = new Map(last.entries);
    if (out === entries.has(peer(who))) continue;
    if (out) entries.set(peer(who), revoked(who));
    else entries.delete(peer(who));
    lists.push(listOf(last.epoch + 1, [...entries.values()]));
  }
  return lists;
}

const changeOf = (from: RevocationList, to: RevocationList): RevocationChange => {
  const { added, removed } = difference(from.entries, to.entries);
  return { head: to.head as Signed, from: from.epoch, added, removed, part: 0, parts: 1 };
};

/** A node that holds lists, and what it has said about them. */
function node(facts = openMemoryStore().facts, clock = new VirtualClock()) {
  const said: string[] = [];
  let changes = 0;
  const revocations = new Revocations({
    baseKey: keyOf(base.id),
    crypto,
    statements,
    facts,
    clock,
    log: testLog(),
    changed: () => {
      changes++;
    },
    report: (code) => said.push(code),
  });
  return { revocations, said, facts, changes: () => changes };
}

const steps = fc.array(fc.record({ who: fc.nat({ max: 12 }), out: fc.boolean() }), { minLength: 1, maxLength: 30 });

t.test('changes and whole lists in any order, repeated and lost, end in the same list', async () => {
  fc.assert(
    fc.property(steps, fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 40 }), (life, order) => {
      const lists = lives(life);
      const last = lists.at(-1) as RevocationList;
      const { revocations, said, facts } = node();
      for (const [a, b] of order) {
        const to = lists[1 + (a % Math.max(1, lists.length - 1))];
        if (to === undefined || to.epoch === 0) continue;
        const from = lists[b % to.epoch] as RevocationList;
        const before = revocations.epoch;
        const wanted = revocations.take(undefined, changeOf(from, to)).some((one) => one.kind === 'revocations-wanted');
        if (revocations.epoch < before) return false;
        if (wanted) revocations.take(undefined, changeOf(lists[0] as RevocationList, to));
      }
      if (last.epoch > 0) revocations.take(undefined, changeOf(lists[0] as RevocationList, last));
      const same = revocations.epoch === last.epoch && revocations.count === last.entries.size;
      const members = [...Array(13).keys()].every((n) => revocations.has(peer(n)) === last.entries.has(peer(n)));
      // And so it is on disk.
      const again = node(facts).revocations;
      return same && members && said.length === 0 && again.epoch === last.epoch && again.count === last.entries.size;
    }),
    { numRuns: 300 },
  );
});

t.test('what a node tells another one brings that one to its own list, whichever it holds', async () => {
  fc.assert(
    fc.property(steps, fc.nat(), (life, n) => {
      const lists = lives(life);
      const last = lists.at(-1) as RevocationList;
      const history = new RevocationHistory(lists[0] as RevocationList);
      for (const list of lists.slice(1)) history.become(list);
      const held = lists[n % lists.length] as RevocationList;
      let list = held;
      for (const change of history.since(held.epoch)) {
        const head = statements.checkRevocations(keyOf(base.id), change.head);
        if (!head.ok) return false;
        const applied = applyChange(list, head.value, change, sha256);
        if (applied.kind !== 'newer') return false;
        list = applied.list;
      }
      return toHex(list.digest) === toHex(last.digest);
    }),
    { numRuns: 300 },
  );
});

t.test('ten thousand of them: few messages within their bounds, and milliseconds', async (t) => {
  const all = Array.from({ length: MAX_REVOCATIONS }, (_, n) => revoked(n));
  const list = listOf(7, all);
  const parts = inParts(list.head as Signed, 0, all, []);
  t.equal(parts.length, Math.ceil(MAX_REVOCATIONS / MAX_REVOCATIONS_PER_PART));
  const sizes = parts.map((change) => encodeControl({ kind: 'event', news: { kind: 'revocations', change } }).length);
  t.ok(Math.max(...sizes) < MAX_MESSAGE_BYTES, `${Math.max(...sizes)} bytes in a message`);
  const whole = sizes.reduce((sum, size) => sum + size, 0);
  t.ok(whole < OUTBOX_BYTES && parts.length < OUTBOX_MESSAGES, `${whole} bytes fit the outbox of a stream`);

  const { revocations, said } = node();
  const began = process.hrtime.bigint();
  for (const part of parts) revocations.take(undefined, part);
  const took = Number(process.hrtime.bigint() - began) / 1e6;
  t.equal(revocations.count, MAX_REVOCATIONS);
  t.comment(`${parts.length} parts taken in ${took.toFixed(0)} ms`);
  const next = listOf(8, all.slice(1));
  revocations.take(undefined, changeOf(list, next));
  t.equal(revocations.count, MAX_REVOCATIONS - 1);
  t.same(said, []);
});

t.test('parts that are mixed up, of another list, or too many make nothing', async (t) => {
  const all = Array.from({ length: 9_000 }, (_, n) => revoked(n));
  const list = listOf(3, all);
  const [one, two, three] = inParts(list.head as Signed, 0, all, []);
  if (one === undefined || two === undefined || three === undefined) throw new Error('three parts');
  const { revocations } = node();
  for (const order of [
    [two, three],
    [one, three, two],
    [one, two, two, three],
    [three, two, one],
    [one, { ...two, from: 1 }, three],
  ]) {
    for (const part of order) revocations.take(undefined, part);
    t.equal(revocations.epoch, 0);
  }
  // From two senders at once: each its own.
  revocations.take(peer(1), one);
  revocations.take(peer(2), one);
  revocations.take(peer(1), two);
  revocations.take(peer(2), two);
  revocations.forget(peer(2));
  revocations.take(peer(2), three);
  t.equal(revocations.epoch, 0);
  revocations.take(peer(1), three);
  t.equal(revocations.epoch, 3);
});

t.test(
  'a forged list, one of another base, and one with a bit flipped are refused, told of and change nothing',
  async (t) => {
    const { revocations, said, changes } = node();
    const real = listOf(5, [revoked(1), revoked(2)]);
    const whole = changeOf(noRevocations(sha256), real);
    const flip = (bytes: Bytes, bit: number) =>
      bytes.map((byte, i) => (i === bit >> 3 ? byte ^ (1 << (bit & 7)) : byte));
    const { body, signature } = real.head as Signed;
    const foreign = changeOf(noRevocations(sha256), listOf(9, [revoked(1)], stranger));
    const forgeries: RevocationChange[] = [
      foreign,
      { ...whole, added: [...whole.added, revoked(3)] },
      { ...whole, added: whole.added.slice(1) },
      { ...whole, added: whole.added.map((one) => ({ ...one, kind: 'peer' as const, at: instantOf(one.at + 1) })) },
      ...Array.from({ length: body.length * 8 }, (_, bit) => ({
        ...whole,
        head: { body: flip(body, bit), signature },
      })),
      ...Array.from({ length: 512 }, (_, bit) => ({ ...whole, head: { body, signature: flip(signature, bit) } })),
    ];
    for (const forged of forgeries) revocations.take(peer(7), forged);
    t.equal(revocations.epoch, 0);
    t.equal(changes(), 0);
    t.equal(said.length, forgeries.length);
    t.same(new Set(said), new Set(['bad-revocations']));
    revocations.take(peer(7), whole);
    t.equal(revocations.epoch, 5, 'what is genuine is taken from anybody');
  },
);

t.test('an older list is not taken, and who sends it is told the newer one', async (t) => {
  const lists = lives([1, 2, 3].map((who) => ({ who, out: true })));
  const [none, first, second, third] = lists as [RevocationList, RevocationList, RevocationList, RevocationList];
  const { revocations, said } = node();
  for (const list of [first, second, third]) revocations.take(undefined, changeOf(none, list));
  const answer = revocations.take(peer(9), changeOf(none, first));
  t.equal(revocations.epoch, 3);
  t.match(answer, [{ kind: 'revocations', change: { from: 1 } }], 'from the list it seems to hold');
  t.same(revocations.newerThan(third.head), []);
  t.match(revocations.newerThan(undefined), [{ kind: 'revocations', change: { from: 0 } }]);
  t.same(revocations.take(peer(9), changeOf(none, third)), [], 'the same again is nothing new');
  t.same(said, []);
});

t.test('by itself, a change to an older list is older, whoever asks', async (t) => {
  const [none, first, second] = lives([1, 2].map((who) => ({ who, out: true }))) as RevocationList[];
  if (none === undefined || first === undefined || second === undefined) throw new Error('three lists');
  const head = statements.checkRevocations(keyOf(base.id), first.head as Signed);
  if (!head.ok) throw head.error;
  t.same(applyChange(second, head.value, changeOf(none, first), sha256), { kind: 'older' });
});

t.test('two lists of one epoch: the first stays, and it is told of', async (t) => {
  const { revocations, said } = node();
  revocations.take(undefined, changeOf(noRevocations(sha256), listOf(1, [revoked(1)])));
  revocations.take(peer(4), changeOf(noRevocations(sha256), listOf(1, [revoked(2)])));
  t.ok(revocations.has(peer(1)));
  t.notOk(revocations.has(peer(2)));
  t.same(said, ['revocations-conflict']);
});

t.test('a change of a list that is not held is answered with a wish for the whole, not too often', async (t) => {
  const lists = lives([1, 2, 3].map((who) => ({ who, out: true })));
  const { revocations } = node();
  const wanted = (news: readonly News[]) => news.map(({ kind }) => kind);
  t.same(wanted(revocations.take(undefined, changeOf(lists[2] as RevocationList, lists[3] as RevocationList))), [
    'revocations-wanted',
  ]);
  revocations.take(undefined, changeOf(lists[0] as RevocationList, lists[3] as RevocationList));
  const answers = Array.from({ length: 20 }, () => revocations.wanted(peer(1)).length);
  t.same(answers.slice(0, 4), [1, 1, 1, 0], 'who asks again and again is not sent a long list each time');
});

t.test('what base has signed says that there is a newer list', async (t) => {
  const { revocations } = node();
  t.equal(revocations.behind, undefined);
  revocations.mentioned(4);
  t.equal(revocations.behind, 4);
  revocations.take(undefined, changeOf(noRevocations(sha256), listOf(4, [revoked(1)])));
  t.equal(revocations.behind, undefined);
});

t.test('a list on disk that base has not signed stops the daemon', async (t) => {
  const { revocations, facts } = node();
  revocations.take(undefined, changeOf(noRevocations(sha256), listOf(1, [revoked(1)])));
  const kept = facts.get<{ head: Signed; packed: Bytes }>('revocations');
  facts.put('revocations', { head: kept?.head, packed: packRevocations([revoked(2)]) });
  t.throws(() => node(facts), { code: 'state-corrupt' });
  facts.put('revocations', { head: kept?.head, packed: new Uint8Array(40) });
  t.throws(() => node(facts), { code: 'state-corrupt' });
});

t.test('a disk that is full does not keep a list from being in force, and has it once there is room', async (t) => {
  const store = openMemoryStore();
  const clock = new VirtualClock();
  const { revocations } = node(store.facts, clock);
  store.failWrites(new Error('full') as VpndError);
  const [none, first, second] = [noRevocations(sha256), listOf(1, [revoked(1)]), listOf(2, [revoked(1), revoked(2)])];
  revocations.take(undefined, changeOf(none, first));
  revocations.take(undefined, changeOf(first, second));
  t.ok(revocations.has(peer(1)) && revocations.has(peer(2)));
  t.equal(node(store.facts).revocations.epoch, 0, 'a restart at this moment would know nobody');
  await clock.advance(30_000);
  store.failWrites(undefined);
  await clock.advance(10_000);
  t.equal(node(store.facts).revocations.epoch, 2);
  t.equal(clock.pending, 0, 'and nothing is left to do');
});

t.test('the packed form is one form, and reads back', async (t) => {
  const entry = fc.record({
    n: fc.nat({ max: 100 }),
    at: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    kind: fc.constantFrom('peer' as const, 'supernode' as const),
  });
  fc.assert(
    fc.property(fc.uniqueArray(entry, { selector: ({ n }) => n, maxLength: 20 }), (some) => {
      const entries = some.map(({ n, at, kind }) => ({ peer: peer(n), kind, at: instantOf(at) }));
      const packed = packRevocations(entries);
      const turned = packRevocations([...entries].reverse());
      const read = unpackRevocations(packed);
      return (
        toHex(packed) === toHex(turned) &&
        read?.length === entries.length &&
        toHex(packRevocations(read)) === toHex(packed)
      );
    }),
  );
  t.equal(unpackRevocations(new Uint8Array(41)), undefined, 'a kind that nobody writes');
  t.equal(unpackRevocations(new Uint8Array(42)), undefined);
});

t.test('a signed head names no impossible list', async (t) => {
  const fine = { epoch: 1, issuedAt: instantOf(1), count: 1, digest: new Uint8Array(32) };
  const check = (change: Partial<typeof fine>) =>
    statements.checkRevocations(keyOf(base.id), statements.signRevocations(base, { ...fine, ...change }));
  t.ok(check({}).ok);
  for (const change of [{ epoch: 0 }, { count: MAX_REVOCATIONS + 1 }, { digest: new Uint8Array(31) }]) {
    t.match(check(change), { ok: false, error: { code: 'bad-revocations' } });
  }
  // A membership or an offer is no list, whoever signed it.
  const other = { ...statements.signRevocations(base, fine), body: utf8('something else') };
  t.match(statements.checkRevocations(keyOf(base.id), other), { ok: false });
});
