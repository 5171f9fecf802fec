import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { FactStore } from '../../core/ports/store.js';
import type { Load, SupernodeInfo } from '../../model/directory.js';
import type { PeerId } from '../../model/ids.js';
import type { Region } from '../../model/role.js';
import { hours, type Instant, type Millis, ms, plus, seconds } from '../../model/time.js';
import { Periodic } from '../common/periodic.js';

/** A supernode that was away for longer is no longer published. */
export const PUBLISHED_FOR: Millis = hours(24);
/** Changes of this long travel together: many supernodes connect at once after base was down. */
export const ANNOUNCE_AFTER: Millis = seconds(1);
/** With many, whose list goes to each of them, they travel longer together: after base was down this is most of its work. */
const ANNOUNCE_AFTER_EACH: Millis = ms(20);
/** What a supernode has only just said cannot wait that long: peers go to one that drains until they hear of it. */
export const ANNOUNCE_NEWS_AFTER: Millis = ms(50);
/** How often it is written down that a connected supernode still is, and the long gone are dropped. */
const REFRESH: Millis = hours(1);
/** As many as fit into one message. */
const MOST_PUBLISHED = 256;
/** For so long an order stands that only loads could change: a thousand supernodes ask for it again and again. */
const ORDER_FRESH: Millis = seconds(1);
const FACTS = 'directory/';

/** What is kept of a supernode. */
interface Seen {
  readonly info: SupernodeInfo;
  readonly at: Instant;
}

/** What the directory asks of whoever holds the streams. */
export interface Connections {
  connected(id: PeerId): boolean;
  /** Shut out, whatever is on record. */
  barred(id: PeerId): boolean;
  load(id: PeerId): Load | undefined;
  /** Something that supernodes should know changed. */
  announce(): void;
}

/**
 * The supernodes of the overlay: those connected, and those seen within a day, since a client that starts while base or
 * a supernode is down still needs somewhere to go. Durable in facts.
 */
export class SupernodeDirectory {
  readonly #seen = new Map<PeerId, Seen>();
  readonly #facts: FactStore;
  readonly #clock: Clock;
  readonly #connections: Connections;
  readonly #refresh: Periodic;
  readonly #ordered = new Map<Region | undefined, { readonly at: Instant; readonly list: readonly SupernodeInfo[] }>();
  #announcing: { readonly at: Instant; readonly cancel: () => void } | undefined;

  constructor(facts: FactStore, connections: Connections, ports: { readonly clock: Clock; readonly log: Log }) {
    this.#facts = facts;
    this.#clock = ports.clock;
    this.#connections = connections;
    this.#refresh = new Periodic('refreshing the directory', REFRESH, () => this.#keepUp(), ports);
    for (const name of facts.names(FACTS)) {
      const seen = facts.get<Seen>(name);
      if (seen !== undefined) this.#seen.set(seen.info.id, seen);
    }
  }

  start(): void {
    this.#refresh.start();
  }

  async stop(): Promise<void> {
    this.#announcing?.cancel();
    this.#announcing = undefined;
    await this.#refresh.stop();
  }

  /** A supernode is connecting, has left, or says something new of itself. Durable when it returns. */
  saw(info: SupernodeInfo): void {
    const seen = { info, at: this.#clock.now() };
    this.#facts.put(FACTS + info.id, seen);
    this.#seen.set(info.id, seen);
    this.#ordered.clear();
  }

  /** It was shut out: published no more, at once. Throws what the store throws, and it is published no more all the same. */
  forget(id: PeerId): void {
    if (!this.#seen.delete(id)) return;
    this.changed(ms(0));
    this.#facts.remove(FACTS + id);
  }

  leaves(id: PeerId): void {
    const seen = this.#seen.get(id);
    if (seen !== undefined) this.saw(seen.info);
  }

  /** Tell everybody soon, and whatever else changes until then with it. */
  changed(within: Millis = ms(Math.max(ANNOUNCE_AFTER, this.#seen.size * ANNOUNCE_AFTER_EACH))): void {
    this.#ordered.clear();
    const at = plus(this.#clock.now(), within);
    if (this.#announcing !== undefined && this.#announcing.at <= at) return;
    this.#announcing?.cancel();
    const cancel = this.#clock.after(within, () => {
      this.#announcing = undefined;
      this.#connections.announce();
    });
    this.#announcing = { at, cancel };
  }

  /** Everybody published, best first for somebody in `region`: their own region, connected, not draining, least loaded. */
  list(region: Region | undefined): readonly SupernodeInfo[] {
    const now = this.#clock.now();
    const known = this.#ordered.get(region);
    // The clock may have been set back.
    if (known !== undefined && now >= known.at && now < plus(known.at, ORDER_FRESH)) return known.list;
    const list = this.#published()
      .map((info) => ({ info, rank: this.#rank(info, region) }))
      .sort((a, b) => compare(a.rank, b.rank))
      .slice(0, MOST_PUBLISHED)
      .map(({ info }) => info);
    this.#ordered.set(region, { at: now, list });
    return list;
  }

  /** Regions that have a supernode. */
  regions(): readonly Region[] {
    return [...new Set(this.#published().map(({ region }) => region))].sort();
  }

  #published(): SupernodeInfo[] {
    const now = this.#clock.now();
    return [...this.#seen.values()]
      .filter(({ info, at }) => this.#connections.connected(info.id) || now < plus(at, PUBLISHED_FOR))
      .filter(({ info }) => !this.#connections.barred(info.id))
      .map(({ info }) => ({ ...info, load: this.#connections.load(info.id) ?? info.load }));
  }

  #rank(info: SupernodeInfo, region: Region | undefined): readonly (number | string)[] {
    const { sessions, sessionCapacity } = info.load;
    return [
      info.region === region ? 0 : 1,
      this.#connections.connected(info.id) ? 0 : 1,
      info.draining ? 1 : 0,
      sessionCapacity > 0 ? sessions / sessionCapacity : 0,
      info.id,
    ];
  }

  #keepUp(): void {
    const now = this.#clock.now();
    for (const [id, { info, at }] of [...this.#seen]) {
      if (this.#connections.connected(id)) this.saw(info);
      else if (now >= plus(at, PUBLISHED_FOR)) {
        this.#facts.remove(FACTS + id);
        this.#seen.delete(id);
        this.changed();
      }
    }
  }
}

/** Element by element. */
function compare(a: readonly (number | string)[], b: readonly (number | string)[]): number {
  for (const [i, left] of a.entries()) {
    const right = b[i];
    if (right !== undefined && left !== right) return left < right ? -1 : 1;
  }
  return 0;
}
