import { createHash } from 'node:crypto';
import t from 'tap';
import { type MemoryDataPlane, memoryDataPlane } from '../../dataplane/memory.js';
import { CommandExecutor, type Projection } from '../../src/core/executor.js';
import type { DataPlane } from '../../src/core/ports/dataplane.js';
import type { IpAddress, Port } from '../../src/model/address.js';
import type { Command, CommandDone, Desired, RelaySetup } from '../../src/model/command.js';
import type { RelayUnit, UnitId } from '../../src/model/dataplane.js';
import { toVpndError, VpndError } from '../../src/model/errors.js';
import type { CommandId, PeerId, SessionId } from '../../src/model/ids.js';
import { hours, type Millis, minutes, ms, seconds } from '../../src/model/time.js';
import { type MemoryStore, openMemoryStore } from '../../src/store/memory.js';
import { testLog } from '../support/test-log.js';
import { testMetrics } from '../support/test-metrics.js';
import { VirtualClock } from '../support/virtual-clock.js';

const crypto = { sha256: (bytes: Uint8Array) => new Uint8Array(createHash('sha256').update(bytes).digest()) };
const OWNER = 'owner' as PeerId;
const STRANGER = 'stranger' as PeerId;
const LEASE = hours(1);
const sessionOf = (n: number) => n.toString(16).padStart(32, '0') as SessionId;

const relay = (port: number, vouched = '203.0.113.5'): RelaySetup => ({
  kind: 'relay-setup',
  port: port as Port,
  localIp: '198.51.100.10' as IpAddress,
  vouched: [vouched as IpAddress],
  next: { kind: 'hop', endpoint: { ip: '198.51.100.11' as IpAddress, port: 50_000 as Port } },
});
const DISCONNECT: Desired = { kind: 'disconnect', reason: 'done' };

let serial = 0;
const command = (session: SessionId, generation: number, desired: Desired, lease: Millis = LEASE): Command => ({
  id: (++serial).toString(16).padStart(32, '0') as CommandId,
  session,
  generation,
  lease,
  desired,
});
const broken = (what: string) => new VpndError('dataplane', what);

/** A bench: an executor over the twins, on a kernel that takes its time and says what it is doing. */
function bench() {
  const clock = new VirtualClock();
  const kernel: MemoryDataPlane = memoryDataPlane();
  const log = testLog();
  const metrics = testMetrics();
  const ended: string[] = [];
  const doings: string[] = [];
  let store: MemoryStore = openMemoryStore();
  let takes = 0;
  const slowly = async <T>(what: string, act: () => Promise<T>): Promise<T> => {
    doings.push(`${what} begins`);
    if (takes > 0) await new Promise<void>((resolve) => clock.after(ms(takes), resolve));
    try {
      return await act();
    } finally {
      doings.push(`${what} ends`);
    }
  };
  const dataplane: DataPlane = {
    ...kernel,
    engine: 'memory',
    apply: (change) =>
      slowly(
        `apply ${[...(change.put ?? []).map((unit) => (unit as RelayUnit).port), ...(change.remove ?? [])].join()}`,
        () => kernel.apply(change),
      ),
    reconcile: (desired) => slowly('reconcile', () => kernel.reconcile(desired)),
  };
  const projection: Projection = {
    fixed: () => [],
    units: (record) =>
      record.desired.flatMap((desired) =>
        desired.kind === 'relay-setup'
          ? [
              {
                kind: 'relay',
                session: record.session,
                port: desired.port,
                localIp: desired.localIp,
                vouched: desired.vouched,
                next: desired.next,
              },
            ]
          : [],
      ),
    accept: (one, _record, others) => {
      const { desired } = one;
      if (desired.kind !== 'relay-setup') return;
      const taken = others.some((other) =>
        other.desired.some((its) => its.kind === 'relay-setup' && its.port === desired.port),
      );
      if (taken || desired.port === (666 as Port)) throw new VpndError('exit-refused', 'not this one');
    },
    answer: (one): CommandDone => ({
      offer: { body: Uint8Array.of(one.generation), signature: new Uint8Array() },
    }),
    ended: (session, why) => ended.push(`${session.slice(-2)} ${why}`),
  };
  const made = () => new CommandExecutor({ clock, crypto, ledger: store.ledger, dataplane, log, metrics }, projection);
  let executor = made();
  const bench = {
    clock,
    kernel,
    log,
    metrics,
    ended,
    doings,
    get store() {
      return store;
    },
    get executor() {
      return executor;
    },
    slow: (by: number) => {
      takes = by;
    },
    start: () => clock.run(executor.start()),
    run: (one: Command, owner = OWNER) => clock.run(executor.execute(one, owner)),
    code: (one: Command, owner = OWNER) =>
      clock.run(
        executor.execute(one, owner).then(
          () => 'done',
          (thrown) => toVpndError(thrown).code,
        ),
      ),
    /** A new process on the same disk and kernel. The old one is left as a crash leaves it: not stopped. */
    restart: () => {
      store = store.reopen();
      executor = made();
      return clock.run(executor.start());
    },
    /** The ledger folded, against the kernel. */
    agree: () => {
      const ports = store.ledger
        .sessions()
        .flatMap((one) => one.desired.flatMap((desired) => (desired.kind === 'relay-setup' ? [desired.port] : [])));
      return [
        ports.sort(),
        kernel
          .units()
          .map((unit) => (unit as RelayUnit).port)
          .sort(),
      ];
    },
  };
  return bench;
}

t.test('a command is applied, on record, and answered the same when it comes again', async (t) => {
  const b = bench();
  await b.start();
  const one = command(sessionOf(1), 3, relay(1));
  const done = await b.run(one);
  t.same(done.offer?.body, Uint8Array.of(3));
  t.match(b.kernel.print(), /^relay 198.51.100.10 1 /);
  const before = b.doings.length;
  t.same(await b.run(one), done);
  t.equal(b.doings.length, before, 'nothing is applied twice');
  await b.restart();
  t.same(await b.run(one), done, 'nor by the next process');
  t.equal(b.metrics.value('commandSuccess{kind=relay-setup}'), 3);
});

t.test('what is refused touches neither kernel nor ledger', async (t) => {
  const b = bench();
  await b.start();
  await b.run(command(sessionOf(1), 2, relay(1)));
  const before = b.kernel.print();
  const doings = b.doings.length;
  t.equal(await b.code(command(sessionOf(2), 1, relay(666))), 'exit-refused');
  t.equal(await b.code(command(sessionOf(1), 1, relay(1, '203.0.113.6'))), 'stale-generation');
  t.equal(await b.code(command(sessionOf(1), 9, DISCONNECT), STRANGER), 'forbidden');
  t.equal(b.kernel.print(), before);
  t.equal(b.doings.length, doings);
  t.equal(b.store.ledger.session(sessionOf(2)), undefined);
  t.equal(b.metrics.value('commandFailure{code=forbidden,kind=disconnect}'), 1);
});

t.test('a kernel that fails leaves the ledger as it was, and the next try succeeds', async (t) => {
  const b = bench();
  await b.start();
  const one = command(sessionOf(1), 1, relay(1));
  b.kernel.failNext(broken('nft said no'));
  t.equal(await b.code(one), 'dataplane');
  t.equal(b.store.ledger.session(sessionOf(1)), undefined);
  t.same(b.executor.sessions(), []);
  t.equal(await b.code(one), 'done', 'the same id may come again: it was never applied');
  t.same(...(b.agree() as [unknown, unknown]));
});

t.test('what could not be recorded is taken back out of the kernel', async (t) => {
  const b = bench();
  await b.start();
  const full = new VpndError('disk-full', 'no space left');
  b.store.failWrites(full);
  t.equal(await b.code(command(sessionOf(1), 1, relay(1))), 'disk-full');
  t.equal(b.kernel.print(), '', 'a new session is gone again');

  b.store.failWrites(undefined);
  await b.run(command(sessionOf(1), 1, relay(1)));
  const before = b.kernel.print();
  b.store.failWrites(full);
  t.equal(await b.code(command(sessionOf(1), 2, relay(1, '203.0.113.99'))), 'disk-full');
  t.equal(b.kernel.print(), before, 'a changed one is as it was');
  t.equal(await b.code(command(sessionOf(1), 2, relay(2))), 'disk-full');
  t.equal(b.kernel.print(), before, 'what was added is gone');
  t.equal(await b.code(command(sessionOf(1), 3, DISCONNECT)), 'disk-full');
  t.equal(b.kernel.print(), before, 'an ended one is back');
  t.same(b.ended, []);
  t.equal(b.executor.session(sessionOf(1))?.generation, 1);
});

t.test('commands of one session run in their order, those of different sessions side by side', async (t) => {
  const b = bench();
  await b.start();
  b.slow(10);
  b.doings.length = 0;
  const began = b.clock.monotonic();
  const all = [
    command(sessionOf(1), 1, relay(1)),
    command(sessionOf(1), 2, relay(2)),
    command(sessionOf(2), 1, relay(3)),
    command(sessionOf(3), 1, relay(4)),
  ].map((one) => b.executor.execute(one, OWNER));
  await b.clock.run(Promise.all(all));
  t.equal(b.clock.monotonic() - began, 20, 'the time of two commands, not of four');
  t.same(b.doings.slice(0, 3), ['apply 1 begins', 'apply 3 begins', 'apply 4 begins']);
  t.ok(b.doings.indexOf('apply 1,2 begins') > b.doings.indexOf('apply 1 ends'));
  t.same(...(b.agree() as [unknown, unknown]));
});

t.test('a comparison with the kernel never meets a command that is half done', async (t) => {
  const b = bench();
  await b.start();
  b.slow(10);
  b.doings.length = 0;
  const first = b.executor.execute(command(sessionOf(1), 1, relay(1)), OWNER);
  const comparison = b.executor.reconcile();
  const another = b.executor.reconcile();
  const second = b.executor.execute(command(sessionOf(2), 1, relay(2)), OWNER);
  t.same((await b.clock.run(comparison)).removed, [], 'the new relay is not taken for residue');
  await b.clock.run(Promise.all([first, another, second]));
  t.same(b.doings.filter((what) => what.endsWith('begins')).slice(0, 2), ['apply 1 begins', 'reconcile begins']);
  let open = 0;
  for (const what of b.doings) {
    open += what.endsWith('begins') ? 1 : -1;
    t.ok(open <= 1, what);
  }
  t.same(...(b.agree() as [unknown, unknown]));
});

t.test('a comparison that fails holds nobody up', async (t) => {
  const b = bench();
  await b.start();
  b.kernel.failNext(broken('nft is busy'));
  await t.rejects(b.clock.run(b.executor.reconcile()), { code: 'dataplane' });
  t.equal(await b.code(command(sessionOf(1), 1, relay(1))), 'done');
  t.same((await b.clock.run(b.executor.reconcile())).repaired, []);
});

t.test('what somebody else changed in the kernel is put right', async (t) => {
  const b = bench();
  await b.start();
  await b.run(command(sessionOf(1), 1, relay(1)));
  b.kernel.vandalise('relay/1' as UnitId);
  t.same((await b.clock.run(b.executor.reconcile())).repaired, ['relay/1']);
  t.equal(b.metrics.value('repairs{what=relay}'), 1);
});

t.test('a lease that nobody renews ends the session, one that is renewed does not', async (t) => {
  const b = bench();
  await b.start();
  await b.run(command(sessionOf(1), 1, relay(1), minutes(10)));
  await b.run(command(sessionOf(2), 1, relay(2), minutes(5)));
  await b.clock.advance(minutes(4));
  await b.run(command(sessionOf(2), 2, relay(2), minutes(10)));
  await b.clock.advance(minutes(6) - 1);
  t.same(b.ended, []);
  await b.clock.advance(1);
  t.same(b.ended, ['01 expired']);
  t.same(b.agree(), [[2], [2]]);
  t.equal(await b.code(command(sessionOf(1), 1, relay(1))), 'stale-generation', 'it does not come back by a late copy');
  await b.clock.advance(minutes(4));
  t.same(b.ended, ['01 expired', '02 expired']);
  t.equal(b.kernel.print(), '');
  t.equal(b.clock.pending, 0, 'no timer is left');
});

t.test('row 22: DISCONNECT a hundred times ends a session once, and prolongs nothing', async (t) => {
  const b = bench();
  await b.start();
  await b.run(command(sessionOf(1), 1, relay(1), minutes(10)));
  await b.run(command(sessionOf(2), 1, relay(2), minutes(10)));
  for (let i = 0; i < 100; i++) {
    t.equal(await b.code(command(sessionOf(1), 2 + i, DISCONNECT, hours(10))), 'done');
    t.equal(await b.code(command(sessionOf(2), 2 + i, DISCONNECT, hours(10)), STRANGER), 'forbidden');
  }
  t.same(b.ended, ['01 disconnect'], 'one end is told');
  t.same(b.agree(), [[2], [2]]);
  t.equal(await b.code(command(sessionOf(1), 101, relay(1))), 'stale-generation', 'and it is not set up again');
  await b.clock.advance(minutes(10));
  t.same(b.ended, ['01 disconnect', '02 expired'], 'strangers’ DISCONNECTs neither ended nor prolonged the other');
  t.equal(b.kernel.print(), '');
  t.equal(b.clock.pending, 0, 'no lease of ten hours is kept');
});

t.test('leases beyond what a timer can hold end in time', async (t) => {
  const b = bench();
  await b.start();
  const month = hours(24 * 30);
  await b.run(command(sessionOf(1), 1, relay(1), month));
  await b.clock.advance(month - 1);
  t.same(b.ended, []);
  await b.clock.advance(1);
  t.same(b.ended, ['01 expired']);
});

t.test('a session whose removal fails is removed as soon as the kernel or the disk allows', async (t) => {
  const b = bench();
  await b.start();
  for (const n of [1, 2, 3]) await b.run(command(sessionOf(n), 1, relay(n), minutes(1)));
  b.kernel.failNext(broken('nft hangs'));
  await b.clock.advance(minutes(1));
  t.equal(b.executor.sessions().length, 1, 'the others are not held up');
  b.store.failWrites(new VpndError('disk-full', 'no space left'));
  await b.clock.advance(seconds(30));
  t.equal(b.executor.sessions().length, 1, 'not forgotten while it is on record');
  b.store.failWrites(undefined);
  await b.clock.advance(seconds(6));
  t.equal(b.kernel.print(), '');
  t.same(b.ended.sort(), ['01 expired', '02 expired', '03 expired']);
});

t.test('a restarted daemon adopts what the kernel has and repairs the difference', async (t) => {
  const b = bench();
  await b.start();
  await b.run(command(sessionOf(1), 1, relay(1)));
  await b.run(command(sessionOf(2), 1, relay(2)));
  b.kernel.vandalise('relay/2' as UnitId);
  await b.kernel.apply({ put: [{ ...relay(9), kind: 'relay', session: sessionOf(9) }] });
  const found = await b.restart();
  t.same(found.repaired, ['relay/2']);
  t.match(found.removed, [/^relay 198.51.100.10 9 /]);
  t.same(b.agree(), [
    [1, 2],
    [1, 2],
  ]);
  t.equal(await b.code(command(sessionOf(1), 2, DISCONNECT)), 'done');
  t.same(b.ended, ['01 disconnect']);
});

t.test('a crash between kernel and ledger is undone by the next start', async (t) => {
  const b = bench();
  await b.start();
  b.slow(10);
  void b.executor.execute(command(sessionOf(1), 1, relay(1)), OWNER).catch(() => {});
  await b.clock.settle();
  await b.kernel.apply({ put: [{ ...relay(1), kind: 'relay', session: sessionOf(1) }] });
  const found = await b.restart();
  t.equal(found.removed.length, 1);
  t.equal(b.kernel.print(), '');
});

t.test('a lease that ran out while the daemon was away ends the session at its start', async (t) => {
  const b = bench();
  await b.start();
  await b.run(command(sessionOf(1), 1, relay(1), minutes(10)));
  await b.run(command(sessionOf(2), 1, relay(2), hours(2)));
  await b.executor.stop();
  await b.clock.advance(hours(1));
  await b.restart();
  t.same(b.agree(), [[2], [2]]);
  t.equal(await b.code(command(sessionOf(1), 1, relay(1))), 'stale-generation');
});

t.test('tombstones and answers are forgotten after a week, sessions in force never', async (t) => {
  const b = bench();
  await b.start();
  const old = command(sessionOf(1), 1, DISCONNECT);
  await b.run(old);
  await b.run(command(sessionOf(2), 1, relay(2), hours(24 * 30)));
  await b.executor.stop();
  await b.clock.advance(hours(24 * 8));
  await b.restart();
  t.equal(b.store.ledger.command(old.id), undefined);
  t.equal(b.store.ledger.session(sessionOf(1)), undefined);
  t.same(b.agree(), [[2], [2]]);
});

t.test('a stopping executor finishes what is under way, takes nothing new and tears nothing down', async (t) => {
  const b = bench();
  await b.start();
  b.slow(10);
  const under = b.executor.execute(command(sessionOf(1), 1, relay(1)), OWNER);
  await b.clock.settle();
  await b.clock.run(b.executor.stop());
  await under;
  t.equal(await b.code(command(sessionOf(2), 1, relay(2))), 'closed');
  t.match(b.kernel.print(), /^relay/);
  t.equal(b.clock.pending, 0);
});

t.test('a command that waits for a comparison is not applied after the executor stopped', async (t) => {
  const b = bench();
  await b.start();
  await b.run(command(sessionOf(1), 1, relay(1), minutes(1)));
  b.slow(10);
  await b.clock.advance(minutes(1) - 5);
  const comparison = b.executor.reconcile();
  await b.clock.advance(6);
  const stopped = b.executor.stop();
  await b.clock.run(Promise.all([comparison, stopped]));
  const at = b.kernel.print();
  b.store.close();
  await b.clock.advance(seconds(30));
  t.equal(b.kernel.print(), at, 'a lease that ends meanwhile is a matter for the next start');
  t.same(b.ended, []);
});

t.test('of two sessions that ask for one thing at the same moment, one gets it', async (t) => {
  const b = bench();
  await b.start();
  b.slow(10);
  const ask = (n: number) => b.code(command(sessionOf(n), 1, relay(40_001)));
  t.same(await Promise.all([ask(1), ask(2)]), ['done', 'exit-refused']);
  await b.run(command(sessionOf(1), 2, DISCONNECT));
  t.equal(await ask(3), 'done', 'and it is free again after');
});
