import { setTimeout as pause } from 'node:timers/promises';
import type { Home } from '../../chaos/lab/index.js';
import {
  activeSession,
  Fleet,
  isUp,
  monotonicMs,
  type OverlayNode,
  type PacketRecord,
  PacketTrain,
  standbySession,
  statusOf,
  Transfer,
  withStandby,
} from '../../chaos/overlay/index.js';
import type { NodeStatus } from '../../src/gen/vpnd/v1/admin_pb.js';
import { Path, Privacy } from '../../src/gen/vpnd/v1/types_pb.js';
import type { Sample } from './event.js';

/** How the client is to stand before an event. */
export interface Stance {
  /** `direct` and `relay` with privacy `auto`; `private`: two relays, never anything else. */
  readonly path: 'direct' | 'relay' | 'private';
}

/** Who is what for the client at present, by names. */
export interface Standing {
  readonly exit: string;
  /** The supernode that granted the session. */
  readonly relay: string;
  readonly standbyExit: string;
}

const CALL_LIMIT_MS = 60_000;
/** A client looks for a standby on another way after ten seconds, where its first one crosses the relay in use. */
const SETTLING_MS = 30_000;
/** Traffic before the event: what the longest gap is when nothing happens. */
const QUIET_MS = 1500;

/**
 * Where events happen: three supernodes in as many regions, four exits and two clients, each behind a home router. `c1`
 * is the one that is watched.
 */
export class Bed {
  readonly #undo: (() => Promise<void> | void)[] = [];
  readonly #privacy = new Map<string, Privacy>();
  #home: Home;

  private constructor(
    readonly fleet: Fleet,
    /** Of all nodes, by their ids. */
    readonly names: ReadonlyMap<string, string>,
    private readonly otherHome: Home,
  ) {
    this.#home = fleet.home('c1');
  }

  static async make(): Promise<Bed> {
    const fleet = await Fleet.start({
      lab: { name: 'recovery' },
      supernodes: [
        { name: 'a', region: 'eu' },
        { name: 'b', region: 'us' },
        { name: 'c', region: 'as' },
      ],
      exits: [
        { name: 'x1', region: 'us' },
        { name: 'x2', region: 'as' },
        { name: 'x3', region: 'us' },
        { name: 'x4', region: 'as' },
      ],
      clients: [
        { name: 'c1', region: 'eu' },
        { name: 'c2', region: 'eu' },
      ],
    });
    try {
      return new Bed(fleet, await fleet.names(), await fleet.newHome('elsewhere'));
    } catch (cause) {
      await fleet.close();
      throw cause;
    }
  }

  node(name: string): OverlayNode {
    return this.fleet.node(name);
  }

  /** The network that c1 is in at present. */
  get home(): Home {
    return this.#home;
  }

  /** c1 is carried over to the other one of two home networks. */
  async move(): Promise<void> {
    this.#home = this.#home === this.otherHome ? this.fleet.home('c1') : this.otherHome;
    await this.#home.adopt(this.node('c1').host);
  }

  /** What a fault did, undone after the measurement, last first. */
  undo(how: () => Promise<void> | void): void {
    this.#undo.push(how);
  }

  async restore(): Promise<void> {
    for (let how = this.#undo.pop(); how !== undefined; how = this.#undo.pop()) await how();
  }

  /** Connected as wished, with a warm standby. Throws with the status seen last. */
  async ready(stance: Stance, client = 'c1'): Promise<Standing> {
    const { api } = this.node(client);
    const privacy = stance.path === 'private' ? Privacy.PRIVATE : Privacy.AUTO;
    const signal = AbortSignal.timeout(CALL_LIMIT_MS);
    const before = activeSession(await api.status());
    const fits = before?.state === 'up' && this.#privacy.get(client) === privacy;
    if (!fits) {
      await api.down();
      await api.up({ privacy }, signal);
      this.#privacy.set(client, privacy);
    }
    const wanted = { direct: [Path.DIRECT], relay: [Path.RELAY, Path.RELAY2], private: [Path.RELAY2] }[stance.path];
    await withStandby(this.node(client));
    const now = activeSession(await api.status());
    if (stance.path !== 'private' && now !== undefined && !wanted.includes(now.path)) {
      await api.setPath({ path: stance.path === 'direct' ? Path.DIRECT : Path.RELAY }, signal);
    }
    const isReady = (seen: NodeStatus) => {
      const one = activeSession(seen);
      return isUp(one) && wanted.includes(one.path) && isUp(standbySession(seen));
    };
    const first = await statusOf(this.node(client), isReady);
    // As it is most of the time, not as it is in the moments after the fault before: what the last run has killed is back.
    const isSettled = (seen: NodeStatus) => isReady(seen) && !standbySharesRelay(seen);
    const settled = await statusOf(this.node(client), isSettled, SETTLING_MS).catch(() => first);
    return this.standing(settled);
  }

  standing(status: NodeStatus): Standing {
    const name = (id = '') => this.names.get(id) ?? `nobody (${id})`;
    const [one, other] = [activeSession(status), standbySession(status)];
    return { exit: name(one?.exitId), relay: name(one?.supernodeId), standbyExit: name(other?.exitId) };
  }

  /**
   * A hundred packets a second before, during and after an event; `watchMs` after it began. The event's own time counts:
   * the clock starts before it.
   */
  async measure(event: () => Promise<void>, options: { readonly watchMs: number }): Promise<Sample> {
    const train = await PacketTrain.start(this.node('c1').host, this.fleet.web);
    let record: PacketRecord | undefined;
    let at = 0;
    let trouble: unknown;
    try {
      await pause(QUIET_MS);
      at = monotonicMs();
      await event().catch((thrown: unknown) => {
        trouble = thrown;
      });
      const left = at + options.watchMs - monotonicMs();
      if (left > 0) await pause(left);
    } finally {
      record = await train.stop();
    }
    if (trouble !== undefined) throw trouble;
    return {
      recoveredMs: record.recoveredAfter(at) ?? Number.POSITIVE_INFINITY,
      sent: record.sent,
      lost: record.lost,
      lostAtMs: record.lostAt(at),
      gapMs: record.longestGap(at),
      instrumentPauseMs: record.longestPause(at),
      quietGapMs: record.longestGap(0, at - 20),
      seen: record.seen.length,
    };
  }

  /** The same with a download that lasts from before the event until after it. */
  async measureWithDownload(event: () => Promise<void>, options: { readonly watchMs: number }): Promise<Sample> {
    const seconds = (QUIET_MS + options.watchMs) / 1000 + 2;
    const transfer = await Transfer.start(this.node('c1').host, this.fleet.web, { seconds });
    const sample = await this.measure(event, options);
    return { ...sample, download: await transfer.ended() };
  }

  async close(): Promise<void> {
    await this.fleet.close();
  }
}

function standbySharesRelay(status: NodeStatus): boolean {
  const relay = activeSession(status)?.supernodeId ?? '';
  return standbySession(status)?.via.includes(relay) === true;
}
