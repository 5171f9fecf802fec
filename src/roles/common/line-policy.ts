import type { PeerId } from '../../model/ids.js';

/** A line as the policy sees it. */
export interface LineView {
  /** Where it is connected, or being dialled to. */
  readonly at: PeerId | undefined;
  readonly up: boolean;
  readonly running: boolean;
}

export interface LinesInput {
  /** Supernodes that own sessions of this node, the most important first. */
  readonly homes: readonly PeerId[];
  /** Every known supernode, best first. */
  readonly supernodes: readonly { readonly id: PeerId; readonly draining: boolean }[];
  readonly lines: readonly [LineView, LineView];
  /** Keep the second line at another supernode though nothing hangs on it yet. */
  readonly wantSecond: boolean;
  /** Supernodes that are of use only where no other is. */
  readonly lastChoice: readonly PeerId[];
}

export interface LinePlan {
  readonly run: boolean;
  /** Where it may be dialled to, best first. */
  readonly targets: readonly PeerId[];
  /** It is up where it has no business, and has somewhere better to go. */
  readonly leave: boolean;
}

/**
 * Where a node's two lines belong. Pure. The rules, strongest first:
 *
 * 1. The two are never at one supernode, and neither is dialled to the other's: a supernode ends the older stream.
 * 2. A line at a home stays there. Two homes are held at most: the most important, and the most important other one
 *    that takes new sessions; where all of them drain and another supernode does not, one line goes to that one.
 * 3. A line is dialled to homes that the other does not hold, then to other supernodes, best first and those of last
 *    choice last, draining ones never. A second line at one of last choice leaves it for another.
 * 4. One line that takes new sessions will do: the other goes to homes only, unless a second is wanted.
 * 5. A second line runs when one is wanted, for a second home, for a home that the first could not reach, and for new
 *    sessions while the first is at a supernode that drains.
 */
export function planLines(input: LinesInput): readonly [LinePlan, LinePlan] {
  const held = homesToHold(input);
  const isLast = (id: PeerId) => input.lastChoice.includes(id);
  const takers = input.supernodes.filter((one) => !one.draining).map((one) => one.id);
  const open = [...takers.filter((id) => !isLast(id)), ...takers.filter(isLast)];
  const known = new Set(input.supernodes.map((one) => one.id));
  const [a, b] = input.lines;
  const first = mainLine(input.lines, held, open) === 0 ? a : b;
  const second = first === a ? b : a;

  const targetsOf = (other: LineView): readonly PeerId[] => {
    const free = (id: PeerId) => known.has(id) && id !== other.at;
    return [...held, ...(mayRoam(other) ? open.filter((id) => !held.includes(id)) : [])].filter(free);
  };
  const mayRoam = (other: LineView) => input.wantSecond || !isOpen(other, open);
  const isAtHome = ({ at, up }: LineView) => up && at !== undefined && held.includes(at);

  const planFirst: LinePlan = { run: true, targets: targetsOf(second), leave: false };
  const targets = targetsOf(first);
  const isNeeded =
    input.wantSecond ||
    held.length > 1 ||
    (first.up && held.length > 0 && !isAtHome(first)) ||
    (first.up && !isOpen(first, open) && open.length > 0);
  const isBetterElsewhere = second.at !== undefined && isLast(second.at) && targets.some((id) => !isLast(id));
  const misplaced = second.up && !isAtHome(second) && (!(isOpen(second, open) && mayRoam(first)) || isBetterElsewhere);
  const run = isNeeded && (targets.length > 0 || (second.up && !misplaced));
  const planSecond: LinePlan = { run, targets, leave: run && misplaced };
  return first === a ? [planFirst, planSecond] : [planSecond, planFirst];
}

function homesToHold({ homes, supernodes, lines }: LinesInput): readonly PeerId[] {
  const draining = new Map(supernodes.map((one) => [one.id, one.draining]));
  const reachable = homes.filter((id) => draining.has(id) || lines.some((line) => line.at === id));
  const takesNew = (id: PeerId) => draining.get(id) === false;
  const [main, ...others] = reachable;
  if (main === undefined) return [];
  const elsewhere = supernodes.some((one) => !one.draining);
  const second = takesNew(main) ? others[0] : (others.find(takesNew) ?? (elsewhere ? undefined : others[0]));
  return second === undefined ? [main] : [main, second];
}

/** Which of the two everything goes by: the one at the more important home, else one that takes new sessions. */
function mainLine(lines: readonly [LineView, LineView], held: readonly PeerId[], open: readonly PeerId[]): 0 | 1 {
  const worth = (line: LineView): number => {
    if (!line.up || line.at === undefined) return line.running ? 1_000_000 : 2_000_000;
    if (held.includes(line.at)) return held.indexOf(line.at) - held.length;
    const rank = open.indexOf(line.at);
    return rank < 0 ? 500_000 : rank;
  };
  return worth(lines[1]) < worth(lines[0]) ? 1 : 0;
}

const isOpen = ({ at, up }: LineView, open: readonly PeerId[]): boolean => up && at !== undefined && open.includes(at);
