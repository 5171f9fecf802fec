import { setTimeout as pause } from 'node:timers/promises';
import { killMachine } from '../../chaos/overlay/index.js';
import { type BedEvent, noneLost, noSessionLost } from './event.js';

/** Servers that go away. Sessions do not need them. */

const REQUEST_LIMIT_MS = 40_000;
const BASE_AWAY_MS = 30_000;
/** An idle tunnel is probed every five seconds, and what is connected over one that turns out to be dead is reset. */
const FAILOVER_LIMIT_MS = 8_000;
const RETRY_MS = 250;

export const supernodeRestarted: BedEvent = {
  name: 'supernode-restarted',
  title: 'daemon of the client’s supernode killed, and started a second later',
  limits: [noneLost],
  async once(bed) {
    const { relay } = await bed.ready({ path: 'private' });
    const node = bed.node(relay);
    const event = async () => {
      await node.crash();
      await pause(1000);
      await node.start();
    };
    return bed.measure(event, { watchMs: 8000 });
  },
};

/**
 * Half a minute without base, in which another client connects, rotates and loses its exit, and that exit and a
 * supernode come back: all from what each node has on record.
 */
export const baseAway: BedEvent = {
  name: 'base-away',
  title: `base killed for ${BASE_AWAY_MS / 1000} s; another client connects, rotates and fails over meanwhile`,
  limits: [noneLost, noSessionLost],
  runs: (asked) => Math.min(asked, 10),
  async once(bed) {
    const mine = await bed.ready({ path: 'direct' });
    const other = bed.node('c2');
    await other.api.down();
    const troubles: string[] = [];
    const attempt = async (what: string, act: () => Promise<unknown>) => {
      try {
        await act();
      } catch (thrown) {
        troubles.push(`${what}: ${thrown instanceof Error ? thrown.message : String(thrown)}`);
      }
    };
    const signal = () => AbortSignal.timeout(REQUEST_LIMIT_MS);
    bed.undo(async () => {
      if (!bed.fleet.base.process.running) await bed.fleet.base.start();
    });
    const sample = await bed.measure(
      async () => {
        const began = performance.now();
        await bed.fleet.base.crash();
        await attempt('connect', () => other.api.up({}, signal()));
        await attempt('ready', () => bed.ready({ path: 'direct' }, 'c2'));
        await attempt('rotate', () => other.api.rotate({}, signal()));
        await attempt('ready', () => bed.ready({ path: 'direct' }, 'c2'));
        const { exit } = bed.standing(await other.api.status());
        if (exit !== mine.exit) {
          await killMachine(bed.node(exit));
          await attempt('fail over', () => pageWithin(FAILOVER_LIMIT_MS, () => bed.fleet.seenIp(other.host)));
          await attempt('exit starts', () => bed.node(exit).start());
        }
        await pause(Math.max(0, began + BASE_AWAY_MS - performance.now()));
        await bed.fleet.base.start();
      },
      { watchMs: BASE_AWAY_MS + 3000 },
    );
    return { ...sample, sessionsLost: troubles.length, troubles };
  },
};

/** Resolves with the first page there is, as somebody gets it who tries again; rejects with the last error after `limit`. */
async function pageWithin<T>(limitMs: number, page: () => Promise<T>): Promise<T> {
  const giveUpAt = performance.now() + limitMs;
  for (;;) {
    try {
      return await page();
    } catch (thrown) {
      if (performance.now() >= giveUpAt) throw thrown;
      await pause(RETRY_MS);
    }
  }
}
