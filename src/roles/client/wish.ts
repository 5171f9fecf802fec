import type { UpRequest } from '../../gen/vpnd/v1/admin_pb.js';
import { Privacy as WirePrivacy } from '../../gen/vpnd/v1/types_pb.js';
import { VpndError } from '../../model/errors.js';
import { type PeerId, parsePeerId } from '../../model/ids.js';
import { type Privacy, parseCountry, parseRegion } from '../../model/role.js';
import type { ExitWish } from '../../model/session.js';
import { ms } from '../../model/time.js';

const PRIVACIES: ReadonlyMap<WirePrivacy, Privacy> = new Map([
  [WirePrivacy.AUTO, 'auto'],
  [WirePrivacy.DIRECT, 'direct'],
  [WirePrivacy.PRIVATE, 'private'],
]);

/** What `vpnd up` asks for, checked. `exits` is asked only for a shortened exit id. Throws VpndError `bad-config`, `no-exit`. */
export async function exitWishOf(
  request: UpRequest,
  defaultPrivacy: Privacy,
  exits: () => Promise<readonly PeerId[]>,
): Promise<ExitWish> {
  return {
    region: request.region === '' ? undefined : checked('region', request.region, parseRegion(request.region)),
    country: request.country === '' ? undefined : checked('country', request.country, parseCountry(request.country)),
    pool: request.pool === '' ? undefined : request.pool,
    exit: request.exit === '' ? undefined : await findExit(request.exit.toLowerCase(), exits),
    minMbps: request.minMbps > 0 ? request.minMbps : undefined,
    maxLatency: request.maxLatencyMs > 0 ? ms(request.maxLatencyMs) : undefined,
    privacy: PRIVACIES.get(request.privacy) ?? defaultPrivacy,
  };
}

function checked<T>(what: string, text: string, parsed: { ok: true; value: T } | { ok: false }): T {
  if (parsed.ok) return parsed.value;
  const shape = what === 'region' ? "a short word like 'eu' or 'us-east'" : "two letters like 'DE'";
  throw new VpndError('bad-config', `'${text}' is no ${what}: it takes ${shape}`);
}

async function findExit(text: string, exits: () => Promise<readonly PeerId[]>): Promise<PeerId> {
  const whole = parsePeerId(text);
  if (whole.ok) return whole.value;
  const matching = (await exits()).filter((id) => id.startsWith(text));
  const [only, ...more] = matching;
  if (only === undefined) throw new VpndError('no-exit', `no exit's id begins with '${text}'; see vpnd exits`);
  if (more.length > 0)
    throw new VpndError('no-exit', `${matching.length} exits' ids begin with '${text}'; give more of it`);
  return only;
}
