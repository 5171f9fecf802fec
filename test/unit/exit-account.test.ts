import t from 'tap';
import { memoryDataPlane } from '../../dataplane/memory.js';
import { instantOf, minutes, seconds } from '../../src/model/time.js';
import { Account } from '../../src/roles/exit/account.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { testLog } from '../support/test-log.js';
import { testMetrics } from '../support/test-metrics.js';
import { VirtualClock } from '../support/virtual-clock.js';

const BERLIN_LATE = instantOf(Date.parse('2026-06-01T21:50:00Z'));

function setUp() {
  const clock = new VirtualClock(BERLIN_LATE);
  const kernel = memoryDataPlane();
  const { facts } = openMemoryStore();
  const metrics = testMetrics();
  const open = (dataplane = kernel) =>
    new Account({ timeZone: 'Europe/Berlin', facts, clock, metrics, log: testLog(), dataplane });
  return { clock, kernel, facts, metrics, open };
}

t.test('the day’s bytes begin anew at midnight where the exit is', async (t) => {
  const { clock, kernel, open } = setUp();
  const account = open();
  kernel.countCarried(100, 2_000);
  await account.look();
  t.same(account.today, { fromClients: 100, toClients: 2_000 });
  await clock.advance(minutes(9));
  kernel.countCarried(1, 1);
  await account.look();
  t.same(account.today, { fromClients: 101, toClients: 2_001 });
  await clock.advance(minutes(2));
  kernel.countCarried(5, 7);
  await account.look();
  t.same(account.today, { fromClients: 5, toClients: 7 }, 'two minutes past midnight');
});

t.test('a restart goes on where the last process ended; counters that begin anew add nothing twice', async (t) => {
  const { clock, kernel, metrics, open } = setUp();
  kernel.countCarried(100, 100);
  kernel.countRefused('mail', 4);
  const account = open();
  await account.look();
  t.equal(metrics.value('exitViolations{kind=mail}'), 0, 'another process has counted these');
  kernel.countCarried(10, 10);
  kernel.countRefused('mail', 2);
  await account.look();
  account.keep();
  t.equal(metrics.value('exitViolations{kind=mail}'), 2);

  const next = open();
  kernel.countCarried(1, 1);
  await next.look();
  t.same(next.today, { fromClients: 111, toClients: 111 });
  const fresh = memoryDataPlane();
  fresh.countCarried(50, 50);
  const last = open(fresh);
  await last.look();
  t.same(last.today, { fromClients: 111, toClients: 111 });
  fresh.countCarried(50, 50);
  await clock.advance(seconds(1));
  await last.look();
  t.same(last.today, { fromClients: 161, toClients: 161 });
});

t.test('who asks for figures that cannot be read gets the last ones', async (t) => {
  const { kernel, open } = setUp();
  let broken = false;
  const account = open(
    Object.assign(Object.create(kernel), {
      observeEgress: async () => {
        if (broken) throw new Error('nft is gone');
        return kernel.observeEgress();
      },
    }),
  );
  kernel.countRefused('source', 1);
  await account.look();
  broken = true;
  t.equal((await account.show()).refused.source, 1);
  await t.rejects(account.look());
});
