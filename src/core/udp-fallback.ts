import { type Millis, minutes, seconds } from '../model/time.js';

/** How a tunnel's datagrams leave this machine: as UDP, or inside the stream to the supernode (UDP blocked). */
export type Way = 'udp' | 'stream';

export interface WayFacts {
  readonly way: Way;
  /** How long it has been this one, in this network. */
  readonly sinceChange: Millis;
  /** Whether anything came back through the tunnel since then: a handshake, or bytes. */
  readonly passes: boolean;
  /** Whether signed UDP probes reach the supernode, as found out since the change; undefined before that. */
  readonly udp: 'through' | 'blocked' | undefined;
  /** Whether the stream to the session's supernode is up. */
  readonly streamUp: boolean;
  /** How often UDP was tried again in this network, and nothing passed by it after all. */
  readonly failures: number;
}

/** WireGuard repeats a handshake after five seconds: one that got lost is no blocked network. */
const NO_HANDSHAKE: Millis = seconds(5);
/** Probes pass and WireGuard does not, in networks that let some ports through: they are asked less and less often. */
const FIRST_RETRY: Millis = seconds(30);
const LONGEST_RETRY: Millis = minutes(10);

/**
 * Which way a tunnel is to take now. The stream is the last resort: it is taken when nothing passes by UDP while the
 * stream is up, at once where probes say that UDP is blocked, and left as soon as they say that it is not.
 */
export function decideWay(facts: WayFacts): Way {
  const { way, passes, udp, streamUp, sinceChange } = facts;
  if (way === 'udp') {
    if (passes || !streamUp) return 'udp';
    return udp === 'blocked' || sinceChange >= NO_HANDSHAKE ? 'stream' : 'udp';
  }
  if (udp !== 'through') return 'stream';
  return sinceChange >= udpRetry(facts.failures) ? 'udp' : 'stream';
}

/** How long the stream is kept although probes pass by UDP. None, where UDP has not disappointed yet. */
export function udpRetry(failures: number): Millis {
  return failures === 0 ? (0 as Millis) : (Math.min(LONGEST_RETRY, FIRST_RETRY * 2 ** (failures - 1)) as Millis);
}
