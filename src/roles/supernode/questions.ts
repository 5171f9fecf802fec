import type { DialTarget, Network } from '../../core/ports/network.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { InfoAnswer, InfoQuestion, Renewal, RenewalResult, RequestExitPeerRequest } from '../../model/messages.js';
import { seconds } from '../../model/time.js';
import type { ExitBook } from './exits.js';
import type { Mesh } from './mesh.js';

const LIST_LIMIT = 50;

export interface QuestionsDeps {
  readonly exits: Pick<ExitBook, 'fitting'>;
  readonly mesh: Pick<Mesh, 'candidates'>;
  readonly network: Pick<Network, 'call'>;
  readonly baseTargets: () => readonly DialTarget[];
}

/** What peers ask on their streams: which exits there are, and fresh memberships, which base alone can sign. */
export class Questions {
  constructor(private readonly deps: QuestionsDeps) {}

  async answer(question: InfoQuestion): Promise<InfoAnswer> {
    if (question.kind === 'renewal') return { kind: 'renewal', result: await this.#renewAtBase(question.renewal) };
    const { exits, mesh } = this.deps;
    const nothing = { exit: undefined, minMbps: undefined, maxLatency: undefined };
    const ask: RequestExitPeerRequest = { ...question.filter, ...nothing, limit: LIST_LIMIT };
    const here = exits.fitting(ask);
    // One that is moving from supernode to supernode is at both.
    const there = (await mesh.candidates(ask)).filter((one) => !here.some(({ id }) => id === one.id));
    return { kind: 'exits', exits: [...here, ...there] };
  }

  async #renewAtBase(renewal: Renewal): Promise<RenewalResult> {
    let last: unknown = new VpndError('unreachable', 'no address of base is known', { retryable: true });
    for (const target of this.deps.baseTargets()) {
      try {
        return await this.deps.network.call(target, 'renewMembership', renewal, { timeout: seconds(10) });
      } catch (thrown) {
        last = thrown;
        if (toVpndError(thrown).code !== 'unreachable') break;
      }
    }
    throw last;
  }
}
