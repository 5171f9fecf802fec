import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { type CommandId, type PeerId, type SessionId, sessionIdOf } from '../../src/model/ids.js';
import { hours, minutes, plus, seconds } from '../../src/model/time.js';
import { History } from '../../src/roles/common/history.js';
import { LOOK_EVERY, Retention } from '../../src/roles/common/retention.js';
import { openStore } from '../../src/store/sqlite/open.js';
import { anEvent, auditWorld } from '../support/audited.js';
import { overlayWorld } from '../support/overlay-world.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

const sessionId = (n: number): SessionId => {
  const id = sessionIdOf(new Uint8Array(16).fill(n));
  if (!id.ok) throw new Error(id.error);
  return id.value;
};

/** A node's disk, with sessions on it whose ids can be looked for. */
function disk(t: Test) {
  const dir = mkdtempSync(join(tmpdir(), 'vpnd-retention-'));
  const store = openStore(dir, { role: 'exit' });
  t.teardown(() => {
    store.close();
    rmSync(dir, { recursive: true, force: true });
  });
  const clock = new VirtualClock();
  const log = testLog();
  const history = new History({ facts: store.facts, clock, log });
  const retention = new Retention(
    { retainSessions: hours(24), retainEvents: hours(48) },
    { store, history, clock, log },
  );
  const end = (n: number) => {
    const now = clock.now();
    store.ledger.record(
      {
        id: sessionId(n + 100) as string as CommandId,
        session: sessionId(n),
        generation: 1,
        contentHash: new Uint8Array(32),
        response: { offer: undefined },
        appliedAt: now,
      },
      {
        session: sessionId(n),
        generation: 1,
        owner: 'owner' as PeerId,
        desired: [],
        leaseUntil: now,
        updatedAt: now,
      },
    );
    history.record('session-closed', `event number ${n} of many`, sessionId(n));
    history.flush();
  };
  /** Files of the database in which something stands. */
  const filesWith = (text: string) =>
    readdirSync(dir).filter((name) => name.startsWith('vpnd.db') && readFileSync(join(dir, name)).includes(text));
  return { store, clock, log, history, retention, end, filesWith };
}

t.test(
  'what is over is gone from the disk when its time is up: from pages, spare pages and the log of writes',
  async (t) => {
    const { store, clock, retention, end, filesWith, history } = disk(t);
    retention.start();
    for (let n = 1; n <= 50; n++) end(n);
    await clock.advance(hours(20));
    end(60);
    t.ok(filesWith(sessionId(7)).length > 0);
    await clock.advance(hours(4) + LOOK_EVERY);
    t.same(
      store.ledger.sessions().map(({ session }) => session),
      [sessionId(60)],
      'a day later only the later one is known',
    );
    t.equal(store.ledger.command(sessionId(107) as string as CommandId), undefined);
    t.same(filesWith(sessionId(107)), [], 'its command is in no file');
    t.ok(filesWith(sessionId(7)).length > 0, 'an event tells of it still');
    t.equal(history.list().length, 51);
    await clock.advance(hours(24));
    t.same(filesWith(sessionId(7)), []);
    t.same(filesWith('event number 7 of many'), []);
    t.equal(history.list().length, 1);
    await clock.advance(hours(24));
    t.equal(history.list().length, 0);
    t.same([...filesWith('event number'), ...filesWith(sessionId(60))], []);
    await retention.stop();
  },
);

t.test('what came of age while the daemon was stopped goes at its start', async (t) => {
  const { store, clock, log, end, filesWith } = disk(t);
  end(1);
  await clock.advance(hours(72));
  const history = new History({ facts: store.facts, clock, log });
  const again = new Retention({ retainSessions: hours(24), retainEvents: hours(48) }, { store, history, clock, log });
  again.start();
  t.same(store.ledger.sessions(), []);
  t.same(history.list(), []);
  t.same(filesWith(sessionId(1)), []);
  await again.stop();
});

t.test('a full disk is said, and tried again', async (t) => {
  const { clock, log, history } = disk(t);
  let broken = true;
  const store = {
    purge: () => true,
    ledger: {
      prune: () => {
        if (broken) throw new Error('the disk is full');
      },
    } as never,
  };
  const retention = new Retention(
    { retainSessions: hours(24), retainEvents: hours(48) },
    { store, history, clock, log },
  );
  retention.start();
  await clock.advance(LOOK_EVERY);
  t.equal(log.lines.filter(({ level }) => level === 'warn').length, 2);
  broken = false;
  await clock.advance(LOOK_EVERY);
  t.equal(log.lines.length, 2);
  await retention.stop();
});

t.test('no node of an overlay remembers a session once its time is up', async (t) => {
  const retained = { retainSessions: minutes(10), retainEvents: minutes(20) };
  const world = await overlayWorld({
    supernodes: [
      { region: 'us', ...retained },
      { region: 'eu', ...retained },
    ],
    exits: [{ region: 'eu', ...retained }],
    clients: [{ region: 'us', ...retained }],
  });
  await world.up('c0', { region: 'eu' });
  const session = (await world.session('c0'))?.sessionId ?? '';
  await world.advance(minutes(25));
  t.match(await world.session('c0'), { sessionId: session, state: 'up' }, 'one that goes on is no matter of retention');
  await world.down('c0');
  await world.advance(seconds(5));
  const remembered = () =>
    world.all().filter(({ store, running }) => {
      const facts = store.facts.names('').map((name) => [name, store.facts.get(name)]);
      const events = running.local.events?.(1_000) ?? [];
      return JSON.stringify([store.ledger.sessions(), facts, events]).includes(session);
    });
  t.ok(remembered().length >= 3, 'for now they do');
  await world.advance(minutes(31));
  t.same(
    remembered().map(({ name }) => name),
    [],
  );
});

t.test('audit entries stay their time, and the log stays whole', async (t) => {
  const world = auditWorld();
  await world.audit.record(anEvent(1));
  await world.clock.advance(hours(24 * 200));
  await world.audit.record(anEvent(2));
  await world.clock.advance(hours(24 * 170));
  t.equal(world.audit.forget(plus(world.clock.now(), -hours(24 * 365) as never)), 1);
  await world.clock.advance(0);
  t.match(world.store.audit.read(0, 10), [{ on: 'token:00000002' }, { code: 'audit-pruned' }]);
});
