import { explainRejections, type Ranking } from '../../core/ranking.js';
import { VpndError } from '../../model/errors.js';
import { shortId } from '../../model/ids.js';
import type { Region } from '../../model/role.js';
import type { ExitRequest } from '../../model/session.js';

/** Why no exit fits a request, for the person who made it. */
export function nothingFits(request: ExitRequest, ranking: Ranking, regions: readonly Region[]): VpndError {
  const wanted = request.exit === undefined ? '' : ` ${shortId(request.exit)}`;
  if (request.region !== undefined && !regions.includes(request.region)) {
    return new VpndError(
      'no-exit',
      `there is no region '${request.region}'; regions with supernodes: ${regions.join(', ') || 'none'}`,
    );
  }
  // Exits of other regions, which were asked about in case they are of this one, explain nothing.
  const rejected = ranking.rejected.filter(({ exit }) =>
    request.exit === undefined
      ? request.region === undefined || exit.region === request.region
      : exit.id === request.exit,
  );
  if (rejected.length > 0) return new VpndError('no-exit', explainRejections(rejected), { retryable: true });
  const where = request.region === undefined ? '' : ` in region '${request.region}'`;
  const hint = request.exit === undefined ? 'see vpnd exits' : 'it may be switched off; see vpnd exits';
  return new VpndError('no-exit', `no exit${wanted} is connected${where}; ${hint}`, { retryable: true });
}
