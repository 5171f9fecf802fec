import type { UnaryHandlers } from '../../core/ports/network.js';
import { VpndError } from '../../model/errors.js';
import type { PeerId } from '../../model/ids.js';
import type { History } from '../common/history.js';
import type { BackSessions } from './back.js';
import type { Drain } from './drain.js';
import type { ExitBook } from './exits.js';
import type { Moves } from './moves.js';

export interface CallsDeps {
  readonly back: BackSessions;
  readonly exits: ExitBook;
  readonly moves: Moves;
  readonly drain: Drain;
  readonly history: History;
}

/** What other supernodes call here. */
export function callsOf({ back, exits, moves, drain, history }: CallsDeps): UnaryHandlers {
  return {
    requestExitPeer: async (request, { certified }) => {
      mustBeSupernode(certified);
      if (drain.draining) throw drain.refusal();
      return { exits: exits.fitting(request) };
    },
    openSession: async (request, { certified }) => {
      const origin = mustBeSupernode(certified);
      const isNew = !back.has(request.session);
      // Those that are here are renewed until they have gone.
      if (isNew && drain.draining) throw drain.refusal();
      const opened = await back.open(origin, request);
      if (isNew) history.record('session-opened', 'at an exit here', request.session);
      return opened;
    },
    updateSession: (request, { certified }) => back.update(mustBeSupernode(certified), request),
    closeSession: async (request, { certified }) => {
      const isOpen = back.has(request.session);
      await back.close(mustBeSupernode(certified), request);
      if (isOpen) history.record('session-closed', 'at an exit here', request.session);
      return {};
    },
    moveSessions: async (request, { certified }) => {
      moves.asked(mustBeSupernode(certified), request);
      return {};
    },
  };
}

/** Only base's own certificates name a supernode, so that a certified caller is one. */
function mustBeSupernode(certified: PeerId | undefined): PeerId {
  if (certified === undefined) throw new VpndError('forbidden', 'only supernodes call this, with their certificate');
  return certified;
}
