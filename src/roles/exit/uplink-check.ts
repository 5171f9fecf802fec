import type { ExitConfig } from '../../config/types.js';
import type { Clock } from '../../core/ports/clock.js';
import type { Log } from '../../core/ports/log.js';
import type { Random } from '../../core/ports/random.js';
import type { Reach } from '../../core/ports/reach.js';
import { formatHostPort, type HostPort, parseIp } from '../../model/address.js';
import { type Millis, ms, seconds } from '../../model/time.js';
import type { History } from '../common/history.js';
import type { Member } from '../common/member.js';

/** Something on the internet whose kernel answers a TCP SYN, one way or the other. */
export interface Anchor {
  readonly at: HostPort;
  /** Named by the exit's owner, for this very purpose. */
  readonly configured: boolean;
}

export interface UplinkState {
  /** Anchors that have answered, ever since this exit started: a firewall's silence says nothing about the uplink. */
  readonly counted: ReadonlySet<string>;
  readonly hadRoute: boolean;
  readonly down: boolean;
  /** Rounds in a row in which nobody answered that should have. */
  readonly silent: number;
  readonly reason: string;
}

/** What one round found. */
export interface UplinkRound {
  /** Whether this machine has a default route. */
  readonly route: boolean;
  readonly answered: readonly Anchor[];
  readonly silent: readonly Anchor[];
}

export const UNKNOWN: UplinkState = { counted: new Set(), hadRoute: false, down: false, silent: 0, reason: '' };

/** How many rounds of silence in a row it takes. */
const ROUNDS = 3;

/**
 * What a round makes of the state. Pure. Down: no default route any more, or in three rounds none of the anchors that
 * count answered, which are at least two, or all that the owner named. Up again as soon as one answers.
 */
export function judgeUplink(state: UplinkState, round: UplinkRound): UplinkState {
  const counted = new Set([...state.counted, ...round.answered.map(keyOf)]);
  const hadRoute = state.hadRoute || round.route;
  const known = { counted, hadRoute };
  // Some machines find their way by rules alone: only a route that was there is missed.
  if (hadRoute && !round.route) return { ...known, down: true, silent: ROUNDS, reason: 'there is no default route' };
  const missed = round.silent.filter((anchor) => counted.has(keyOf(anchor)));
  if (round.answered.length > 0 || missed.length === 0) return { ...known, down: false, silent: 0, reason: '' };
  const named = round.silent.filter((anchor) => anchor.configured);
  const tells = missed.length >= 2 || (named.length > 0 && named.every((anchor) => counted.has(keyOf(anchor))));
  if (!tells) return { ...known, down: false, silent: 0, reason: '' };
  const silent = state.silent + 1;
  const down = state.down || silent >= ROUNDS;
  return { ...known, down, silent, reason: down ? `none of ${missed.length} servers answers any more` : '' };
}

const keyOf = ({ at }: Anchor): string => formatHostPort(at);

/** Supernodes asked besides base: enough that one may be away. */
const SUPERNODES_AT_MOST = 4;

/**
 * Whom an exit asks: those its owner names, base, and the nearest supernodes but its own supervisors, which the streams
 * to them tell of already. One address of each: two of one machine are not two that answer.
 */
export function anchorsOf(
  { uplinkCheck }: Pick<ExitConfig, 'uplinkCheck'>,
  member: Pick<Member, 'baseTargets' | 'supernodes' | 'lines'>,
): readonly Anchor[] {
  const supervisors = member.lines().map((line) => line.supervisor());
  const supernodes = member.supernodes().filter((one) => !supervisors.includes(one.id));
  const addresses = supernodes.slice(0, SUPERNODES_AT_MOST).flatMap(({ addresses: [first] }) => first ?? []);
  const base = member.baseTargets().slice(0, 1);
  return [
    ...uplinkCheck.map((at) => ({ at, configured: true })),
    ...[...base.map((target) => target.address), ...addresses].map((at) => ({ at, configured: false })),
  ];
}

export interface UplinkCheckDeps {
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly reach: Reach;
  readonly history: History;
  readonly hasRoute: () => Promise<boolean>;
  /** Those known at present. */
  readonly anchors: () => readonly Anchor[];
  /** Tells every supernode that this exit is connected to. */
  readonly tell: (code: 'uplink-down' | 'uplink-up', message: string) => void;
  readonly changed: () => void;
}

const EVERY: Millis = seconds(5);
const JITTER = 0.2;
const WHILE_SILENT: Millis = seconds(1);
const PATIENCE: Millis = seconds(1);
/** In quiet times one anchor is asked, and all of them only so often: there are many exits, and few anchors. */
const ALL_EVERY = 12;

/** Whether this exit still reaches the internet. Its kernel answers clients' probes even when it does not. */
export class UplinkCheck {
  readonly #deps: UplinkCheckDeps;
  #state: UplinkState = UNKNOWN;
  #rounds = 0;
  #stopped = false;
  #cancel: () => void = () => {};
  #running: Promise<void> = Promise.resolve();
  #busy = false;
  #again = false;

  constructor(deps: UplinkCheckDeps) {
    this.#deps = deps;
  }

  /** For the status; undefined while all is well. */
  get problem(): string | undefined {
    return this.#state.down ? `this exit has lost the internet: ${this.#state.reason}` : undefined;
  }

  start(): void {
    this.#next(ms(0));
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancel();
    await this.#running;
  }

  /** The network underneath changed. */
  lookNow(): void {
    if (this.#busy) this.#again = true;
    else if (!this.#stopped) this.#next(ms(0));
  }

  /** A supernode's stream is up: it knows nothing of this exit's uplink yet. */
  connected(): void {
    if (this.#state.down) this.#deps.tell('uplink-down', this.#state.reason);
  }

  #next(after: Millis): void {
    this.#cancel();
    if (this.#stopped) return;
    this.#cancel = this.#deps.clock.after(after, () => {
      this.#running = this.#round()
        .catch((err: unknown) => this.#deps.log.warn('looking after the uplink failed', { err }))
        .then(() => this.#next(this.#wait()));
    });
  }

  #wait(): Millis {
    if (this.#again) return ms(0);
    const { silent, down } = this.#state;
    if (silent > 0 || down) return WHILE_SILENT;
    return ms(EVERY * (1 - JITTER + 2 * JITTER * this.#deps.random.fraction()));
  }

  async #round(): Promise<void> {
    this.#busy = true;
    this.#again = false;
    try {
      const { anchors, hasRoute } = this.#deps;
      const all = anchors();
      const [route, quiet] = await Promise.all([hasRoute(), this.#quietlyFine(all)]);
      const round = quiet && route ? undefined : await this.#ask(all, route);
      if (!this.#stopped && round !== undefined) this.#take(judgeUplink(this.#state, round));
    } finally {
      this.#busy = false;
    }
  }

  /** Whether one anchor's answer will do, and came. */
  async #quietlyFine(all: readonly Anchor[]): Promise<boolean> {
    const { counted, down, silent } = this.#state;
    if (this.#rounds++ % ALL_EVERY === 0 || down || silent > 0) return false;
    const known = all.filter((anchor) => counted.has(keyOf(anchor)));
    const one = known[Math.floor(this.#deps.random.fraction() * known.length)];
    return one !== undefined && this.#answers(one);
  }

  async #ask(all: readonly Anchor[], route: boolean): Promise<UplinkRound> {
    const asked = await Promise.all(all.map(async (anchor) => ({ anchor, answered: await this.#answers(anchor) })));
    const those = (answered: boolean) => asked.filter((one) => one.answered === answered).map(({ anchor }) => anchor);
    return { route, answered: those(true), silent: those(false) };
  }

  async #answers({ at: { host, port } }: Anchor): Promise<boolean> {
    const ip = parseIp(host);
    const to = ip.ok ? { ip: ip.value, port } : { host, port };
    return (await this.#deps.reach.tcp(to, { timeout: PATIENCE })) !== undefined;
  }

  #take(next: UplinkState): void {
    const { log, tell, history, changed } = this.#deps;
    const before = this.#state;
    this.#state = next;
    if (before.down === next.down) return;
    if (next.down) {
      log.warn(`this exit has lost the internet: ${next.reason}`);
      tell('uplink-down', next.reason);
      history.record('uplink-down', next.reason);
    } else {
      log.info('this exit reaches the internet again');
      tell('uplink-up', 'the internet is reached again');
      history.record('uplink-up', 'the internet is reached again');
    }
    changed();
  }
}
