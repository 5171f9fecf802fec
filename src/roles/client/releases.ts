import type { Clock } from '../../core/ports/clock.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { News } from '../../model/messages.js';
import { type Millis, seconds } from '../../model/time.js';
import type { Line } from '../common/line.js';
import type { HeldSession } from './held-session.js';

/** How long `vpnd down` waits for the supernode's word, coming back to it included. */
const RELEASE_LIMIT: Millis = seconds(6);

interface Awaited {
  readonly held: HeldSession;
  readonly reason: string;
  told: boolean;
  settle(everywhere: boolean): void;
}

/** Sessions taken down here, until the supernodes that granted them say that nothing is left on the way either. */
export class Releases {
  readonly #awaited = new Map<SessionId, Awaited>();

  constructor(
    private readonly clock: Clock,
    private readonly deps: {
      readonly lineTo: (supernode: PeerId) => Line | undefined;
      readonly tell: (supervisor: PeerId | undefined, news: News) => boolean;
    },
  ) {}

  /** Supernodes that are still to be told, or to answer. */
  awaited(): readonly PeerId[] {
    return [...this.#awaited.values()].flatMap(({ held }) => held.supervisor ?? []);
  }

  /** False when its supernode did not say so in time: the lease ends it there. */
  release(held: HeldSession, reason: string): Promise<boolean> {
    return new Promise((resolve) => {
      const settle = (everywhere: boolean) => {
        cancel();
        this.#awaited.delete(held.session);
        resolve(everywhere);
      };
      const cancel = this.clock.after(RELEASE_LIMIT, () => settle(false));
      const one: Awaited = { held, reason, told: false, settle };
      this.#awaited.set(held.session, one);
      this.#say(one);
    });
  }

  /** Its supernode may be there now. */
  lineUp(): void {
    for (const one of this.#awaited.values()) if (!one.told) this.#say(one);
  }

  /** DISCONNECT for a session that is waited for here. False when it is none of those. */
  answered(session: SessionId, reason: string): boolean {
    const one = this.#awaited.get(session);
    one?.settle(reason === 'released');
    return one !== undefined;
  }

  #say(one: Awaited): void {
    const { session, supervisor } = one.held;
    one.told = this.deps.tell(supervisor, { kind: 'session-closed', session, reason: one.reason });
  }
}
