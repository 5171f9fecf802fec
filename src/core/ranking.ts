import { familyOf, type IpAddress } from '../model/address.js';
import type { ExitCandidate } from '../model/directory.js';
import type { PeerId } from '../model/ids.js';
import type { Path } from '../model/role.js';
import type { ExitRequest, ExitWish } from '../model/session.js';
import { type Millis, ms } from '../model/time.js';

/** A wish, with what a client that has sessions already wants to keep away from. */
export type RankedWish = ExitWish & Partial<Pick<ExitRequest, 'avoidExits' | 'avoidSupernodes'>>;

/** What the choosing supernode knows besides the candidates themselves. */
export interface RankingContext {
  /** The supernode that chooses: the client's own. */
  readonly self: PeerId;
  /** Its relay addresses, and addresses the client's packets come from. */
  readonly relayIps: readonly IpAddress[];
  readonly clientIps: readonly IpAddress[];
  /** Round trip between the client and this supernode; undefined before the first heartbeat. */
  readonly clientLatency: Millis | undefined;
  /** Round trip to another supernode; undefined before the first call. */
  latencyTo(supernode: PeerId): Millis | undefined;
  relayIpsOf(supernode: PeerId): readonly IpAddress[];
  /** Why an exit will not do at present although it is connected; only who asks for it by name gets it. */
  unusable?(exit: PeerId): string | undefined;
}

/** A candidate that fits, with the way its session would take, and why it stands where it stands. */
export interface RankedExit {
  readonly exit: ExitCandidate;
  readonly path: Path;
  /** Lower is better; milliseconds, with load and hops counted as some. */
  readonly score: number;
  readonly reasons: readonly string[];
}

export interface RejectedExit {
  readonly exit: ExitCandidate;
  readonly reason: string;
}

export interface Ranking {
  readonly ranked: readonly RankedExit[];
  readonly rejected: readonly RejectedExit[];
}

/** What a round trip counts as before anybody measured it: the middle of a continent. */
const UNKNOWN_LATENCY = ms(60);
/** What a wholly loaded exit counts as, against an idle one. */
const FULL_LOAD_COST = 80;

/**
 * Which exits fit a wish, best first, each with reasons a person can read. An exit that moves to another supernode may
 * be offered by both: the better way to it counts. Pure; equal scores keep the id's order.
 */
export function rankExits(candidates: readonly ExitCandidate[], wish: RankedWish, context: RankingContext): Ranking {
  const ranked: (RankedExit & { readonly rank: Rank })[] = [];
  const rejected: RejectedExit[] = [];
  for (const exit of candidates) {
    const reason = unfit(exit, wish, context);
    const path = reason === undefined ? pathTo(exit, wish, context) : { ok: false as const, reason };
    if (!path.ok) {
      rejected.push({ exit, reason: path.reason });
      continue;
    }
    const one = weigh(exit, path.path, wish, context);
    if (wish.maxLatency !== undefined && one.latency > wish.maxLatency) {
      rejected.push({ exit, reason: `its ${Math.round(one.latency)} ms are over the ${wish.maxLatency} ms asked for` });
    } else {
      ranked.push({ ...one.ranked, rank: rankOf(one.ranked, wish, context) });
    }
  }
  ranked.sort((a, b) => compare(a.rank, b.rank));
  const best = firsts(ranked).map(({ rank: _, ...one }) => one);
  const fitting = new Set(best.map(({ exit }) => exit.id));
  return { ranked: best, rejected: firsts(rejected).filter(({ exit }) => !fitting.has(exit.id)) };
}

/** What comes first, compared one by one. */
type Rank = readonly [overAvoided: number, notDirect: number, score: number, id: PeerId, supernode: PeerId];

function rankOf({ exit, path, score }: RankedExit, wish: RankedWish, context: RankingContext): Rank {
  const notDirect = wish.privacy === 'direct' && path !== 'direct' ? 1 : 0;
  return [overAvoided(exit, path, wish, context), notDirect, score, exit.id, exit.supernode];
}

function compare(a: Rank, b: Rank): number {
  for (const [i, left] of a.entries()) {
    const right = b[i];
    if (right !== undefined && left !== right) return left < right ? -1 : 1;
  }
  return 0;
}

/** Of several about one exit the first. */
function firsts<T extends { readonly exit: ExitCandidate }>(list: readonly T[]): readonly T[] {
  const seen = new Set<PeerId>();
  return list.filter(({ exit: { id } }) => !seen.has(id) && seen.add(id));
}

/**
 * 0 where nothing on the path was to be avoided; the more, the earlier it was named. Of a path only the exit's supernode
 * can be avoided: the client's own is the one that was asked.
 */
function overAvoided(exit: ExitCandidate, path: Path, { avoidSupernodes = [] }: RankedWish, context: RankingContext) {
  if (path === 'direct' || exit.supernode === context.self) return 0;
  const place = avoidSupernodes.indexOf(exit.supernode);
  return place < 0 ? 0 : avoidSupernodes.length - place;
}

function unfit(exit: ExitCandidate, wish: RankedWish, context: RankingContext): string | undefined {
  const { load } = exit;
  if (wish.avoidExits?.includes(exit.id)) return 'it is in use already, or had to be left';
  if (wish.exit !== undefined && exit.id !== wish.exit) return 'another exit was asked for by name';
  if (wish.region !== undefined && exit.region !== wish.region) return `it is in region ${exit.region}`;
  if (wish.country !== undefined && exit.country !== wish.country) return `its country is ${exit.country ?? 'unknown'}`;
  if (wish.pool !== undefined && exit.pool !== wish.pool) return `it is not in pool ${wish.pool}`;
  if (load.sessionCapacity > 0 && load.sessions >= load.sessionCapacity) return full(load.sessionCapacity);
  if (wish.minMbps !== undefined && exit.maxMbps > 0 && exit.maxMbps < wish.minMbps)
    return `it lends ${exit.maxMbps} Mbit/s`;
  return wish.exit === undefined ? context.unusable?.(exit.id) : undefined;
}

/** A capacity is what an exit's owner allows. */
const full = (capacity: number): string =>
  capacity === 1
    ? 'its owner allows one session at a time, and it is taken'
    : `its owner allows ${capacity} sessions at a time, and all are taken`;

type PathChoice = { readonly ok: true; readonly path: Path } | { readonly ok: false; readonly reason: string };

/** The way packets would take; every relay on it must have an address of one family that both ends use. */
function pathTo(exit: ExitCandidate, wish: ExitWish, context: RankingContext): PathChoice {
  const clientFamilies = new Set(context.clientIps.map(familyOf));
  const local = exit.supernode === context.self;
  const reachable = exit.publicEndpoint !== undefined && clientFamilies.has(familyOf(exit.publicEndpoint.ip));
  if (wish.privacy === 'private') {
    if (local) return { ok: false, reason: 'one supernode would see both ends' };
    if (exit.egress) return { ok: false, reason: 'its supernode is the exit itself, which leaves a single relay' };
  } else if (reachable) {
    return { ok: true, path: 'direct' };
  }
  const needed = exit.egress && exit.publicEndpoint !== undefined ? familyOf(exit.publicEndpoint.ip) : exit.family;
  const families = new Set(context.relayIps.map(familyOf));
  const remote = new Set((local ? context.relayIps : context.relayIpsOf(exit.supernode)).map(familyOf));
  if (!clientFamilies.has(needed) || !families.has(needed) || !remote.has(needed)) {
    return { ok: false, reason: `there is no way to it over IPv${needed} only` };
  }
  return { ok: true, path: local || exit.egress ? 'relay' : 'relay2' };
}

function weigh(
  exit: ExitCandidate,
  path: Path,
  wish: RankedWish,
  context: RankingContext,
): { ranked: RankedExit; latency: number } {
  const near = context.clientLatency ?? UNKNOWN_LATENCY;
  const between = exit.supernode === context.self ? 0 : (context.latencyTo(exit.supernode) ?? UNKNOWN_LATENCY);
  const far = exit.egress ? 0 : (exit.latency ?? UNKNOWN_LATENCY);
  const latency = near + between + far;
  const load = exit.load.sessionCapacity > 0 ? exit.load.sessions / exit.load.sessionCapacity : 0;
  // The owner's own line comes before a server's: a home exit is what people ask for.
  const score = latency + load * FULL_LOAD_COST + (exit.egress ? 200 : 0);
  const reasons = [
    wish.exit === undefined ? `in region ${exit.region}` : 'asked for by name',
    `about ${Math.round(latency)} ms over ${path}`,
    exit.load.sessionCapacity > 0
      ? `${exit.load.sessions} of ${exit.load.sessionCapacity} sessions`
      : `${exit.load.sessions} sessions`,
  ];
  if (exit.maxMbps > 0) reasons.push(`lends ${exit.maxMbps} Mbit/s`);
  if (exit.egress) reasons.push('egress of a supernode');
  if (overAvoided(exit, path, wish, context) > 0) reasons.push('over a supernode that was to be avoided: no other way');
  return { ranked: { exit, path, score, reasons }, latency };
}

/** One sentence on why nothing fits, e.g. "2 exits do not fit: it is full (2)". */
export function explainRejections(rejected: readonly RejectedExit[]): string {
  const counts = new Map<string, number>();
  for (const { reason } of rejected) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([reason, n]) => (n > 1 ? `${reason} (${n})` : reason));
  return `${rejected.length} ${rejected.length === 1 ? 'exit does' : 'exits do'} not fit: ${parts.join('; ')}`;
}
