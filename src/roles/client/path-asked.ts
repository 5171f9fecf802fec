import { type Clock, sleep } from '../../core/ports/clock.js';
import { VpndError } from '../../model/errors.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import type { Keeper } from './keeper.js';
import type { HeldTunnel } from './tunnel.js';

/** A search for the direct path, a trial of it, and two streams before them. */
const LIMIT: Millis = seconds(8);
const LOOK: Millis = ms(20);

/** `vpnd path`. Resolves when the session takes that path, rejects with `no-direct` or `no-path` when it does not. */
export async function askForPath(
  { clock, keeper }: { readonly clock: Clock; readonly keeper: Pick<Keeper, 'paths' | 'tunnels'> },
  path: 'auto' | 'direct' | 'relay',
  signal: AbortSignal,
): Promise<void> {
  const { paths, tunnels } = keeper;
  const active = tunnels.active();
  if (active === undefined || active.holds) throw new VpndError('no-session', 'there is no tunnel; see vpnd up');
  paths.ask(path);
  const isThere = (tunnel: HeldTunnel | undefined) => (tunnel?.held.path === 'direct') === (path !== 'relay');
  if (isThere(active)) return;
  if (!paths.wish(active, path === 'relay' ? 'relay' : 'direct', `asked for by hand: ${path}`)) {
    throw new VpndError('closed', 'the supernode of this session is not connected at present', { retryable: true });
  }
  if (path === 'auto') return;
  const giveUpAt = clock.monotonic() + LIMIT;
  while (clock.monotonic() < giveUpAt) {
    await sleep(clock, LOOK, signal);
    const now = tunnels.withSession(active.held.session);
    if (now === undefined) throw new VpndError('no-session', 'the session ended meanwhile', { retryable: true });
    if (isThere(now)) return;
  }
  if (path === 'direct') throw new VpndError('no-direct', 'there is no direct path to this exit from here');
  throw new VpndError('no-path', 'the supernode did not bring the session back to the relay', { retryable: true });
}
