import { type Clock, sleep } from '../../core/ports/clock.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { PeerId } from '../../model/ids.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import type { Line } from '../common/line.js';
import type { TunnelWish } from './standby.js';
import type { HeldTunnel } from './tunnel.js';

/** How long a client that needs another supernode looks for one. */
const LIMIT: Millis = seconds(10);
const LOOK_EVERY: Millis = ms(50);

export interface ElsewhereDeps {
  readonly clock: Clock;
  readonly lines: () => readonly Line[];
  readonly main: () => Line;
  /** Keep a line to a second supernode. */
  readonly wantSecond: (want: boolean) => void;
  readonly open: (what: TunnelWish) => Promise<HeldTunnel>;
}

/** A line that is up, to another supernode than this one. */
export const upElsewhere = (lines: readonly Line[], than: PeerId | undefined): Line | undefined =>
  lines.find((one) => one.isUp() && one.supervisor() !== than);

/** A line to another supernode than this one, brought up where it is not yet. Rejects with `unreachable`. */
export async function lineElsewhere(
  { clock, lines, wantSecond }: Omit<ElsewhereDeps, 'open' | 'main'>,
  than: PeerId | undefined,
  signal: AbortSignal,
): Promise<Line> {
  wantSecond(true);
  const until = clock.monotonic() + LIMIT;
  for (;;) {
    const line = upElsewhere(lines(), than);
    if (line !== undefined) return line;
    if (clock.monotonic() >= until) {
      throw new VpndError('unreachable', 'no other supernode is reached', { retryable: true });
    }
    await sleep(clock, LOOK_EVERY, signal);
  }
}

/** Opens a tunnel over one line, and over the other where this supernode cannot and another one might. */
export async function openAnywhere(deps: ElsewhereDeps, what: TunnelWish): Promise<HeldTunnel> {
  const line = what.line ?? deps.main();
  const asked = line.supervisor();
  try {
    return await deps.open({ ...what, line });
  } catch (thrown) {
    const error = toVpndError(thrown);
    if (what.signal.aborted || !mayDoElsewhere(error, what)) throw error;
    const other = await lineElsewhere(deps, asked, what.signal).catch(() => {
      throw error;
    });
    return deps.open({ ...what, line: other });
  }
}

/** With `private`, a supernode refuses exits of its own, since it would see both ends; another one need not. */
const mayDoElsewhere = ({ code }: VpndError, { wish }: TunnelWish): boolean =>
  code === 'draining' || code === 'full' || (wish.privacy === 'private' && (code === 'no-exit' || code === 'no-path'));
