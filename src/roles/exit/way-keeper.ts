import type { Projection } from '../../core/executor.js';
import type { Log } from '../../core/ports/log.js';
import type { SessionRecord } from '../../core/ports/store.js';
import type { SessionId } from '../../model/ids.js';

export interface WayKeeperDeps {
  readonly log: Log;
  readonly reproject: (session: SessionId, change: () => void) => Promise<void>;
}

/**
 * Has an exit's WireGuard speak up at once. A NAT that forgot its entries lets nothing in, and the exit has nothing to
 * say that would make new ones: its next keepalive may be 25 s away. WireGuard sends one as soon as the interval goes
 * from 0 to another, so it is switched off and on again.
 */
export class WayKeeper {
  readonly #silent = new Set<SessionId>();

  constructor(private readonly deps: WayKeeperDeps) {}

  /** The same projection; peers of a session that is about to speak up have no keepalive for a moment. */
  around(projection: Projection): Projection {
    return {
      ...projection,
      units: (record) => {
        const units = projection.units(record);
        if (!this.#silent.has(record.session)) return units;
        return units.map((unit) => (unit.kind === 'peer' ? { ...unit, keepalive: 0 } : unit));
      },
    };
  }

  /** One packet on the way of each session. Never rejects: the regular keepalive comes all the same. */
  async speakUp(sessions: readonly SessionRecord[]): Promise<void> {
    await Promise.all(
      sessions.map(async ({ session }) => {
        try {
          await this.deps.reproject(session, () => this.#silent.add(session));
        } catch (err) {
          this.deps.log.warn('a way was not opened anew', { session_id: session, err });
        } finally {
          await this.deps.reproject(session, () => this.#silent.delete(session)).catch(() => {});
        }
      }),
    );
  }
}
