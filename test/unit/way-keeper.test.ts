import t from 'tap';
import type { Projection } from '../../src/core/executor.js';
import type { SessionRecord } from '../../src/core/ports/store.js';
import type { PeerUnit } from '../../src/model/dataplane.js';
import type { SessionId } from '../../src/model/ids.js';
import { WayKeeper } from '../../src/roles/exit/way-keeper.js';
import { testLog } from '../support/test-log.js';

const record = (session: string) => ({ session }) as SessionRecord;
const peer = (session: string, keepalive: number): PeerUnit => ({
  kind: 'peer',
  device: 'wg-exit' as PeerUnit['device'],
  publicKey: session as PeerUnit['publicKey'],
  presharedKey: undefined,
  allowedIps: [],
  endpoint: undefined,
  keepalive,
});

/** What the kernel is told of keepalives, in order. */
function keeping(keepalive: number, fails = 0) {
  const told: string[] = [];
  let failures = fails;
  const log = testLog();
  const keeper = new WayKeeper({
    log,
    reproject: async (session, change) => {
      change();
      if (failures-- > 0) throw new Error('the kernel is busy');
      const units = projection.units(record(session));
      told.push(`${session} ${units.map((unit) => (unit.kind === 'peer' ? unit.keepalive : unit.kind)).join()}`);
    },
  });
  const projection: Projection = keeper.around({
    fixed: () => [],
    units: ({ session }) => [peer(session, keepalive)],
    answer: () => ({ offer: undefined }),
  });
  const now = (session: string) => (projection.units(record(session))[0] as PeerUnit).keepalive;
  return { keeper, told, now, log };
}

t.test('each session has its keepalive off and on again, so that WireGuard sends one at once', async (t) => {
  const { keeper, told, now } = keeping(25);
  await keeper.speakUp([record('s1'), record('s2')]);
  t.same(
    told.filter((text) => text.startsWith('s1')),
    ['s1 0', 's1 25'],
  );
  t.same(
    told.filter((text) => text.startsWith('s2')),
    ['s2 0', 's2 25'],
  );
  t.equal(now('s1' as SessionId), 25);
});

t.test('a kernel that cannot be told now leaves the keepalive as it was to be', async (t) => {
  const { keeper, now, log } = keeping(25, 1);
  await keeper.speakUp([record('s1')]);
  t.equal(now('s1'), 25);
  t.match(log.lines, [{ level: 'warn' }]);
  const failing = keeping(25, 2);
  await failing.keeper.speakUp([record('s1')]);
  t.equal(failing.now('s1'), 25);
});
