import type { Clock } from '../../core/ports/clock.js';
import type { SupernodeInfo } from '../../model/directory.js';
import type { PeerId } from '../../model/ids.js';
import { type Millis, seconds } from '../../model/time.js';
import type { PeerLine } from './line.js';
import { type LinePlan, type LineView, planLines } from './line-policy.js';

/**
 * How long a line stays where it is not needed any more: the answer to the command that ended its last session, and
 * the news of it, still have to go out, and the next session may be about to come.
 */
const LINGER: Millis = seconds(5);
/**
 * How often the homes are looked at: sessions begin and end without a word to the lines. An exit with sessions pings its
 * homes as often: when its NAT forgets it, clients send into the void, and nobody but the exit can open the way again.
 */
const LOOK_EVERY: Millis = seconds(2);

/** A line that would be better off elsewhere, though nothing is wrong with where it is. */
export interface Move<L> {
  readonly line: L;
  readonly to: SupernodeInfo;
  /** Whether it would be dialled there if it were let go now. */
  readonly wouldGo: boolean;
}

export interface LinesDeps {
  readonly clock: Clock;
  /** The node's own. */
  readonly region: string;
  readonly homes: () => readonly PeerId[];
  /** Every known one, best first. */
  readonly supernodes: () => readonly SupernodeInfo[];
  /** Those among them that are of use only where no other is. */
  readonly lastChoice: () => readonly PeerId[];
  /** Whether lines at homes show more often than others whether they still are. */
  readonly isServing: boolean;
  /** Whether its round trip is known. */
  readonly hasAnswered: (id: PeerId) => boolean;
}

/** A node's two lines to supernodes, each where `planLines` says. */
export class Lines {
  #wantSecond = false;
  #glances = false;
  #started = false;
  #cancelLook: () => void = () => {};
  #planning = false;
  #homes = '';
  /** Since when each has been where, or been running though, it is not needed. */
  readonly #idleSince: [Millis | undefined, Millis | undefined] = [undefined, undefined];

  constructor(
    private readonly lines: readonly [PeerLine, PeerLine],
    private readonly deps: LinesDeps,
  ) {}

  start(): void {
    this.#started = true;
    this.reconsider();
    this.#look();
  }

  async stop(): Promise<void> {
    this.#started = false;
    this.#cancelLook();
    await Promise.all(this.lines.map((line) => line.stop()));
  }

  wantSecond(want: boolean): void {
    if (this.#wantSecond === want) return;
    this.#wantSecond = want;
    this.reconsider();
    // One that waits to try a home again may go elsewhere now.
    if (want) for (const line of this.lines) if (line.running && isDown(line)) line.upstream.redial();
  }

  /** For a short while, to hear what another supernode has to say. */
  glance(glances: boolean): void {
    if (this.#glances === glances) return;
    this.#glances = glances;
    this.reconsider();
  }

  /** Where a line may be dialled to at present, best first. */
  targets(index: 0 | 1): readonly SupernodeInfo[] {
    const supernodes = this.deps.supernodes();
    const byId = new Map(supernodes.map((one) => [one.id, one]));
    return this.#plan(supernodes)[index].targets.flatMap((id) => byId.get(id) ?? []);
  }

  /** The one that this node's work goes over. */
  main(): PeerLine {
    const [a, b] = this.lines;
    const [home] = this.deps.homes();
    const isUpAt = (line: PeerLine) => line.isUp() && line.supervisor() === home;
    if (home !== undefined && (isUpAt(a) || isUpAt(b))) return isUpAt(a) ? a : b;
    if (a.isUp() !== b.isUp()) return a.isUp() ? a : b;
    // Neither, or both: what takes new sessions comes before what drains.
    if (a.isUp() && this.#drains(a) && !this.#drains(b)) return b;
    // What is asked for over one that is about to rest would not be answered.
    if (a.isUp() && !this.#plan(this.deps.supernodes())[0].run) return b;
    return !a.running && b.running ? b : a;
  }

  /**
   * A line elsewhere while a home is missed and no other line is on its way there; else the main line while it is
   * abroad though its own region comes first, or would if a supernode there answered: an exit is looked for there.
   */
  better(): Move<PeerLine> | undefined {
    const supernodes = this.deps.supernodes();
    const homes = this.deps.homes();
    const plans = this.#plan(supernodes);
    const main = this.main();
    for (const line of [...this.lines.filter((one) => one !== main), main]) {
      const other = this.lines[line.index === 0 ? 1 : 0];
      const at = line.supervisor();
      if (!line.isUp() || at === undefined || homes.includes(at) || (other.running && !other.isUp())) continue;
      const [next] = plans[line.index].targets;
      const to = next !== undefined && homes.includes(next) ? next : line === main ? this.#inland(line) : undefined;
      const supernode = supernodes.find((one) => one.id === to);
      if (supernode !== undefined && to !== at) return { line, to: supernode, wouldGo: next === to };
    }
    return undefined;
  }

  /** The supernode of its own region that a line abroad might go to. */
  #inland(line: PeerLine): PeerId | undefined {
    const { region, hasAnswered } = this.deps;
    const supernodes = this.deps.supernodes();
    const here = supernodes.findIndex((one) => one.id === line.supervisor());
    if (here < 0 || supernodes[here]?.region === region) return undefined;
    const open = new Set(this.#plan(supernodes)[line.index].targets);
    const to = supernodes.findIndex((one) => one.region === region && open.has(one.id));
    // One that has answered and comes later all the same is where it belongs.
    const found = supernodes[to];
    return found !== undefined && (to < here || !hasAnswered(found.id)) ? found.id : undefined;
  }

  /** Sessions began or ended. */
  sessionsChanged(): void {
    const homes = this.deps.homes().join(' ');
    if (homes === this.#homes) return;
    this.#homes = homes;
    this.reconsider();
  }

  /** The lines are put where they belong: something changed. */
  reconsider(): void {
    // Starting one line tells of a change, which is looked at already.
    if (!this.#started || this.#planning) return;
    this.#planning = true;
    try {
      for (const index of [0, 1] as const) this.#apply(index, this.#plan(this.deps.supernodes())[index]);
    } finally {
      this.#planning = false;
    }
  }

  #apply(index: 0 | 1, plan: LinePlan): void {
    const line = this.lines[index];
    if (plan.run && !plan.leave) this.#idleSince[index] = undefined;
    if (plan.run && !line.running) line.start();
    if (!line.running || (plan.run && !plan.leave)) return;
    const now = this.deps.clock.monotonic();
    const since = this.#idleSince[index] ?? now;
    this.#idleSince[index] = since;
    if (now - since < LINGER) return;
    this.#idleSince[index] = undefined;
    if (plan.run) line.upstream.redial();
    else line.rest();
  }

  #look(): void {
    this.#cancelLook = this.deps.clock.after(LOOK_EVERY, () => {
      const homes = this.deps.homes();
      this.reconsider();
      for (const line of this.lines) {
        const at = line.supervisor();
        const inUse = at !== undefined && homes.includes(at);
        line.lookAfterUdp(inUse);
        if (inUse && this.deps.isServing && line.isUp()) line.upstream.ping();
      }
      this.#look();
    });
  }

  #plan(supernodes: readonly SupernodeInfo[]): readonly [LinePlan, LinePlan] {
    const [a, b] = this.lines;
    return planLines({
      homes: this.deps.homes(),
      supernodes,
      lines: [viewOf(a), viewOf(b)],
      wantSecond: this.#wantSecond || this.#glances,
      lastChoice: this.deps.lastChoice(),
    });
  }

  #drains(line: PeerLine): boolean {
    const at = line.supervisor();
    return this.deps.supernodes().some((one) => one.id === at && one.draining);
  }
}

const viewOf = (line: PeerLine): LineView => ({ at: line.supervisor(), up: line.isUp(), running: line.running });

const isDown = (line: PeerLine): boolean => line.upstream.status().state === 'down';
