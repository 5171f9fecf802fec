import { familyOf, type IpAddress } from '../model/address.js';
import type { ExitCandidate } from '../model/directory.js';
import type { PeerId } from '../model/ids.js';
import type { Path } from '../model/role.js';
import type { ExitWish } from '../model/session.js';
import { type Millis, ms } from '../model/time.js';

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

/** Which exits fit a wish, best first, each with reasons a person can read. Pure; equal scores keep the id's order. */
export function rankExits(candidates: readonly ExitCandidate[], wish: ExitWish, context: RankingContext): Ranking {
  const ranked: RankedExit[] = [];
  const rejected: RejectedExit[] = [];
  const seen = new Set<PeerId>();
  for (const exit of candidates) {
    if (seen.has(exit.id)) continue;
    seen.add(exit.id);
    const reason = unfit(exit, wish);
    const path = reason === undefined ? pathTo(exit, wish, context) : { ok: false as const, reason };
    if (!path.ok) {
      rejected.push({ exit, reason: path.reason });
      continue;
    }
    const one = weigh(exit, path.path, wish, context);
    if (wish.maxLatency !== undefined && one.latency > wish.maxLatency) {
      rejected.push({ exit, reason: `its ${Math.round(one.latency)} ms are over the ${wish.maxLatency} ms asked for` });
    } else {
      ranked.push(one.ranked);
    }
  }
  ranked.sort((a, b) => a.score - b.score || (a.exit.id < b.exit.id ? -1 : 1));
  return { ranked, rejected };
}

function unfit(exit: ExitCandidate, wish: ExitWish): string | undefined {
  const { load } = exit;
  if (wish.exit !== undefined && exit.id !== wish.exit) return 'another exit was asked for by name';
  if (wish.region !== undefined && exit.region !== wish.region) return `it is in region ${exit.region}`;
  if (wish.country !== undefined && exit.country !== wish.country) return `its country is ${exit.country ?? 'unknown'}`;
  if (wish.pool !== undefined && exit.pool !== wish.pool) return `it is not in pool ${wish.pool}`;
  if (load.sessionCapacity > 0 && load.sessions >= load.sessionCapacity) return full(load.sessionCapacity);
  if (wish.minMbps !== undefined && exit.maxMbps > 0 && exit.maxMbps < wish.minMbps)
    return `it lends ${exit.maxMbps} Mbit/s`;
  return undefined;
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
  wish: ExitWish,
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
  return { ranked: { exit, path, score, reasons }, latency };
}

/** One sentence on why nothing fits, e.g. "2 exits do not fit: it is full (2)". */
export function explainRejections(rejected: readonly RejectedExit[]): string {
  const counts = new Map<string, number>();
  for (const { reason } of rejected) counts.set(reason, (counts.get(reason) ?? 0) + 1);
  const parts = [...counts].sort((a, b) => b[1] - a[1]).map(([reason, n]) => (n > 1 ? `${reason} (${n})` : reason));
  return `${rejected.length} ${rejected.length === 1 ? 'exit does' : 'exits do'} not fit: ${parts.join('; ')}`;
}
