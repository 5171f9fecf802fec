import { createHash } from 'node:crypto';
import t, { type Test } from 'tap';
import type { BaseStore, DirectoryStore, LedgerEntry, SessionRecord, TokenRecord } from '../../src/core/ports/store.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { Desired } from '../../src/model/command.js';
import { commandIdOf, type PeerId, peerIdOf, sessionIdOf } from '../../src/model/ids.js';
import { type WireGuardPublicKey, wireGuardPublicKeyOf } from '../../src/model/keys.js';
import type { MemberRole, Region } from '../../src/model/role.js';
import { hours, instantOf, ms, plus } from '../../src/model/time.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { openBaseStore } from '../../src/store/sqlite/open.js';

interface Subject {
  store(): BaseStore;
  /** Close and open again: what a restarted daemon finds. */
  reopen(): BaseStore;
}

const subjects: Readonly<Record<string, (t: Test) => Subject>> = {
  memory() {
    let store = openMemoryStore();
    return {
      store: () => store,
      reopen() {
        store = store.reopen();
        return store;
      },
    };
  },
  sqlite(t) {
    const dir = t.testdir();
    let store = openBaseStore(dir);
    t.teardown(() => store.close());
    return {
      store: () => store,
      reopen() {
        store.close();
        store = openBaseStore(dir);
        return store;
      },
    };
  },
};

const hash = (text: string) => new Uint8Array(createHash('sha256').update(text).digest());
const value = <T>(result: { ok: true; value: T } | { ok: false; error: unknown }): T => {
  if (!result.ok) throw new Error(String(result.error));
  return result.value;
};
const peer = (name: string): PeerId => value(peerIdOf(hash(name)));
const session = (name: string) => value(sessionIdOf(hash(name).slice(0, 16)));
const command = (name: string) => value(commandIdOf(hash(name).slice(0, 16)));
const key = (name: string): WireGuardPublicKey => value(wireGuardPublicKeyOf(hash(name)));
const region = (name: string) => name as Region;
const at = (n: number) => instantOf(1_700_000_000_000 + n);
const endpoint = { ip: '2001:db8::7' as IpAddress, port: 40001 as Port };

const count = async (directory: DirectoryStore): Promise<number> =>
  (await directory.census()).reduce((sum, one) => sum + one.members, 0);
const having = async (role: MemberRole, directory: DirectoryStore) =>
  (await directory.members({ limit: 100 })).filter(({ roles }) => roles.includes(role));

const desired: readonly Desired[] = [
  {
    kind: 'setup-exit',
    clientKey: key('client'),
    inner: {
      ipv4: '10.200.4.2' as IpAddress,
      ipv6: 'fd00::2' as IpAddress,
      gatewayIpv4: '10.200.0.1' as IpAddress,
      gatewayIpv6: 'fd00::1' as IpAddress,
    },
    endpoint: undefined,
    keepalive: 25,
    kemKey: Uint8Array.from({ length: 1184 }, (_, i) => i & 255),
  },
  {
    kind: 'relay-setup',
    port: 40001 as Port,
    localIp: '203.0.113.7' as IpAddress,
    vouched: ['198.51.100.9' as IpAddress],
    next: { kind: 'hop', endpoint },
  },
  {
    kind: 'relay-setup',
    port: 40002 as Port,
    localIp: '203.0.113.7' as IpAddress,
    vouched: [],
    next: { kind: 'pair', port: 40001 as Port },
  },
  { kind: 'relay-update', endpoint, keepalive: 0, path: 'direct' },
  {
    kind: 'rotate-peer',
    reason: 'nearest "ümlaut" 🜨',
    leaveSupernode: true,
    urgent: false,
    avoidExits: [peer('a'), peer('b')],
  },
  { kind: 'disconnect', reason: '' },
];

const entry = (name: string, change: Partial<LedgerEntry> = {}): LedgerEntry => ({
  id: command(name),
  session: session('s'),
  generation: 1,
  contentHash: hash(`content of ${name}`),
  response: { offer: { body: hash('body'), signature: new Uint8Array(64).fill(7) } },
  appliedAt: at(0),
  ...change,
});
const state = (change: Partial<SessionRecord> = {}): SessionRecord => ({
  session: session('s'),
  generation: 1,
  owner: peer('supervisor'),
  desired,
  leaseUntil: plus(at(0), ms(60_000.25)),
  updatedAt: at(0),
  ...change,
});
const token = (change: Partial<TokenRecord> = {}): TokenRecord => ({
  id: '0a1b2c3d',
  secretHash: hash('secret'),
  role: 'exit',
  egress: false,
  region: region('eu'),
  pool: 'home',
  note: "Anna's box",
  createdAt: at(0),
  expiresAt: plus(at(0), hours(24)),
  uses: 1,
  usesLeft: 1,
  revoked: false,
  ...change,
});
const wish = (name: string) => ({ peer: peer(name), role: 'exit' as const, region: undefined });

for (const [name, make] of Object.entries(subjects)) {
  t.test(`${name} store`, async (t) => {
    t.test('an answered command and its session are read back exactly, also after a restart', async (t) => {
      const subject = make(t);
      subject.store().ledger.record(entry('one'), state());
      for (const open of [subject.store, subject.reopen]) {
        const store = open();
        t.strictSame(store.ledger.command(command('one')), entry('one'));
        t.strictSame(store.ledger.session(session('s')), state());
        t.strictSame(store.ledger.sessions(), [state()]);
      }
      t.equal(subject.store().ledger.command(command('two')), undefined);
      t.equal(subject.store().ledger.session(session('other')), undefined);
    });

    t.test('recording again replaces the session and keeps both answers', async (t) => {
      const { ledger } = make(t).store();
      ledger.record(entry('one'), state());
      const later = state({ generation: 2, desired: [], updatedAt: at(5) });
      const bye = entry('two', { generation: 2, response: { offer: undefined } });
      ledger.record(bye, later);
      t.strictSame(ledger.sessions(), [later]);
      t.strictSame(ledger.command(command('two')), bye);
      t.ok(ledger.command(command('one')));
    });

    t.test('an answer of one session is never recorded with the state of another', async (t) => {
      const { ledger } = make(t).store();
      t.throws(() => ledger.record(entry('one'), state({ session: session('other') })), TypeError);
      t.equal(ledger.command(command('one')), undefined);
      t.strictSame(ledger.sessions(), []);
    });

    t.test('what cannot be read back exactly is refused before anything is written', async (t) => {
      const { ledger, facts } = make(t).store();
      const broken = { kind: 'disconnect', reason: Number.NaN } as unknown as Desired;
      t.throws(() => ledger.record(entry('one'), state({ desired: [broken] })), TypeError);
      t.equal(ledger.command(command('one')), undefined);
      t.throws(() => facts.put('x', new Date(0)), TypeError);
      t.equal(facts.get('x'), undefined);
    });

    t.test('pruning forgets old answers and old tombstones, never a session in force', async (t) => {
      const { ledger } = make(t).store();
      const gone = session('gone');
      const young = session('young');
      ledger.record(entry('old', { appliedAt: at(1) }), state({ updatedAt: at(1) }));
      ledger.record(
        entry('bye', { session: gone, appliedAt: at(1) }),
        state({ session: gone, desired: [], updatedAt: at(1) }),
      );
      ledger.record(
        entry('new', { session: young, appliedAt: at(9) }),
        state({ session: young, desired: [], updatedAt: at(9) }),
      );
      ledger.prune(at(9));
      t.equal(ledger.command(command('old')), undefined);
      t.ok(ledger.session(session('s')), 'a session in force stays however old');
      t.equal(ledger.session(gone), undefined);
      t.ok(ledger.command(command('new')), 'what is exactly as old as the limit stays');
      t.ok(ledger.session(young));
    });

    t.test('facts keep values by name, and nobody changes them from outside', async (t) => {
      const subject = make(t);
      const { facts } = subject.store();
      const list = { list: [1, 'two', null, true], bytes: Uint8Array.of(0, 255), none: undefined };
      facts.put('node/a', list);
      list.list.push('three');
      facts.put('node/b', 1);
      facts.put('node/b', 2);
      facts.put('other', '');
      facts.remove('absent');
      const kept = { list: [1, 'two', null, true], bytes: Uint8Array.of(0, 255), none: undefined };
      for (const open of [subject.store, subject.reopen]) {
        const store = open();
        t.strictSame(store.facts.get('node/a'), kept);
        t.equal(store.facts.get('node/b'), 2);
        t.equal(store.facts.get('other'), '');
        t.strictSame(store.facts.names('node/'), ['node/a', 'node/b']);
        t.strictSame(store.facts.names('node_'), [], 'a prefix is no pattern');
      }
      subject.store().facts.remove('node/a');
      t.equal(subject.reopen().facts.get('node/a'), undefined);
    });

    t.test('a token enrols what it says, once', async (t) => {
      const subject = make(t);
      await subject.store().directory.createToken(token());
      const first = await subject.store().directory.redeem(hash('secret'), wish('anna'), at(5));
      const member = {
        peer: peer('anna'),
        roles: ['exit'],
        region: 'eu',
        pool: 'home',
        tokenId: '0a1b2c3d',
        enrolledAt: at(5),
        revokedAt: undefined,
      };
      t.strictSame(first, { ok: true, member });
      for (const open of [subject.store, subject.reopen]) {
        const { directory } = open();
        t.strictSame(await directory.member(peer('anna')), member);
        t.strictSame(await having('exit', directory), [member]);
        t.strictSame(await having('client', directory), []);
        t.equal(await count(directory), 1);
        t.strictSame(await directory.tokens(), [token({ usesLeft: 0 })]);
        t.strictSame(await directory.redeem(hash('secret'), wish('anna'), at(6)), first, 'a lost answer is repeated');
        t.strictSame(await directory.redeem(hash('secret'), wish('bob'), at(6)), { ok: false, error: 'token-used' });
      }
    });

    t.test('members are read a part at a time, by the beginning of their ids, and counted', async (t) => {
      const subject = make(t);
      const { directory } = subject.store();
      await directory.createToken(token({ uses: 9, usesLeft: 9 }));
      await directory.createToken(
        token({
          id: 'ffffffff',
          secretHash: hash('other'),
          role: 'client',
          region: region('us'),
          uses: 9,
          usesLeft: 9,
        }),
      );
      const names = ['anna', 'bob', 'carol', 'dave', 'eve'];
      for (const name of names) await directory.redeem(hash('secret'), wish(name), at(1));
      const ids = names.map(peer).sort();
      const asked = async (range: Parameters<DirectoryStore['members']>[0]) =>
        (await subject.store().directory.members(range)).map((one) => one.peer);
      t.same(await asked({ limit: 100 }), ids);
      t.same(await asked({ limit: 2 }), ids.slice(0, 2));
      t.same(await asked({ after: ids[1], limit: 2 }), ids.slice(2, 4), 'the part after it');
      t.same(await asked({ after: ids[4], limit: 2 }), []);
      t.same(await asked({ beginning: ids[2]?.slice(0, 20), limit: 2 }), [ids[2]]);
      t.same(await asked({ beginning: ids[2], limit: 2 }), [ids[2]], 'a whole id begins itself');

      t.same(await directory.census(), [{ roles: ['exit'], region: 'eu', members: 5 }]);
      await directory.redeem(hash('other'), { ...wish('eve'), role: 'client', region: undefined }, at(2));
      for (const open of [subject.store, subject.reopen]) {
        const counts = [...(await open().directory.census())].sort((a, b) => b.members - a.members);
        t.same(
          counts,
          [
            { roles: ['exit'], region: 'eu', members: 4 },
            { roles: ['client'], region: 'us', members: 1 },
          ],
          'who enrols as something else is counted as that alone',
        );
      }
    });

    t.test('every reason to refuse a token has its word, and spends nothing', async (t) => {
      const { directory } = make(t).store();
      await directory.createToken(token({ uses: 5, usesLeft: 5 }));
      const refusals: [string, Parameters<typeof directory.redeem>][] = [
        ['bad-token', [hash('guess'), wish('anna'), at(0)]],
        ['token-expired', [hash('secret'), wish('anna'), plus(at(0), hours(24))]],
        ['wrong-role', [hash('secret'), { ...wish('anna'), role: 'supernode' }, at(0)]],
        ['wrong-region', [hash('secret'), { ...wish('anna'), region: region('us') }, at(0)]],
      ];
      for (const [error, use] of refusals) t.strictSame(await directory.redeem(...use), { ok: false, error });
      t.equal(await directory.revokeToken('ffffffff'), false);
      t.equal(await directory.revokeToken('0a1b2c3d'), true);
      t.strictSame(await directory.redeem(hash('secret'), wish('anna'), at(0)), { ok: false, error: 'token-revoked' });
      t.equal(await count(directory), 0);
      t.strictSame(await directory.tokens(), [token({ uses: 5, usesLeft: 5, revoked: true })]);
    });

    t.test('a key that is shut out stays out, whatever token it brings, and uses none up', async (t) => {
      const subject = make(t);
      const { directory } = subject.store();
      await directory.createToken(token({ uses: 3, usesLeft: 3 }));
      await directory.redeem(hash('secret'), wish('anna'), at(1));
      t.strictSame(await directory.revocations(), { epoch: 0, changedAt: instantOf(0), revoked: [] });

      const anna = { peer: peer('anna'), kind: 'peer' as const, at: at(5), reason: 'stolen' };
      const stranger = { peer: peer('never seen'), kind: 'supernode' as const, at: at(6), reason: '' };
      t.equal(await directory.revoke(anna), true);
      t.equal(await directory.revoke({ ...anna, at: at(7), reason: 'again' }), false, 'once is enough');
      t.equal(await directory.revoke(stranger), true, 'whether or not it is a member');
      const refused = { ok: false, error: 'revoked' };
      t.strictSame(
        await directory.redeem(hash('secret'), wish('anna'), at(8)),
        refused,
        'not with the token it has used',
      );
      t.strictSame(await directory.redeem(hash('secret'), wish('never seen'), at(8)), refused);
      await directory.createToken({ ...token({ uses: 1, usesLeft: 1 }), id: '99999999', secretHash: hash('fresh') });
      t.strictSame(await directory.redeem(hash('fresh'), wish('anna'), at(8)), refused, 'nor with another');
      const left = (await directory.tokens()).map((one) => [one.id, one.usesLeft]);
      t.strictSame(left, [
        ['0a1b2c3d', 2],
        ['99999999', 1],
      ]);

      const again = subject.reopen().directory;
      const set = await again.revocations();
      t.strictSame(
        { ...set, revoked: [...set.revoked].sort((a, b) => a.at - b.at) },
        {
          epoch: 2,
          changedAt: at(6),
          revoked: [anna, stranger],
        },
      );
      t.equal((await again.member(anna.peer))?.revokedAt, at(5));
      t.strictSame(
        (await again.members({ limit: 100 })).map((one) => one.peer),
        [anna.peer],
      );

      t.equal(await again.unrevoke(peer('nobody'), at(9)), false);
      t.equal(await again.unrevoke(anna.peer, at(9)), true);
      t.equal(await again.unrevoke(anna.peer, at(9)), false);
      t.match(await again.revocations(), { epoch: 3, changedAt: at(9), revoked: [stranger] });
      t.equal((await again.member(anna.peer))?.revokedAt, undefined);
      t.equal((await again.redeem(hash('secret'), wish('anna'), at(10))).ok, true, 'and is let in again');

      await again.adoptRevocations({ epoch: 12, changedAt: at(20), revoked: [anna] });
      t.strictSame(await again.revocations(), { epoch: 12, changedAt: at(20), revoked: [anna] });
      t.equal((await again.member(anna.peer))?.revokedAt, at(5), 'members follow a list that is taken over');
    });

    t.test('a later token replaces what an earlier one said of a member', async (t) => {
      const { directory } = make(t).store();
      await directory.createToken(token());
      await directory.createToken(
        token({ id: '11111111', secretHash: hash('other'), role: 'supernode', region: region('us'), pool: '' }),
      );
      await directory.redeem(hash('secret'), wish('anna'), at(0));
      await directory.redeem(hash('other'), { ...wish('anna'), role: 'supernode' }, at(1));
      t.match(await directory.member(peer('anna')), { roles: ['supernode'], region: 'us', tokenId: '11111111' });
      t.strictSame(await having('exit', directory), []);
      t.equal(await count(directory), 1);
    });

    t.test('a token for supernodes that may be exits makes members of both roles, counted once', async (t) => {
      const subject = make(t);
      const made = token({ role: 'supernode', egress: true });
      await subject.store().directory.createToken(made);
      const both = { ...wish('anna'), role: 'supernode' as const };
      const refused = await subject.store().directory.redeem(hash('secret'), wish('anna'), at(0));
      t.strictSame(refused, { ok: false, error: 'wrong-role' }, 'as an exit alone nobody enrols with it');
      await subject.store().directory.redeem(hash('secret'), both, at(0));
      for (const open of [subject.store, subject.reopen]) {
        const { directory } = open();
        t.strictSame(await directory.tokens(), [{ ...made, usesLeft: 0 }]);
        t.match(await directory.member(peer('anna')), { roles: ['supernode', 'exit'] });
        for (const role of ['supernode', 'exit'] as const) t.equal((await having(role, directory)).length, 1);
        t.equal(await count(directory), 1);
      }
      const plain = token({ id: '11111111', secretHash: hash('other'), role: 'supernode' });
      await subject.store().directory.createToken(plain);
      await subject.store().directory.redeem(hash('other'), both, at(1));
      t.strictSame(await having('exit', subject.store().directory), [], 'a later token without it takes it back');
    });

    t.test('of 100 simultaneous uses of a one-use token exactly one wins', async (t) => {
      const { directory } = make(t).store();
      await directory.createToken(token());
      const uses = Array.from({ length: 100 }, (_, i) => directory.redeem(hash('secret'), wish(`peer ${i}`), at(0)));
      const outcomes = await Promise.all(uses);
      t.equal(outcomes.filter(({ ok }) => ok).length, 1);
      t.equal(outcomes.filter((outcome) => !outcome.ok && outcome.error === 'token-used').length, 99);
      t.equal(await count(directory), 1);
    });

    t.test('a token is not replaced by another of its id', async (t) => {
      const { directory } = make(t).store();
      await directory.createToken(token());
      await t.rejects(directory.createToken(token({ secretHash: hash('mine') })));
      t.strictSame(await directory.tokens(), [token()]);
    });

    t.test('blocks go out lowest first, to one owner each, and stay theirs', async (t) => {
      const subject = make(t);
      const lease = (name: string, atLeast: number, limit: number) =>
        subject.store().directory.leaseBlocks(peer(name), atLeast, limit, at(0));
      t.strictSame(await lease('a', 2, 8), [0, 1]);
      t.strictSame(await lease('b', 1, 8), [2]);
      t.strictSame(await lease('a', 2, 8), [0, 1], 'asking again leases nothing');
      t.strictSame(await lease('a', 3, 8), [0, 1, 3]);
      subject.reopen();
      t.strictSame(await lease('c', 2, 5), [4], 'what is left when the pool runs out');
      t.strictSame(await lease('d', 1, 5), []);
      const many = await Promise.all(Array.from({ length: 30 }, (_, i) => lease(`n${i}`, 3, 1000)));
      const all = many.flat();
      t.equal(new Set(all).size, all.length, 'no block has two owners');
      t.equal(all.length, 90);
    });
  });
}
