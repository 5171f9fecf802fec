import { type Clock, sleep } from '../../core/ports/clock.js';
import { type Endpoint, sameEndpoint } from '../../model/address.js';
import type { DeviceTraffic } from '../../model/dataplane.js';
import { type Millis, ms } from '../../model/time.js';
import { knockKey } from '../common/knock.js';
import type { ForwardingPorts } from '../ports.js';
import { probeTunnel } from './monitor.js';
import { type HeldTunnel, isInForce, type Search } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

const LOOK_EVERY: Millis = ms(25);
/** By then the exit has knocked several times at a NAT that this side has opened; later it does so less often. */
const KNOCKING: Millis = ms(1_200);
const LATE_LOOK: Millis = ms(100);
/** The first knock of this side may have been lost. */
const KNOCK_AGAIN: Millis = ms(500);
/**
 * When a glimpse may be taken: so long after a packet that somebody sent or got, and no later, or when there was none for so
 * much longer. What comes once a second or more rarely is not met by it, and what comes more often leaves no such moment.
 */
const AFTER_PACKET: Millis = ms(400);
const NOT_LATER_THAN: Millis = ms(600);
const NOBODY_FOR: Millis = ms(1_500);
/** Packets a second, both ways: of what sends more than that, a pause is a hitch. */
const SELDOM = 6;
/** How long packets go the other way: WireGuard has sent a probe by then. */
const GLIMPSE: Millis = ms(20);
/** Where a change of a peer takes longer (a machine that is busy with other things), a glimpse would, too: none is taken. */
const QUICK: Millis = ms(60);
/** A probe may be lost on a way that is open. */
const GLIMPSES = 2;
/** Longest, with what a quiet moment is waited for: the supernode repeats an order that was not answered for 5 s. */
export const LONGEST_SEARCH: Millis = ms(4_000);

export interface WaySearchDeps {
  readonly ports: Pick<ForwardingPorts, 'clock' | 'crypto' | 'dataplane' | 'reach'>;
  readonly tunnels: Tunnels;
  /** Where the exit is, as its relay has seen it. */
  readonly at: Endpoint;
  /** How long it may take. */
  readonly limit: Millis;
  /** How long an answer from the exit may take. */
  readonly patience: Millis;
  /** How long ago anything came through the tunnel. */
  readonly quietFor: Millis;
  /** Whether anybody still wants to know. */
  readonly wanted: () => boolean;
}

/**
 * - `open`: packets came from the exit itself, on a way that this side has opened.
 * - `shut`: none came.
 * - `unsure`: none came by themselves, and the tunnel was never quiet enough for more.
 * - `over`: nobody wants to know any more, or the tunnel has changed meanwhile.
 */
export type Found = 'open' | 'shut' | 'unsure' | 'over';

/**
 * Finds out whether packets get through directly, while those of the user take the way they had (docs/sessions.md).
 * Two things show it:
 *
 * - *Knocks.* Both ends send handshakes that nobody answers out of WireGuard's port, which opens their NATs for each other. One
 *   that gets here came from where the exit is, to where this side sends from.
 * - *Glimpses.* Where this side's NAT takes a port for each destination the exit cannot know where to knock; it may let in
 *   whoever comes all the same. In a moment in which nobody uses the tunnel one probe goes there. WireGuard at the exit
 *   follows it, and the answer comes from there. What somebody sends within those milliseconds is at stake, and nothing else.
 */
export class WaySearch {
  readonly #quiet: Quiet;
  #tunnel: HeldTunnel;
  #knocks = 0;
  #glimpses = 0;
  #slow = false;
  #heardBefore = 0;

  constructor(
    tunnel: HeldTunnel,
    private readonly deps: WaySearchDeps,
  ) {
    const { clock, dataplane } = deps.ports;
    this.#tunnel = tunnel;
    this.#quiet = new Quiet(clock, () => dataplane.traffic(tunnel.device), deps.quietFor);
  }

  /**
   * Rejects with what the data plane rejects with. Where it is `open` the search is still in place, for whoever moves the
   * tunnel there; otherwise the tunnel is as it was.
   */
  async run(): Promise<Found> {
    this.#heardBefore = await this.#count();
    try {
      await this.#knock();
      const found = await this.#look();
      if (found !== 'open') await this.#end();
      return found;
    } catch (thrown) {
      await this.#end().catch(() => {});
      throw thrown;
    }
  }

  async #look(): Promise<Found> {
    const { clock } = this.deps.ports;
    const began = clock.monotonic();
    for (;;) {
      const elapsed = clock.monotonic() - began;
      if (elapsed >= KNOCKING && this.#glimpses >= GLIMPSES) return 'shut';
      if (elapsed >= this.deps.limit) return this.#glimpses === 0 ? 'unsure' : 'shut';
      await sleep(clock, elapsed < KNOCKING ? LOOK_EVERY : LATE_LOOK);
      if (!this.#goesOn()) return 'over';
      if (await this.#isHeard()) return 'open';
      // Who uses it from now on has used another one until now.
      if (this.#tunnel.use !== this.#current()?.use) this.#usedAnew();
      if (this.#quiet.isNow() && this.#glimpses < GLIMPSES && !this.#slow) {
        // Another knock is as much of a change as a glimpse is, and costs nobody anything.
        this.#slow = (await this.#knock()) > QUICK;
        if (!this.#slow && this.#quiet.isNow() && (await this.#glimpse())) return 'open';
      } else if (elapsed >= KNOCK_AGAIN && this.#knocks < 2) await this.#knock();
    }
  }

  #usedAnew(): void {
    this.#tunnel = { ...(this.#current() ?? this.#tunnel), search: this.#tunnel.search };
    this.#quiet.restart();
  }

  /** How long it took to put it. */
  async #knock(): Promise<Millis> {
    const { clock, crypto } = this.deps.ports;
    const key = knockKey(crypto, this.#tunnel.held.session, ++this.#knocks);
    const began = clock.monotonic();
    await this.#put({ at: this.deps.at, knock: key, glimpse: false });
    const took = ms(clock.monotonic() - began);
    await sleep(clock, LOOK_EVERY);
    this.#quiet.own();
    return took;
  }

  async #glimpse(): Promise<boolean> {
    const { clock, reach } = this.deps.ports;
    const { search } = this.#tunnel;
    if (search === undefined) return false;
    this.#glimpses++;
    const probe = () => probeTunnel(reach, this.#tunnel.held.inner);
    await this.#put({ ...search, glimpse: true });
    void probe();
    await sleep(clock, GLIMPSE);
    await this.#put(search);
    const until = clock.monotonic() + this.deps.patience;
    while (clock.monotonic() < until && this.#goesOn()) {
      if (await this.#isHeard()) return true;
      await sleep(clock, LOOK_EVERY);
    }
    // The exit may have followed the first one, on a way that lets nothing back: with this one it returns.
    if (this.#goesOn()) await probe();
    this.#quiet.restart();
    return false;
  }

  /** False where the tunnel is another one by now. */
  async #put(search: Search | undefined): Promise<void> {
    const now = this.#current();
    if (now === undefined) return;
    this.#tunnel = { ...now, search };
    this.deps.tunnels.put(this.#tunnel);
    await this.deps.tunnels.commit();
  }

  #end(): Promise<void> {
    return this.#put(undefined);
  }

  #goesOn(): boolean {
    const now = this.#current();
    const { endpoint } = this.#tunnel.held;
    const same = now !== undefined && isInForce(now) && now.carriedAt === undefined;
    return same && sameEndpoint(now.held.endpoint, endpoint) && this.deps.wanted();
  }

  /** As it is now: it may have become another's, or got another use, meanwhile. */
  #current(): HeldTunnel | undefined {
    const { session } = this.#tunnel.held;
    return this.deps.tunnels.withSession(session);
  }

  async #isHeard(): Promise<boolean> {
    return (await this.#count()) > this.#heardBefore;
  }

  /** Packets that came from the exit itself. Before the search the tunnel may have counted them, since it was direct once. */
  async #count(): Promise<number> {
    const { device, held, pin, search } = this.#tunnel;
    const counts =
      search !== undefined || (sameEndpoint(pin?.from, this.deps.at) && sameEndpoint(pin?.to, held.endpoint));
    if (!counts) return 0;
    const seen = await this.deps.ports.dataplane.observePins();
    return seen.find((one) => one.device === device)?.fromPackets ?? 0;
  }
}

/** Moments in which nobody uses a device. */
class Quiet {
  readonly #began: number;
  #seen: DeviceTraffic;
  #since: number;
  /** Whether there was a packet then; otherwise nothing is known of what was before. */
  #afterPacket = false;
  /** Since it began, those of our own making left out. */
  #packets = 0;

  constructor(
    private readonly clock: Clock,
    private readonly traffic: () => DeviceTraffic | undefined,
    already: Millis,
  ) {
    this.#seen = this.#read();
    this.#began = clock.monotonic();
    this.#since = this.#began - already;
  }

  isNow(): boolean {
    const now = this.#read();
    const at = this.clock.monotonic();
    const packets = now.rxPackets - this.#seen.rxPackets + now.txPackets - this.#seen.txPackets;
    if (packets !== 0) {
      this.#seen = now;
      this.#since = at;
      this.#afterPacket = true;
      this.#packets += packets;
    }
    const lasts = at - this.#since;
    const seldom = this.#packets <= (SELDOM * (at - this.#began)) / 1_000;
    const soonAfter = this.#afterPacket && seldom && lasts >= AFTER_PACKET && lasts < NOT_LATER_THAN;
    return soonAfter || lasts >= NOBODY_FOR;
  }

  /** What was counted since the last look was of our own making. */
  own(): void {
    this.#seen = this.#read();
  }

  /** Nothing is known of what was before. */
  restart(): void {
    this.own();
    this.#since = this.clock.monotonic();
    this.#afterPacket = false;
  }

  #read(): DeviceTraffic {
    return this.traffic() ?? { rxPackets: 0, txPackets: 0 };
  }
}
