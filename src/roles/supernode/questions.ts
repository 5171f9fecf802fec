import type { DialTarget, Network } from '../../core/ports/network.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { InfoAnswer, InfoQuestion, Renewal, RenewalResult, RequestExitPeerRequest } from '../../model/messages.js';
import { seconds } from '../../model/time.js';
import type { ConnectedPeer } from '../../transport/stream-manager.js';
import type { ExitBook } from './exits.js';
import type { FrontSessions } from './front.js';
import type { Mesh } from './mesh.js';

const LIST_LIMIT = 50;

export interface QuestionsDeps {
  readonly exits: Pick<ExitBook, 'fitting'>;
  readonly mesh: Pick<Mesh, 'candidates'>;
  readonly front: Pick<FrontSessions, 'rekey'>;
  readonly network: Pick<Network, 'call'>;
  readonly baseTargets: () => readonly DialTarget[];
}

/** What peers ask on their streams: which exits there are, fresh memberships, which base alone can sign, and other pre-shared keys, which exits make. */
export class Questions {
  constructor(private readonly deps: QuestionsDeps) {}

  async answer(peer: Pick<ConnectedPeer, 'id' | 'role'>, question: InfoQuestion): Promise<InfoAnswer> {
    if (question.kind === 'renewal') return { kind: 'renewal', result: await this.#renewAtBase(question.renewal) };
    const { exits, mesh, front } = this.deps;
    if (question.kind === 'rekey') {
      if (peer.role !== 'client') throw new VpndError('forbidden', 'only clients have pre-shared keys renewed');
      return { kind: 'rekeyed', offer: await front.rekey(peer.id, question.session, question.kemKey) };
    }
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
