import type { Clock } from '../../core/ports/clock.js';
import type { Counter } from '../../core/ports/metrics.js';
import { limitKey, type RateLimit, RateLimiter } from '../../core/rate-limit.js';
import { TokenBucket } from '../../core/token-bucket.js';
import type { IpAddress } from '../../model/address.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import { FairPlaces } from '../fair-places.js';
import type { Keepalive } from './options.js';

export interface GuardLimits {
  /** New connections per address (/64 for IPv6), before a TLS handshake costs anything. */
  readonly connections: Omit<RateLimit, 'maxKeys'>;
  /** Connections at once on which nobody has shown yet who he is. */
  readonly strangers: { readonly all: number; readonly perAddress: number };
  /** How long a connection may be a stranger's, however busy it is. */
  readonly strangerTime: Millis;
  /** Bytes that brought no message, of one connection. */
  readonly noise: { readonly perSecond: number; readonly burst: number };
  /** HTTP/2 streams that one connection may open. */
  readonly streams: { readonly perSecond: number; readonly burst: number };
  /** The same, for a supernode, which makes a call for each session it opens. */
  readonly calls: { readonly perSecond: number; readonly burst: number };
  /** Bytes of messages that are taken from one connection; more waits in the other side's flow control window. */
  readonly messages: { readonly perSecond: number; readonly burst: number };
}

export const GUARD_LIMITS: GuardLimits = {
  // Twice what streams are let in at: enrolling and renewing take a connection each, too. A handshake is 1.2 ms of CPU.
  connections: { perMinute: 240, burst: 120 },
  // Some 70 KB each. Honest ones are strangers for a few round trips.
  strangers: { all: 1_024, perAddress: 64 },
  strangerTime: seconds(30),
  // The burst is the largest message, half arrived; the rate 240 HTTP/2 pings, where an honest peer sends one in 20 s.
  noise: { perSecond: 4 * 1024, burst: 320 * 1024 },
  // One is a control stream; sixteen at once are what a connection may have. Each costs a quarter of a millisecond.
  streams: { perSecond: 4, burst: 32 },
  calls: { perSecond: 500, burst: 2_000 },
  // Above what a session inside the stream may take (80 Mbit/s), so that honest ones are never held up here.
  messages: { perSecond: 12_500_000, burst: 4_000_000 },
};

/** Why a connection was refused or cut; the label of `connections_refused_total`. */
export type Refused = 'address-rate' | 'crowded' | 'stranger' | 'noise' | 'streams' | 'protocol';

/** Those that an honest peer never comes near: its address pays for them. */
const FLOODS: ReadonlySet<Refused> = new Set(['noise', 'streams', 'protocol']);

/** A connection as the guard sees it: bytes on the wire, TLS included. */
export interface Wire {
  readonly bytesRead: number;
  readonly bytesWritten: number;
  /** Has the other side's HTTP/2 answer. */
  ping?(): void;
  /** Ends it at once; nothing more is read. */
  cut(): void;
}

/**
 * How often strangers are looked at. Others, of which there are thousands: all of them at every fourth look while the
 * process is busy, which is when one of them may be flooding it, and else each once in so many looks, a few at a time.
 */
export const LOOK: Millis = ms(250);
const OTHERS_EVERY = 4;
export const OTHERS_AT_LEISURE = 16;
const LATE: Millis = seconds(2);
/** What comes with a message besides its bytes: TLS record, frame and message headers, a new window. */
const PER_MESSAGE = 128;
/** Bytes written bring bytes back: new windows, acknowledged pings. */
const WRITTEN_PER_READ = 16;
/** A flood costs its address so many new connections. */
const PENALTY = 10;
const MAX_KEYS = 20_000;

interface Deps {
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly refused: Counter<'reason'>;
  /** Whether the process has had much to do since the last look; taken for granted unless given. */
  readonly isBusy?: () => boolean;
  /** After so much quiet a connection is asked whether it is still there, and cut where nothing comes back. */
  readonly keepalive?: Keepalive;
}

/**
 * Bounds what a connection can cost before, and besides, what its messages do: state only for who is let in, time only
 * for who says who he is, and nothing for frames that bring no message. HTTP/2 has many ways to keep a server busy
 * (streams reset at once, pings, settings, priorities, empty frames, windows, headers in a thousand parts), and Node shows few
 * of them to a program. All of them are bytes on the wire that carry no message, so that is what is counted.
 */
export class ConnectionGuard {
  readonly limits: GuardLimits;
  readonly deps: Deps;
  readonly #rate: RateLimiter;
  readonly #strangers: FairPlaces<Watched>;
  readonly #strange = new Set<Watched>();
  readonly #known = new Set<Watched>();
  #round: Iterator<Watched> | undefined;
  #looks = 0;
  #lookedAt: Millis;
  /** This look comes so late that the process was held up: what has come meanwhile is not read yet. */
  #isLate = false;

  constructor(limits: GuardLimits, deps: Deps) {
    this.limits = limits;
    this.deps = deps;
    this.#lookedAt = deps.clock.monotonic();
    this.#rate = new RateLimiter({ ...limits.connections, maxKeys: MAX_KEYS }, deps.clock);
    this.#strangers = new FairPlaces({ all: limits.strangers.all, perSender: limits.strangers.perAddress });
  }

  /** Connections on which nobody has shown who he is. */
  get strangers(): number {
    return this.#strangers.size;
  }

  /** Whether another connection may come from there; a no is counted as refused. */
  allows(ip: IpAddress): boolean {
    const allowed = this.#rate.allow(limitKey(ip));
    if (!allowed) this.deps.refused.inc({ reason: 'address-rate' });
    return allowed;
  }

  /** A connection that is let in, before its first byte. */
  watch(ip: IpAddress, wire: Wire): Watched {
    const watched = new Watched(this, limitKey(ip), wire);
    this.becameStranger(watched);
    return watched;
  }

  /** To be called every `LOOK`. */
  look(): void {
    const now = this.deps.clock.monotonic();
    this.#isLate = now - this.#lookedAt > LATE;
    this.#lookedAt = now;
    for (const one of this.#strange) {
      if (now - one.since > this.limits.strangerTime) this.cut(one, 'stranger');
      else this.#lookAt(one, now);
    }
    const isBusy = this.deps.isBusy?.() ?? true;
    if (!isBusy) this.#lookAtSome(now);
    else if (this.#looks % OTHERS_EVERY === 0) for (const one of this.#known) this.#lookAt(one, now);
    this.#looks++;
  }

  #lookAtSome(now: Millis): void {
    for (let left = Math.ceil(this.#known.size / OTHERS_AT_LEISURE); left > 0; left--) {
      this.#round ??= this.#known.values();
      const next = this.#round.next();
      if (next.done === true) this.#round = undefined;
      else this.#lookAt(next.value, now);
    }
  }

  #lookAt(one: Watched, now: Millis): void {
    // Asked once: with thousands of them, that is where the time goes.
    const { bytesRead } = one.wire;
    const { keepalive } = this.deps;
    if (one.noisy(now, bytesRead)) this.cut(one, 'noise');
    else if (!this.#isLate && keepalive !== undefined && one.dead(now, bytesRead, keepalive)) one.wire.cut();
  }

  cut(one: Watched, reason: Refused): void {
    if (one.gone) return;
    this.left(one);
    this.refused(one, reason);
    one.wire.cut();
  }

  refused(one: Watched, reason: Refused): void {
    if (one.counted) return;
    one.counted = true;
    this.deps.refused.inc({ reason });
    if (FLOODS.has(reason)) for (let i = 0; i < PENALTY; i++) this.#rate.allow(one.address);
  }

  left(one: Watched): void {
    one.gone = true;
    this.#strangers.leave(one.address, one);
    this.#strange.delete(one);
    this.#known.delete(one);
  }

  becameKnown(one: Watched): void {
    if (one.gone) return;
    this.#strangers.leave(one.address, one);
    this.#strange.delete(one);
    this.#known.add(one);
  }

  becameStranger(one: Watched): void {
    if (one.gone) return;
    this.#known.delete(one);
    this.#strange.add(one);
    const evicted = this.#strangers.enter(one.address, one);
    if (evicted !== undefined) this.cut(evicted, 'crowded');
  }
}

/** One connection under guard. */
export class Watched {
  readonly address: string;
  readonly wire: Wire;
  readonly #guard: ConnectionGuard;
  /** Since when it has been a stranger's. */
  since: Millis;
  gone = false;
  counted = false;
  #standing: 'stranger' | 'peer' | 'supernode' = 'stranger';
  #streams: TokenBucket;
  /** Bytes that messages account for. */
  #heard = 0;
  #noise = 0;
  #level = 0;
  #looked: Millis;
  /** As of the last look at which anything new had come. */
  #read = 0;
  #readAt: Millis;
  #isAsked = false;
  /** When its messages so far would have come at the rate it is allowed. */
  #paidUntil = 0;

  constructor(guard: ConnectionGuard, address: string, wire: Wire) {
    this.#guard = guard;
    this.address = address;
    this.wire = wire;
    this.since = guard.deps.clock.monotonic();
    this.#looked = this.since;
    this.#readAt = this.since;
    this.#streams = new TokenBucket(guard.limits.streams, guard.deps.clock);
  }

  /** A peer has authenticated on it, or a supernode's certificate was checked. */
  admitted(as: 'peer' | 'supernode'): void {
    if (this.#standing === as || this.#standing === 'supernode') return;
    this.#standing = as;
    const { limits, deps } = this.#guard;
    if (as === 'supernode') this.#streams = new TokenBucket(limits.calls, deps.clock);
    this.#guard.becameKnown(this);
  }

  /** The stream of the peer that authenticated has ended. A certificate stays with its connection. */
  dismissed(): void {
    if (this.#standing !== 'peer') return;
    this.#standing = 'stranger';
    this.since = this.#guard.deps.clock.monotonic();
    this.#guard.becameStranger(this);
  }

  /** HTTP/2 is over on it, which need not close the connection under it. */
  finished(): void {
    this.#standing = 'peer';
    this.dismissed();
  }

  /** HTTP/2 found it to break the protocol, or to go beyond one of its own limits, and has closed it. */
  broke(): void {
    this.#guard.cut(this, 'protocol');
    this.#guard.refused(this, 'protocol');
  }

  /** The other side opened an HTTP/2 stream; one too many ends the connection. */
  opened(): void {
    if (!this.#streams.take(1)) this.#guard.cut(this, 'streams');
  }

  /** A message came, of so many bytes. Answers for how long no more is to be read. */
  heard(bytes: number): Millis {
    const { limits, deps } = this.#guard;
    const { perSecond, burst } = limits.messages;
    this.#heard += bytes + PER_MESSAGE;
    const now = deps.clock.monotonic();
    this.#paidUntil = Math.max(this.#paidUntil, now) + (bytes * 1_000) / perSecond;
    return ms(Math.max(0, this.#paidUntil - now - (burst * 1_000) / perSecond));
  }

  left(): void {
    this.#guard.left(this);
  }

  /** Whether too much came that brought no message. */
  noisy(now: Millis, bytesRead: number): boolean {
    const { perSecond, burst } = this.#guard.limits.noise;
    const noise = bytesRead - this.#heard - this.wire.bytesWritten / WRITTEN_PER_READ;
    const drained = (perSecond * (now - this.#looked)) / 1_000;
    // Never below nothing: hours of good behaviour buy no flood.
    this.#level = Math.max(0, this.#level - drained + noise - this.#noise);
    this.#noise = noise;
    this.#looked = now;
    return this.#level > burst;
  }

  /** Whether nothing came for longer than a ping needs to be answered. Asks when it was quiet for long. */
  dead(now: Millis, bytesRead: number, { every, patience }: Keepalive): boolean {
    if (bytesRead !== this.#read) {
      this.#read = bytesRead;
      this.#readAt = now;
      this.#isAsked = false;
      return false;
    }
    const quiet = now - this.#readAt;
    if (quiet < every) return false;
    if (!this.#isAsked) this.wire.ping?.();
    // Looks may be far apart: the answer must have had its time.
    if (!this.#isAsked) this.#readAt = ms(now - every);
    this.#isAsked = true;
    return now - this.#readAt >= every + patience;
  }
}
