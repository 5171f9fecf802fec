import t from 'tap';
import { VpndError } from '../../src/model/errors.js';
import type { PeerId } from '../../src/model/ids.js';
import type { ExitRequest, SessionGrant } from '../../src/model/session.js';
import { type Millis, ms, seconds } from '../../src/model/time.js';
import { askForExit } from '../../src/roles/client/asking.js';
import type { Line } from '../../src/roles/common/line.js';
import { VirtualClock } from '../support/virtual-clock.js';

const A = 'a'.repeat(52) as PeerId;
const GRANT = { session: 'granted' } as unknown as SessionGrant;
const REQUEST = {} as Omit<ExitRequest, 'requestId'>;

interface Stream {
  /** When an answer comes, after the request; never where left out. */
  readonly answersAfter?: Millis;
  /** When anything at all comes. */
  readonly heardAfter?: Millis;
}

/** A line whose first stream behaves as said, and the one after a new dial answers within 20 ms. */
function scene(first: Stream, { answersTcp = true, answersUdp = true, comesUp = true } = {}) {
  const clock = new VirtualClock();
  const dialled: number[] = [];
  let requests = 0;
  let fail: (error: VpndError) => void = () => {};
  const upstream = {
    requestExit: () => {
      requests++;
      const after = dialled.length > 0 ? ms(20) : first.answersAfter;
      return new Promise<SessionGrant>((resolve, reject) => {
        fail = reject;
        if (after !== undefined) clock.after(after, () => resolve(GRANT));
        clock.after(seconds(40), () => reject(new VpndError('timeout', 'no answer')));
      });
    },
    ping: () => {},
    heardAfter: () => first.heardAfter !== undefined && clock.monotonic() >= first.heardAfter,
    stalled: () => {
      dialled.push(clock.monotonic());
      fail(new VpndError('closed', 'nothing came back on the connection', { retryable: true }));
    },
    whenUp: () =>
      comesUp
        ? new Promise<void>((resolve) => clock.after(ms(100), () => resolve()))
        : Promise.reject(new VpndError('timeout', 'it is not up')),
  };
  const line = { index: 0, upstream, supervisor: () => A, vouch: async () => answersUdp } as unknown as Line;
  const asked = askForExit({ clock, answersTcp: async () => answersTcp }, line, REQUEST, seconds(40));
  const outcome = clock.run(
    asked.then(
      () => 'granted',
      (error: VpndError) => error.code,
    ),
  );
  return { clock, dialled, outcome, requests: () => requests };
}

t.test('a connection that swallows everything is replaced, and asked again', async (t) => {
  const { clock, dialled, outcome, requests } = scene({});
  t.equal(await outcome, 'granted');
  t.same(dialled, [1_500]);
  t.equal(requests(), 2);
  t.ok(clock.monotonic() < 1_700);
});

t.test('a supernode that takes its time over an answer, and speaks, is waited for', async (t) => {
  const { dialled, outcome, requests } = scene({ heardAfter: ms(30), answersAfter: seconds(5) });
  t.equal(await outcome, 'granted');
  t.same(dialled, []);
  t.equal(requests(), 1);
});

t.test('where its machine takes no connection either, a new stream would not help', async (t) => {
  const { dialled, outcome } = scene({}, { answersTcp: false });
  t.equal(await outcome, 'timeout');
  t.same(dialled, []);
});

t.test('a daemon that has too much to do for a datagram gets no new stream', async (t) => {
  const { dialled, outcome } = scene({ answersAfter: seconds(8) }, { answersUdp: false });
  t.equal(await outcome, 'granted');
  t.same(dialled, []);
});

t.test('a new stream that does not come up ends it', async (t) => {
  const { outcome } = scene({}, { comesUp: false });
  t.equal(await outcome, 'timeout');
});
