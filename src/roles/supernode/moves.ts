import { newCommand } from '../../core/commands.js';
import type { Log } from '../../core/ports/log.js';
import type { Random } from '../../core/ports/random.js';
import type { RotatePeer } from '../../model/command.js';
import { toVpndError } from '../../model/errors.js';
import { type PeerId, type SessionId, shortId } from '../../model/ids.js';
import type { MoveSessionsRequest } from '../../model/messages.js';
import type { Millis } from '../../model/time.js';
import { MAX_MOVED_SESSIONS } from '../../transport/codec/limits.js';
import type { StreamManager } from '../../transport/stream-manager.js';
import type { FrontSession } from './front-book.js';

/** How a client is asked to replace a session. */
export type MoveWish = Omit<RotatePeer, 'kind'>;

export interface MovesDeps {
  readonly random: Random;
  readonly log: Log;
  readonly lease: Millis;
  readonly front: { all(): readonly FrontSession[] };
  readonly streams: () => Pick<StreamManager, 'command' | 'send'>;
  readonly moveAt: (supernode: PeerId, request: MoveSessionsRequest) => Promise<unknown>;
}

/** Has clients replace sessions: those of clients here by a command, those of other supernodes' clients by asking these. */
export class Moves {
  constructor(private readonly deps: MovesDeps) {}

  /** ROTATE_PEER to the clients of these sessions. Who is away is not told. */
  askClients(sessions: ReadonlySet<SessionId>, wish: MoveWish): void {
    const { front, streams, random, lease, log } = this.deps;
    for (const { session, client, generation } of front.all()) {
      if (!sessions.has(session)) continue;
      const command = newCommand(random, session, generation, lease, { kind: 'rotate-peer', ...wish });
      streams()
        .command(client, command)
        .catch((thrown: unknown) =>
          log.info('a client could not be asked to move', { session_id: session, code: toVpndError(thrown).code }),
        );
    }
  }

  /** Asks the supernode that opened them. */
  askSupernode(origin: PeerId, sessions: readonly SessionId[], wish: Omit<MoveSessionsRequest, 'sessions'>): void {
    const { moveAt, log } = this.deps;
    for (let from = 0; from < sessions.length; from += MAX_MOVED_SESSIONS) {
      moveAt(origin, { ...wish, sessions: sessions.slice(from, from + MAX_MOVED_SESSIONS) }).catch((thrown: unknown) =>
        log.info('a supernode could not be asked to move its sessions', {
          supernode_id: shortId(origin),
          code: toVpndError(thrown).code,
        }),
      );
    }
  }

  /** The exit of a session here has lost its pre-shared key. Who is away is not told, and finds out. */
  rekey(sessions: readonly FrontSession[]): void {
    for (const { session, client } of sessions) {
      this.deps.streams().send(client, { kind: 'event', news: { kind: 'session-rekey', session } });
    }
  }

  /** What another supernode asks. Only that of a session's exit has a say about it. */
  asked(caller: PeerId, { sessions, reason, leaveExit, urgent, rekey }: MoveSessionsRequest): void {
    const wanted = new Set(sessions);
    const theirs = this.deps.front.all().filter((one) => one.supernode === caller && wanted.has(one.session));
    if (rekey === true) {
      this.rekey(theirs);
      return;
    }
    for (const exit of new Set(theirs.map((one) => one.exit))) {
      const some = new Set(theirs.filter((one) => one.exit === exit).map((one) => one.session));
      this.askClients(some, { reason, leaveSupernode: false, urgent, avoidExits: leaveExit ? [exit] : [] });
    }
  }
}
