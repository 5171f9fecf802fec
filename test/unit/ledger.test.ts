import { createHash } from 'node:crypto';
import fc from 'fast-check';
import t from 'tap';
import { contentHash, judge, type Recorded } from '../../src/core/ledger.js';
import type { LedgerEntry, SessionRecord } from '../../src/core/ports/store.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { Command, Desired, RelaySetup, SetupExit } from '../../src/model/command.js';
import type { CommandId, PeerId, SessionId } from '../../src/model/ids.js';
import type { WireGuardPublicKey } from '../../src/model/keys.js';
import { instantOf, ms, plus } from '../../src/model/time.js';

const crypto = { sha256: (bytes: Uint8Array) => new Uint8Array(createHash('sha256').update(bytes).digest()) };
const SESSION = 'aa'.repeat(16) as SessionId;
const OWNER = 'owner' as PeerId;
const STRANGER = 'stranger' as PeerId;
const NOW = instantOf(1_000_000);
const LEASE = ms(60_000);

const setupExit = (endpointPort = 40_001, change: Partial<SetupExit> = {}): SetupExit => ({
  kind: 'setup-exit',
  clientKey: 'client key' as WireGuardPublicKey,
  inner: {
    ipv4: '10.200.4.1' as IpAddress,
    ipv6: 'fd76::1' as IpAddress,
    gatewayIpv4: '10.200.0.1' as IpAddress,
    gatewayIpv6: 'fd76::' as IpAddress,
  },
  endpoint: { ip: '198.51.100.11' as IpAddress, port: endpointPort as Port },
  keepalive: 25,
  kemKey: Uint8Array.of(1, 2, 3),
  ...change,
});
const relay = (port: number, nextPort = 50_000): RelaySetup => ({
  kind: 'relay-setup',
  port: port as Port,
  localIp: '198.51.100.10' as IpAddress,
  vouched: ['203.0.113.5' as IpAddress],
  next: { kind: 'hop', endpoint: { ip: '198.51.100.11' as IpAddress, port: nextPort as Port } },
});
const update = (port: number): Desired => ({
  kind: 'relay-update',
  endpoint: { ip: '203.0.113.5' as IpAddress, port: port as Port },
  keepalive: 25,
  path: 'direct',
});
const ROTATE: Desired = {
  kind: 'rotate-peer',
  reason: 'its exit leaves',
  leaveSupernode: false,
  urgent: false,
  avoidExits: [],
};
const DISCONNECT: Desired = { kind: 'disconnect', reason: 'done' };

let serial = 0;
const command = (generation: number, desired: Desired, change: Partial<Command> = {}): Command => ({
  id: (++serial).toString(16).padStart(32, '0') as CommandId,
  session: SESSION,
  generation,
  lease: LEASE,
  desired,
  ...change,
});
const record = (generation: number, desired: readonly Desired[], owner = OWNER): SessionRecord => ({
  session: SESSION,
  generation,
  owner,
  desired,
  leaseUntil: plus(NOW, LEASE),
  updatedAt: NOW,
});
const judged = (one: Command, recorded: Partial<Recorded> = {}, owner = OWNER) =>
  judge(one, owner, contentHash(one, crypto), { entry: undefined, session: undefined, ...recorded }, NOW);

t.test('what becomes of a command', async (t) => {
  const applied = (desired: readonly Desired[], generation: number) => ({
    kind: 'apply',
    next: { session: SESSION, generation, owner: OWNER, desired, leaseUntil: NOW + LEASE, updatedAt: NOW },
  });
  const refused = (code: string) => ({ kind: 'refuse', error: { code } });
  const cases: readonly [string, Command, SessionRecord | undefined, object, PeerId?][] = [
    ['the first of a session', command(1, setupExit()), undefined, applied([setupExit()], 1)],
    ['DISCONNECT of a session never seen', command(5, DISCONNECT), undefined, applied([], 5)],
    ['a newer one replaces', command(2, setupExit(2)), record(1, [setupExit()]), applied([setupExit(2)], 2)],
    ['the same generation again', command(1, setupExit(2)), record(1, [setupExit()]), applied([setupExit(2)], 1)],
    ['an older one', command(1, setupExit()), record(2, [setupExit()]), refused('stale-generation')],
    ['an older DISCONNECT', command(1, DISCONNECT), record(2, [setupExit()]), refused('stale-generation')],
    ['DISCONNECT of its generation', command(2, DISCONNECT), record(2, [setupExit()]), applied([], 2)],
    ['setting up what ended', command(2, setupExit()), record(2, []), refused('stale-generation')],
    ['setting up newer than the end', command(3, setupExit()), record(2, []), applied([setupExit()], 3)],
    ['DISCONNECT twice', command(2, DISCONNECT), record(2, []), applied([], 2)],
    ['DISCONNECT older than the end', command(1, DISCONNECT), record(2, []), refused('stale-generation')],
    ['another’s session', command(9, setupExit()), record(1, [setupExit()]), refused('forbidden'), STRANGER],
    ['ending another’s session', command(9, DISCONNECT), record(1, [setupExit()]), refused('forbidden'), STRANGER],
    ['another’s tombstone', command(9, setupExit()), record(1, []), refused('forbidden'), STRANGER],
    ['a second relay port', command(1, relay(2)), record(1, [relay(1)]), applied([relay(1), relay(2)], 1)],
    ['a port anew', command(2, relay(1, 7)), record(1, [relay(1), relay(2)]), applied([relay(2), relay(1, 7)], 2)],
    ['both kinds', command(1, setupExit()), record(1, [relay(1)]), applied([relay(1), setupExit()], 1)],
    ['DISCONNECT ends all of it', command(2, DISCONNECT), record(1, [relay(1), setupExit()]), applied([], 2)],
    ['RELAY_UPDATE', command(2, update(9)), record(1, [setupExit()]), applied([setupExit(), update(9)], 2)],
    [
      'RELAY_UPDATE anew',
      command(3, update(8)),
      record(2, [setupExit(), update(9)]),
      applied([setupExit(), update(8)], 3),
    ],
    [
      'SETUP_EXIT anew keeps the path',
      command(3, setupExit(2)),
      record(2, [setupExit(), update(9)]),
      applied([update(9), setupExit(2)], 3),
    ],
    ['RELAY_UPDATE of nothing', command(2, update(9)), undefined, refused('no-session')],
    ['RELAY_UPDATE of a relay alone', command(2, update(9)), record(1, [relay(1)]), refused('no-session')],
    ['RELAY_UPDATE of what ended', command(3, update(9)), record(2, []), refused('no-session')],
    ['an older RELAY_UPDATE', command(1, update(9)), record(2, [setupExit()]), refused('stale-generation')],
    ['another’s path', command(9, update(9)), record(1, [setupExit()]), refused('forbidden'), STRANGER],
    ['DISCONNECT ends the path too', command(2, DISCONNECT), record(1, [setupExit(), update(9)]), applied([], 2)],
    ['ROTATE_PEER', command(2, ROTATE), record(1, [setupExit()]), refused('not-supported')],
  ];
  for (const [what, one, session, expected, owner] of cases) t.match(judged(one, { session }, owner), expected, what);
});

t.test('a command that was applied answers as it did then, even when its session has moved on', async (t) => {
  const one = command(1, setupExit());
  const entry: LedgerEntry = {
    id: one.id,
    session: SESSION,
    generation: 1,
    contentHash: contentHash(one, crypto),
    response: { offer: { body: Uint8Array.of(1), signature: Uint8Array.of(2) } },
    appliedAt: NOW,
  };
  t.same(judged(one, { entry, session: record(7, []) }), { kind: 'answered', entry });
  const changes: Partial<Command>[] = [
    { generation: 2 },
    { lease: ms(1) },
    { session: 'bb'.repeat(16) as SessionId },
    { desired: setupExit(9) },
    { desired: setupExit(40_001, { kemKey: Uint8Array.of(1, 2, 4) }) },
    { desired: setupExit(40_001, { endpoint: undefined }) },
    { desired: DISCONNECT },
  ];
  for (const change of changes) {
    t.match(judged({ ...one, ...change }, { entry }), { kind: 'refuse', error: { code: 'command-conflict' } });
  }
});

t.test('the order of fields says nothing about a command’s content', async (t) => {
  const one = command(1, setupExit());
  const { desired, lease, generation, session, id } = one;
  const turned = Object.fromEntries(Object.entries(desired).reverse()) as unknown as Desired;
  t.same(contentHash({ desired: turned, lease, generation, session, id }, crypto), contentHash(one, crypto));
});

/** A ledger as the executor keeps it: what is accepted is recorded, what is refused changes nothing. */
function ledger() {
  const entries = new Map<CommandId, LedgerEntry>();
  let session: SessionRecord | undefined;
  return {
    get session() {
      return session;
    },
    take(one: Command) {
      const hash = contentHash(one, crypto);
      const verdict = judge(one, OWNER, hash, { entry: entries.get(one.id), session }, NOW);
      if (verdict.kind !== 'apply') return;
      session = verdict.next;
      entries.set(one.id, {
        id: one.id,
        session: SESSION,
        generation: one.generation,
        contentHash: hash,
        response: { offer: undefined },
        appliedAt: NOW,
      });
    },
  };
}

t.test('in whatever order, doubled and replayed, commands end in what the newest generation says', async (t) => {
  const orders = fc.uniqueArray(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 12 }).chain((generations) =>
    fc.record({
      generations: fc.constant(generations),
      ends: fc.array(fc.boolean(), { minLength: generations.length, maxLength: generations.length }),
      // Every command at least once, and any of them again, in any order.
      order: fc
        .array(fc.nat(generations.length - 1), { maxLength: 20 })
        .chain((again) =>
          fc.shuffledSubarray([...generations.keys(), ...again], { minLength: generations.length + again.length }),
        ),
    }),
  );
  fc.assert(
    fc.property(orders, ({ generations, ends, order }) => {
      const commands = generations.map((generation, i) =>
        command(generation, ends[i] ? DISCONNECT : setupExit(generation)),
      );
      const book = ledger();
      for (const i of order) book.take(commands[i] as Command);
      const newest = Math.max(...generations);
      const says = commands.find((one) => one.generation === newest)?.desired;
      t.equal(book.session?.generation, newest);
      t.same(book.session?.desired, says?.kind === 'disconnect' ? [] : [says]);
    }),
    { numRuns: 200 },
  );
});
