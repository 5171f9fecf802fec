import t from 'tap';
import { PacketRecord } from '../../chaos/overlay/train.js';

/** A packet each 10 ms from 0 on; `answered` says after how long each one was answered. */
const record = (answered: (number | null)[]): PacketRecord =>
  new PacketRecord({
    everyMs: 10,
    sentAt: answered.map((_, n) => n * 10),
    answeredAt: answered.map((after, n) => (after === null ? null : n * 10 + after)),
    seen: [],
    refused: 0,
  });

const times = <T>(count: number, what: T): T[] => Array.from({ length: count }, () => what);

t.test('a train that nothing happens to', async (t) => {
  const even = record(times(100, 1));
  t.match(even, { sent: 100, lost: 0 });
  t.equal(even.longestGap(), 10);
  t.equal(even.recoveredAfter(500), 0, 'never stood still');
});

t.test('traffic stands still from a fault on, and comes back', async (t) => {
  const broken = record([...times(50, 1), ...times(40, null), ...times(60, 1)]);
  t.match(broken, { sent: 150, lost: 40 });
  t.equal(broken.longestGap(), 410);
  t.equal(broken.longestGap(0, 400), 10, 'before the fault');
  t.equal(broken.recoveredAfter(495), 901 - 495, 'counted from the fault, not from the last answer');
  t.equal(broken.lostBetween(495, 700), 21);
});

t.test('what was held and came late all at once counts as standing still, not as lost', async (t) => {
  const held = record([...times(50, 1), ...Array.from({ length: 40 }, (_, n) => 400 - n * 10), ...times(60, 1)]);
  t.equal(held.lost, 0);
  t.equal(held.longestGap(), 409);
  t.equal(held.recoveredAfter(495), 900 - 495);
});

t.test('a second standstill after the first: the last one ends it', async (t) => {
  const twice = record([...times(20, 1), ...times(40, null), ...times(30, 1), ...times(40, null), ...times(50, 1)]);
  t.equal(twice.recoveredAfter(195), 1301 - 195);
  const short = record([...times(50, 1), ...times(40, null), ...times(30, 1), ...times(15, null), ...times(50, 1)]);
  t.equal(short.recoveredAfter(495), 901 - 495, 'what is much shorter is the machine’s own');
});

t.test('traffic that never comes back has no time of recovery', async (t) => {
  t.equal(record([...times(50, 1), ...times(50, null)]).recoveredAfter(495), undefined);
  t.equal(record(times(50, null)).recoveredAfter(0), undefined);
});
