import { setImmediate as turn } from 'node:timers/promises';
import t from 'tap';
import { keepAudit } from '../../src/cli/keep-audit.js';
import type { DaemonConfig } from '../../src/config/types.js';
import { openSodium } from '../../src/identity/sodium.js';
import { VpndError } from '../../src/model/errors.js';
import { days, hours, minutes } from '../../src/model/time.js';
import { entriesOf } from '../../src/obs/audit.js';
import { openMemoryStore } from '../../src/store/memory.js';
import { exitConfig, supernodeConfig } from '../support/overlay-world/configs.js';
import { seededRandom } from '../support/seeded-random.js';
import { testLog } from '../support/test-log.js';
import { VirtualClock } from '../support/virtual-clock.js';

const { crypto } = await openSodium();
const TOKEN = `vpnd1${'abcdefgh'.repeat(8)}`;

function daemon() {
  const clock = new VirtualClock();
  const log = testLog();
  const identity = crypto.identityFromSeed(seededRandom(1).bytes(32));
  let store = openMemoryStore();
  return {
    clock,
    log,
    get store() {
      return store;
    },
    start(config: DaemonConfig, version = 'vpnd/1') {
      return keepAudit(config, { store, identity, crypto, clock, log, version });
    },
    reopen() {
      store = store.reopen();
    },
    said: () => [...entriesOf(store.audit)].map(({ code, on }) => (code.startsWith('daemon') ? code : `${code} ${on}`)),
  };
}

t.test('starts, stops and changed settings, by name and without what they are', async (t) => {
  const node = daemon();
  const first = supernodeConfig('a', '198.51.100.1' as never);
  await node.start(first).close();
  node.reopen();
  await node.start({ ...first, join: TOKEN }).close();
  node.reopen();
  await node.start({ ...first, lease: minutes(7), logLevel: 'debug', join: undefined }).close();
  t.same(node.said(), [
    ...['daemon-started', 'daemon-stopped'],
    ...['daemon-started', 'daemon-stopped'],
    ...['daemon-started', 'config-changed setting:lease', 'config-changed setting:log-level', 'daemon-stopped'],
  ]);
  const text =
    JSON.stringify([...entriesOf(node.store.audit)]) + JSON.stringify(node.store.facts.get('audit/settings'));
  t.notMatch(text, TOKEN);
  t.notMatch(text, 'join"');
});

t.test('entries stay as long as --retain-audit says, looked at once a day', async (t) => {
  const node = daemon();
  const config = supernodeConfig('a', '198.51.100.1' as never, { retainAudit: days(10) });
  const kept = node.start(config);
  await turn();
  await node.clock.advance(days(5));
  await kept.audit.record({ code: 'token-made', by: 'operator', on: 'token:1' });
  await node.clock.advance(days(5));
  t.same(node.said(), ['daemon-started', 'token-made token:1']);
  await node.clock.advance(days(1) + hours(1));
  await turn();
  t.same(node.said(), ['token-made token:1', 'audit-pruned audit']);
  await kept.close();
});

t.test('a full disk keeps no daemon from starting', async (t) => {
  const node = daemon();
  const config = supernodeConfig('a', '198.51.100.1' as never);
  await node.start(config).close();
  node.reopen();
  node.store.failWrites(new VpndError('disk-full', 'the disk is full'));
  const kept = node.start({ ...config, lease: minutes(7) });
  await turn();
  t.match(kept.audit.problem(), /disk is full/);
  node.store.failWrites(undefined);
  await node.clock.advance(minutes(1));
  await turn();
  t.equal(kept.audit.problem(), undefined);
  t.same(
    node.said().slice(2),
    ['daemon-started', 'config-changed setting:lease'],
    'and what it did is on record later',
  );
  await kept.close();
});

t.test('exits and clients keep no audit log', async (t) => {
  const node = daemon();
  const kept = node.start(exitConfig('x'));
  await kept.audit.record({ code: 'admin-call', by: 'operator', on: 'call:down' });
  await kept.close();
  t.same(node.said(), []);
});
