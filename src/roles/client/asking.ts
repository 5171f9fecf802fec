import type { Clock } from '../../core/ports/clock.js';
import type { PeerId } from '../../model/ids.js';
import type { ExitRequest, SessionGrant } from '../../model/session.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import type { Line } from '../common/line.js';

/** A supernode answers a ping in a round trip: where nothing at all has come for so long, something is wrong. */
const STALLED: Millis = ms(1_500);
const REDIAL_LIMIT: Millis = seconds(3);

export interface AskingDeps {
  readonly clock: Clock;
  /** Whether a supernode's machine takes connections at this moment. */
  readonly answersTcp: (supernode: PeerId) => Promise<boolean>;
}

/**
 * Asks for a session over a line. A connection whose network was away waits with sending again for as long as that took
 * (RFC 6298: the timer doubles), and its supernode may be back for long: where its daemon answers a datagram, its machine
 * a new connection, and nothing comes over this one, the stream is dialled anew and asked again. A daemon that has too
 * much to do is late with its datagrams as well, and new streams are the last thing it needs. Rejects as the supernode
 * does, and with `timeout`.
 */
export async function askForExit(
  { clock, answersTcp }: AskingDeps,
  line: Line,
  request: Omit<ExitRequest, 'requestId'>,
  limit: Millis,
): Promise<SessionGrant> {
  const { upstream } = line;
  const supernode = line.supervisor();
  const began = clock.monotonic();
  let redialled = false;
  const look = async () => {
    if (supernode === undefined || upstream.heardAfter(began)) return;
    if (!(await line.vouch()) || !(await answersTcp(supernode))) return;
    if (upstream.heardAfter(began) || line.supervisor() !== supernode) return;
    redialled = true;
    upstream.stalled();
  };
  const answer = upstream.requestExit(request, limit);
  upstream.ping();
  const cancel = clock.after(STALLED, () => void look());
  try {
    return await answer;
  } catch (thrown) {
    if (!redialled) throw thrown;
    await upstream.whenUp(REDIAL_LIMIT);
    if (line.supervisor() !== supernode) throw thrown;
    return await upstream.requestExit(request, ms(began + limit - clock.monotonic()));
  } finally {
    cancel();
  }
}
