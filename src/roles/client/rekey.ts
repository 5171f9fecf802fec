import type { KemKeyPair } from '../../core/ports/crypto.js';
import { type UnitId, unitIdOf } from '../../model/dataplane.js';
import { toVpndError, VpndError } from '../../model/errors.js';
import type { EventCode } from '../../model/event.js';
import type { PeerId, SessionId } from '../../model/ids.js';
import type { PostQuantum } from '../../model/role.js';
import { hours, type Millis, minutes, ms, seconds, since } from '../../model/time.js';
import type { Line } from '../common/line.js';
import type { ForwardingPorts } from '../ports.js';
import { checkRekeyed } from './held-session.js';
import type { KemPairs } from './kem-pairs.js';
import { type HeldTunnel, isInForce, tunnelUnits } from './tunnel.js';
import type { Tunnels } from './tunnels.js';

/** How old a pre-shared key gets. */
export const REKEY_EVERY: Millis = hours(1);
/** The exit's supernode gives the exit 20 s, and then undoes what it did. */
const ANSWER_LIMIT: Millis = seconds(30);
const LEAST_PAUSE: Millis = seconds(1);
const FIRST_PAUSE: Millis = seconds(5);
const LONGEST_PAUSE: Millis = minutes(5);

export interface RekeyDeps {
  readonly ports: ForwardingPorts;
  readonly pq: PostQuantum;
  readonly tunnels: Tunnels;
  readonly pairs: KemPairs;
  readonly lineTo: (supernode: PeerId) => Line | undefined;
  /** Puts the tunnels on record, as well as the disk lets it. */
  readonly keep: () => void;
  readonly happened: (code: EventCode, text: string, session: SessionId) => void;
}

/** One exchange for a session. The pair stays the same until it is answered: the exit then answers the same. */
interface Exchange {
  readonly pair: KemKeyPair;
  readonly failures: number;
  /** When to ask again; undefined while an answer is awaited. */
  readonly at: Millis | undefined;
}

/**
 * Gives each tunnel another pre-shared key every hour, while it carries traffic. WireGuard looks at the key when it shakes
 * hands only, so nothing is lost when the two ends change it one after the other (docs/decisions/0030).
 */
export class Rekeying {
  readonly #exchanges = new Map<SessionId, Exchange>();

  /** Sessions whose exits have lost their key. */
  readonly #wanted = new Set<SessionId>();
  readonly #askedAt = new Map<SessionId, Millis>();

  constructor(private readonly deps: RekeyDeps) {}

  /** A supernode says that a session's exit has lost its key: the tunnel shakes hands no more without another one. */
  wanted(session: SessionId, supervisor: PeerId | undefined): void {
    if (this.deps.tunnels.withSession(session)?.held.supervisor !== supervisor) return;
    this.#wanted.add(session);
    this.look();
  }

  /** Once in a while: ask for what is due. */
  look(): void {
    if (this.deps.pq === 'off') return;
    const monotonic = this.deps.ports.clock.monotonic();
    for (const session of this.#exchanges.keys()) {
      if (this.deps.tunnels.withSession(session) === undefined) this.#exchanges.delete(session);
    }
    for (const session of this.#askedAt.keys()) {
      if (this.deps.tunnels.withSession(session) !== undefined) continue;
      this.#askedAt.delete(session);
      this.#wanted.delete(session);
    }
    for (const tunnel of this.deps.tunnels.held()) {
      const exchange = this.#exchanges.get(tunnel.held.session);
      const due = exchange === undefined ? this.#isDue(tunnel) : exchange.at !== undefined && exchange.at <= monotonic;
      if (due) void this.#ask(tunnel, exchange);
    }
    this.deps.pairs.prepare();
  }

  #isDue(tunnel: HeldTunnel): boolean {
    const { held, use } = tunnel;
    if (!isInForce(tunnel) || use === 'retiring' || held.connectedAfter === undefined) return false;
    const { clock } = this.deps.ports;
    // Whoever says so again and again does not keep this machine busy.
    if (clock.monotonic() - (this.#askedAt.get(held.session) ?? Number.NEGATIVE_INFINITY) < LEAST_PAUSE) return false;
    if (held.preshared === undefined || this.#wanted.has(held.session)) return true;
    const age = since(clock.now(), held.preshared.since);
    // A clock that was set back must not make a key last longer.
    return age >= REKEY_EVERY || age < 0;
  }

  async #ask({ held }: HeldTunnel, before: Exchange | undefined): Promise<void> {
    const { ports, pairs } = this.deps;
    const { session, supervisor } = held;
    const upstream = supervisor === undefined ? undefined : this.deps.lineTo(supervisor)?.upstream;
    const pair = before?.pair ?? pairs.take();
    if (upstream === undefined || pair === undefined) return;
    this.#exchanges.set(session, { pair, failures: before?.failures ?? 0, at: undefined });
    this.#askedAt.set(session, ports.clock.monotonic());
    const isLost = this.#wanted.delete(session);
    try {
      const answer = await upstream.ask({ kind: 'rekey', session, kemKey: pair.publicKey }, ANSWER_LIMIT);
      if (answer.kind !== 'rekeyed') throw new VpndError('bad-message', 'that is no answer to a new ML-KEM key');
      const tunnel = this.deps.tunnels.withSession(session);
      if (tunnel === undefined) return;
      const preshared = checkRekeyed(tunnel.held, answer.offer, pair, ports, ports.clock.now());
      this.deps.tunnels.put({ ...tunnel, held: { ...tunnel.held, preshared } });
      // On record first: a daemon that dies in between then makes the kernel follow.
      this.deps.keep();
      this.#exchanges.delete(session);
      // The exit knows nothing of the last handshake either: a peer that is made anew shakes hands at once.
      if (isLost) await ports.dataplane.apply({ remove: peersOf(tunnel) });
      await this.deps.tunnels.commit();
      ports.log.info('a pre-shared key was renewed', { session_id: session });
    } catch (thrown) {
      if (isLost) this.#wanted.add(session);
      this.#failed(session, pair, before?.failures ?? 0, toVpndError(thrown));
    }
  }

  #failed(session: SessionId, pair: KemKeyPair, failures: number, error: VpndError): void {
    const { clock, log } = this.deps.ports;
    log.info('a pre-shared key could not be renewed yet', {
      session_id: session,
      code: error.code,
      reason: error.message,
    });
    // The data plane did not follow: the next comparison makes it.
    if (!this.#exchanges.has(session)) return;
    if (error.code === 'bad-offer') this.deps.happened('problem', error.message, session);
    const never = error.code === 'not-supported';
    const pause = never ? REKEY_EVERY : Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures);
    this.#exchanges.set(session, { pair, failures: failures + 1, at: ms(clock.monotonic() + pause) });
  }
}

const peersOf = (tunnel: HeldTunnel): readonly UnitId[] =>
  tunnelUnits(tunnel, []).flatMap((unit) => (unit.kind === 'peer' ? [unitIdOf(unit)] : []));
