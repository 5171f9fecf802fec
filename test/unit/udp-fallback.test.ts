import t from 'tap';
import { decideWay, udpRetry, type WayFacts } from '../../src/core/udp-fallback.js';
import { minutes, ms, seconds } from '../../src/model/time.js';

const FRESH: WayFacts = {
  way: 'udp',
  sinceChange: ms(0),
  passes: false,
  udp: undefined,
  streamUp: true,
  failures: 0,
};
const way = (facts: Partial<WayFacts>) => decideWay({ ...FRESH, ...facts });

t.test('UDP first; the stream when nothing passes', async (t) => {
  t.equal(way({}), 'udp');
  t.equal(way({ sinceChange: ms(4_900) }), 'udp', 'a lost handshake is repeated after five seconds');
  t.equal(way({ sinceChange: seconds(5) }), 'stream');
  t.equal(way({ sinceChange: seconds(5), udp: 'through' }), 'stream', 'probes pass, WireGuard does not');
  t.equal(way({ udp: 'blocked' }), 'stream', 'known to be blocked: at once');
});

t.test('what works is left alone', async (t) => {
  t.equal(way({ passes: true, sinceChange: minutes(5), udp: 'blocked' }), 'udp');
  t.equal(way({ way: 'stream', sinceChange: minutes(5), udp: 'blocked' }), 'stream');
  t.equal(way({ way: 'stream', sinceChange: minutes(5), udp: undefined }), 'stream');
  t.equal(
    way({ sinceChange: seconds(60), streamUp: false, udp: 'blocked' }),
    'udp',
    'no stream, nothing to fall back to',
  );
});

t.test('the stream is left as soon as probes pass, more slowly where they have misled', async (t) => {
  t.equal(way({ way: 'stream', udp: 'through', passes: true }), 'udp');
  t.equal(way({ way: 'stream', udp: 'through', failures: 1, sinceChange: seconds(29) }), 'stream');
  t.equal(way({ way: 'stream', udp: 'through', failures: 1, sinceChange: seconds(30) }), 'udp');
  t.same([0, 1, 2, 3, 5, 6, 20].map(udpRetry), [0, 30_000, 60_000, 120_000, 480_000, 600_000, 600_000]);
});
