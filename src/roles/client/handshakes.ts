import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { PeerObservation } from '../../model/dataplane.js';
import { type Millis, ms, seconds, since } from '../../model/time.js';
import type { Pulses } from './pulses.js';
import { type HeldTunnel, isInForce } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

/** WireGuard's keys have a life (REKEY_AFTER_TIME): with these ones nothing can come through before a handshake. */
const KEYS_END: Millis = seconds(120);
/** One that hears something so lately needs nothing. */
const QUIET: Millis = ms(500);
/** After a change of networks: when the way is likely to be there, and twice more. */
const TRIES: readonly Millis[] = [ms(300), ms(900), ms(2_000)];

/**
 * WireGuard repeats a handshake that got lost after five seconds, and no sooner (REKEY_TIMEOUT). The first one after a
 * sleep or a move is lost more often than not: the relay has to be told of the new address, or set up again. A peer
 * that is made anew shakes hands at once.
 *
 * wireguard-go also goes on sending from the address it had, where another one took its place on the same interface: its
 * packets leave for nowhere until the peer is made anew.
 */
export class Handshakes {
  constructor(
    private readonly deps: {
      readonly clock: Clock;
      readonly log: Log;
      readonly tunnels: Tunnels;
      readonly pulses: Pulses;
      /** `wireguard-go` rather than the kernel. */
      readonly userspace: boolean;
      readonly observe: () => Promise<ReadonlyMap<number, PeerObservation>>;
    },
  ) {}

  /** The network underneath is another. */
  networkChanged(): void {
    const { clock, tunnels } = this.deps;
    const at = clock.monotonic();
    for (const delay of TRIES) {
      clock.after(delay, () => {
        const since = ms(clock.monotonic() - at);
        for (const tunnel of tunnels.held()) void this.#again(tunnel, since, this.deps.userspace);
      });
    }
  }

  /** The way of this tunnel is there again. */
  wayIsBack(tunnel: HeldTunnel): void {
    void this.#again(tunnel, QUIET);
  }

  async #again(tunnel: HeldTunnel, silentFor: Millis, anyway = false): Promise<void> {
    const { clock, log, tunnels, pulses } = this.deps;
    const { slot } = tunnel;
    if (!isInForce(tunnel) || pulses.quietFor(slot) <= silentFor) return;
    try {
      const seen = (await this.deps.observe()).get(slot);
      const ended = seen?.lastHandshake !== undefined && since(clock.now(), seen.lastHandshake) >= KEYS_END;
      if (!anyway && !ended) return;
      const now = tunnels.withSession(tunnel.held.session);
      if (now === undefined || !isInForce(now) || pulses.quietFor(slot) <= silentFor) return;
      await tunnels.remakePeer(now.slot);
      pulses.ask();
    } catch (err) {
      log.warn('a handshake could not be begun anew', { err });
    }
  }
}
