import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { FactStore } from '../../core/ports/store.js';
import type { Endpoint, Port } from '../../model/address.js';
import type { RelayNext, SetupExit } from '../../model/command.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import { type Instant, plus, seconds } from '../../model/time.js';
import * as kept from '../common/kept.js';
import type { Quarantine } from './quarantine.js';
import type { RelayPorts } from './relay-ports.js';

/**
 * Where the exit sends to. `told`: the exit has acknowledged it; otherwise it is told when it is back.
 *
 * relay -> direct -> direct, settled -> relay; docs/sessions.md has the picture.
 */
export type BackWay =
  /** To the relay port, as SETUP_EXIT says. */
  | { readonly kind: 'relay'; readonly told: boolean }
  | {
      readonly kind: 'direct';
      readonly told: boolean;
      /** The client's address, which the exit sends to, and the exit's own as its relay port has learned it. */
      readonly client: Endpoint;
      readonly exit: Endpoint;
      /** The relay is out of the kernel; its port stays the session's. */
      readonly settled: boolean;
    };

/** A session at one of this supernode's exits, opened by the client's supernode (which may be this one too). */
export interface BackSession {
  readonly session: SessionId;
  /** The supernode that opened it: the only one that may change or close it. */
  readonly origin: PeerId;
  readonly exit: PeerId;
  readonly port: Port | undefined;
  /** The origin's generation: older requests of it are stale. */
  readonly asked: number;
  /** This side's own, which grows with every order to the exit: repairs are orders too. */
  readonly generation: number;
  readonly leaseUntil: Instant;
  /** As it was asked for, to set an exit up again that has lost it. */
  readonly setup: SetupExit;
  readonly next: RelayNext | undefined;
  readonly way: BackWay;
}

export const RELAYED: BackWay = { kind: 'relay', told: true };

export interface BackBookDeps {
  readonly clock: Clock;
  readonly facts: FactStore;
  readonly log: Log;
  readonly ports: RelayPorts;
  readonly restingPorts: Quarantine<Port>;
}

const FACT = 'back/';
const SESSION = kept.record({
  session: kept.session,
  origin: kept.peer,
  exit: kept.peer,
  port: kept.optional(kept.port),
  asked: kept.count,
  generation: kept.count,
  leaseUntil: kept.count,
  setup: kept.record({ kind: kept.oneOf('setup-exit'), clientKey: kept.wireGuardKey }),
  next: kept.optional(kept.relayNext),
  // An older version has not written it.
  way: kept.optional(
    kept.either(
      kept.record({ kind: kept.oneOf('relay'), told: kept.flag }),
      kept.record({
        kind: kept.oneOf('direct'),
        told: kept.flag,
        client: kept.endpoint,
        exit: kept.endpoint,
        settled: kept.flag,
      }),
    ),
  ),
});

/** The sessions at this supernode's exits, in memory and on disk, with the relay ports they own. */
export class BackBook {
  readonly #sessions = new Map<SessionId, BackSession>();
  readonly #perExit = new Map<PeerId, number>();

  constructor(private readonly deps: BackBookDeps) {}

  /** Take up what the store has, before anything is served. */
  load(): void {
    const { facts, ports, clock } = this.deps;
    const now = clock.now();
    for (const name of facts.names(FACT)) {
      const one = kept.keptFact<BackSession>(facts, name, SESSION);
      if (one === undefined) continue;
      if (one.leaseUntil <= now) {
        if (one.port !== undefined) ports.rest(one.port, plus(now, seconds(120)));
        facts.remove(name);
        continue;
      }
      if (one.port !== undefined) ports.claim(one.port);
      this.put({ ...one, way: one.way ?? RELAYED });
    }
  }

  get(session: SessionId): BackSession | undefined {
    return this.#sessions.get(session);
  }

  all(): readonly BackSession[] {
    return [...this.#sessions.values()];
  }

  countAt(exit: PeerId): number {
    return this.#perExit.get(exit) ?? 0;
  }

  /** On disk, then in memory. Throws what the store throws, and nothing has changed then. */
  save<S extends BackSession>(one: S): S {
    this.deps.facts.put(FACT + one.session, one);
    this.put(one);
    return one;
  }

  /** For what must hold even where the disk is full. */
  put(one: BackSession): void {
    if (!this.#sessions.has(one.session)) this.#perExit.set(one.exit, this.countAt(one.exit) + 1);
    this.#sessions.set(one.session, one);
  }

  drop(one: BackSession): void {
    if (!this.#sessions.delete(one.session)) return;
    const left = this.countAt(one.exit) - 1;
    if (left > 0) this.#perExit.set(one.exit, left);
    else this.#perExit.delete(one.exit);
    if (one.port !== undefined) {
      this.deps.ports.give(one.port, this.deps.clock.now());
      this.deps.restingPorts.save();
    }
    try {
      this.deps.facts.remove(FACT + one.session);
    } catch (thrown) {
      // After a restart its lease ends it.
      this.deps.log.warn('an ended session stays on record', { session_id: one.session, err: thrown });
    }
  }
}
