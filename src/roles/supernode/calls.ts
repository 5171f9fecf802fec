import type { UnaryHandlers } from '../../core/ports/network.js';
import type { PeerId } from '../../model/ids.js';
import type { History } from '../common/history.js';
import type { BackSessions } from './back.js';
import type { Drain } from './drain.js';
import type { ExitBook } from './exits.js';
import type { Moves } from './moves.js';

export interface CallsDeps {
  /** The supernode that a certificate names; throws `forbidden` without one, and what its ban says. */
  readonly callerOf: (certified: PeerId | undefined) => PeerId;
  readonly back: BackSessions;
  readonly exits: ExitBook;
  readonly moves: Moves;
  readonly drain: Drain;
  readonly history: History;
}

/** What other supernodes call here. */
export function callsOf({ callerOf, back, exits, moves, drain, history }: CallsDeps): UnaryHandlers {
  return {
    requestExitPeer: async (request, { certified }) => {
      callerOf(certified);
      if (drain.draining) throw drain.refusal();
      return { exits: exits.fitting(request) };
    },
    openSession: async (request, { certified }) => {
      const origin = callerOf(certified);
      const isNew = !back.has(request.session);
      // Those that are here are renewed until they have gone.
      if (isNew && drain.draining) throw drain.refusal();
      const opened = await back.open(origin, request);
      if (isNew) history.record('session-opened', 'at an exit here', request.session);
      return opened;
    },
    updateSession: (request, { certified }) => back.update(callerOf(certified), request),
    closeSession: async (request, { certified }) => {
      const isOpen = back.has(request.session);
      await back.close(callerOf(certified), request);
      if (isOpen) history.record('session-closed', 'at an exit here', request.session);
      return {};
    },
    moveSessions: async (request, { certified }) => {
      moves.asked(callerOf(certified), request);
      return {};
    },
  };
}
