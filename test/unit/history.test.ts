import t from 'tap';
import { VpndError } from '../../src/model/errors.js';
import type { SessionId } from '../../src/model/ids.js';
import { instantOf } from '../../src/model/time.js';
import { History } from '../../src/roles/common/history.js';
import { type MemoryStore, openMemoryStore } from '../../src/store/memory.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

const session = 'aa'.repeat(16) as SessionId;

function setUp(store: MemoryStore = openMemoryStore(), limit = 300) {
  const clock = new VirtualClock(instantOf(1_000_000));
  const log = testLog();
  const history = new History({ facts: store.facts, clock, log, limit });
  return { store, clock, log, history };
}

const texts = (history: History, limit?: number): readonly string[] => history.list(limit).map(({ text }) => text);

t.test('what happened is listed in order, with the time, and survives a restart', async (t) => {
  const { history, clock, store } = setUp();
  history.record('connected', 'over a relay', session);
  await clock.advance(5_000);
  history.record('failed-over', 'the exit fell silent');
  t.same(history.list(), [
    { sequence: 0, at: 1_000_000, code: 'connected', text: 'over a relay', session },
    { sequence: 1, at: 1_005_000, code: 'failed-over', text: 'the exit fell silent', session: undefined },
  ]);
  t.same(texts(history, 1), ['the exit fell silent'], 'the newest ones');
  await clock.advance(1_000);

  const again = setUp(store.reopen()).history;
  t.same(again.list(), history.list());
  again.record('connected', 'anew');
  t.equal(again.list().at(-1)?.sequence, 2, 'it counts on');
});

t.test('a burst is one write, some time after', async (t) => {
  const { history, clock, store } = setUp();
  for (let i = 0; i < 50; i++) history.record('session-opened', `${i}`);
  t.same(store.facts.names('event/'), [], 'nobody waited for a disk');
  await clock.advance(1_000);
  t.equal(store.facts.names('event/').length, 1);
  t.equal(clock.pending, 0, 'and nothing goes on ticking');
  history.record('session-closed', '50');
  await clock.advance(1_000);
  t.equal(store.facts.names('event/').length, 2, 'what is written is not written again');
  t.equal(setUp(store.reopen()).history.list().length, 51);
});

t.test('only so many are kept, in memory and on disk', async (t) => {
  const { history, clock, store } = setUp(openMemoryStore(), 10);
  for (let i = 0; i < 95; i++) {
    history.record('repaired', `${i}`);
    if (i % 3 === 0) await clock.advance(1_000);
  }
  await clock.advance(1_000);
  const newest = Array.from({ length: 10 }, (_, i) => `${85 + i}`);
  t.same(texts(history), newest);
  t.ok(store.facts.names('event/').length <= 10, 'old ones leave the disk');
  t.same(texts(setUp(store.reopen(), 10).history), newest);
});

t.test('a burst longer than what is kept leaves its newest', async (t) => {
  const { history, clock, store } = setUp(openMemoryStore(), 3);
  for (let i = 0; i < 100; i++) history.record('session-closed', `${i}`);
  await clock.advance(1_000);
  t.same(texts(history), ['97', '98', '99']);
  t.same(texts(setUp(store.reopen(), 3).history), ['97', '98', '99']);
});

t.test('a full disk costs nobody anything but the history of that time', async (t) => {
  const { history, clock, store, log } = setUp();
  store.failWrites(new VpndError('disk-full', 'no space left'));
  for (let i = 0; i < 5; i++) {
    history.record('repaired', `${i}`);
    await clock.advance(1_000);
  }
  t.equal(history.list().length, 5, 'shown all the same');
  t.equal(log.lines.length, 1, 'said once');
  t.match(log.lines[0], { level: 'warn', fields: { code: 'disk-full' } });

  store.failWrites(undefined);
  history.record('repaired', '5');
  await clock.advance(1_000);
  t.same(texts(setUp(store.reopen()).history), ['0', '1', '2', '3', '4', '5'], 'and written once there is room');
});

t.test('a history that cannot be read begins anew', async (t) => {
  const { store, clock, log } = setUp();
  const broken = {
    ...store.facts,
    names: (): readonly string[] => {
      throw new VpndError('state-corrupt', 'a stored value is not JSON');
    },
  };
  const history = new History({ facts: broken, clock, log });
  history.record('problem', 'something');
  t.same(texts(history), ['something']);
  t.equal(log.lines.length, 1);
});

t.test('closing writes what waits, and nothing afterwards', async (t) => {
  const { history, clock, store, log } = setUp();
  history.record('disconnected', 'asked for by hand');
  history.close();
  const kept = store.reopen();
  history.record('problem', 'too late');
  t.equal(clock.pending, 0);
  t.same(texts(setUp(kept).history), ['asked for by hand']);
  t.equal(log.lines.length, 0);
});

t.test('a watcher goes on at the next event, or when it gives up', async (t) => {
  const { history } = setUp();
  const watching = new AbortController();
  const first = history.next(watching.signal);
  history.record('woke', 'after 1 h');
  await first;
  const second = history.next(watching.signal);
  watching.abort();
  await second;
  t.pass('both have come');
});
