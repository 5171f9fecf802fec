import { formatHostPort } from '../model/address.js';
import { type ErrorCode, VpndError } from '../model/errors.js';
import { type Millis, ms, seconds } from '../model/time.js';
import { fullJitter, longWait, RECONNECT } from './backoff.js';
import type { DialTarget } from './ports/network.js';
import type { Random } from './ports/random.js';

/** How often a stream proves itself alive, unless the supervisor says otherwise. */
export const PING_INTERVAL: Millis = seconds(10);
/** Silence after which a stream counts as lost: three missed pings. */
export const SILENCE_LIMIT: Millis = seconds(30);
/** Long enough for a supervisor that answers a thousand TLS handshakes at once: giving up early makes it do them again. */
export const DIAL_LIMIT: Millis = seconds(10);
export const AUTHENTICATION_LIMIT: Millis = seconds(10);
/** Failures in a row on one supervisor before the next best is tried. */
export const FAILURES_PER_TARGET = 2;
const NO_TARGET_WAIT: Millis = seconds(1);

/** Where the next dial goes, and how patient it is: what is remembered between attempts. */
export interface Route {
  /** Attempts since the last authentication. */
  readonly attempt: number;
  /** Who was dialled last. */
  readonly target: string | undefined;
  /** Failures in a row on that one. */
  readonly failures: number;
  /** Those given up on since the last authentication: each gets its turn before any gets a second. */
  readonly tried: readonly string[];
}

/**
 * One node's link to its supervisor. All times are monotonic.
 *
 * stopped -> down -> dialing -> authenticating -> up; every failure -> down; stop -> stopped.
 */
export type LinkState =
  | { readonly kind: 'stopped' }
  | {
      readonly kind: 'down';
      readonly route: Route;
      readonly retryAt: Millis;
      readonly lastError: VpndError | undefined;
    }
  | {
      readonly kind: 'dialing' | 'authenticating';
      readonly route: Route;
      readonly to: DialTarget;
      readonly giveUpAt: Millis;
      /** Of the attempt before: a status still shows why the link is not up. */
      readonly lastError: VpndError | undefined;
    }
  | {
      readonly kind: 'up';
      readonly route: Route;
      readonly to: DialTarget;
      readonly lastHeard: Millis;
      readonly nextPing: Millis;
      readonly pingInterval: Millis;
      readonly silenceLimit: Millis;
    };

export type LinkInput =
  | { readonly kind: 'start' }
  | { readonly kind: 'stop'; readonly error: VpndError }
  | { readonly kind: 'tick' }
  /** The machine slept: whatever was under way is dead, and waiting helps nobody. */
  | { readonly kind: 'woke' }
  /** Nothing comes back on the connection although the supervisor is there: another one, to the same. */
  | { readonly kind: 'stalled' }
  /** Look for the best supervisor again, at once (the network changed, the present one drains). */
  | { readonly kind: 'redial' }
  | { readonly kind: 'dialed' }
  | { readonly kind: 'authenticated'; readonly pingInterval: Millis; readonly silenceLimit: Millis }
  | { readonly kind: 'heard' }
  /** The dial was refused, or the stream ended. */
  | { readonly kind: 'failed'; readonly error: VpndError };

export type LinkEffect =
  | { readonly kind: 'dial'; readonly to: DialTarget; readonly timeout: Millis }
  /** Abort the dial or end the stream. */
  | { readonly kind: 'abandon'; readonly error: VpndError }
  | { readonly kind: 'ping' };

export interface LinkContext {
  readonly now: Millis;
  readonly random: Random;
  /** Best first. */
  readonly targets: readonly DialTarget[];
}

type Step = readonly [LinkState, readonly LinkEffect[]];

const FRESH: Route = { attempt: 0, target: undefined, failures: 0, tried: [] };
export const STOPPED: LinkState = { kind: 'stopped' };

export function stepLink(state: LinkState, input: LinkInput, context: LinkContext): Step {
  const { now } = context;
  switch (input.kind) {
    case 'start':
      return state.kind === 'stopped' ? dialWhenDue(down(FRESH, now, undefined), context) : [state, []];
    case 'stop':
      return [STOPPED, abandon(state, input.error)];
    case 'tick':
      return tick(state, context);
    case 'woke':
      return again(state, closed('this machine was asleep'), context, atOnce);
    case 'stalled':
      return again(state, closed('nothing came back on the connection'), context, atOnce);
    case 'redial':
      return again(state, closed('looking for the best supervisor again'), context, () => FRESH);
    case 'dialed':
      if (state.kind !== 'dialing') return [state, []];
      return [{ ...state, kind: 'authenticating', giveUpAt: ms(now + AUTHENTICATION_LIMIT) }, []];
    case 'authenticated':
      return state.kind === 'authenticating' ? [up(state, input, now), []] : [state, []];
    case 'heard':
      return state.kind === 'up' ? [{ ...state, lastHeard: now }, []] : [state, []];
    case 'failed':
      return state.kind === 'stopped' || state.kind === 'down'
        ? [state, []]
        : [failed(state, input.error, context), []];
  }
}

/** When the link next wants a tick; undefined when only an input from outside can move it. */
export function nextDeadline(state: LinkState): Millis | undefined {
  switch (state.kind) {
    case 'stopped':
      return undefined;
    case 'down':
      return state.retryAt;
    case 'dialing':
    case 'authenticating':
      return state.giveUpAt;
    case 'up':
      return ms(Math.min(state.nextPing, state.lastHeard + state.silenceLimit));
  }
}

export const targetName = (target: DialTarget): string =>
  `${target.expect.kind === 'base' ? 'base' : target.expect.id}@${formatHostPort(target.address)}`;

/**
 * The target of the next dial: the same as before; once that has failed twice, the best of those whose turn it was not
 * yet; once all had theirs, the best but the last.
 */
export function chooseTarget(route: Route, targets: readonly DialTarget[]): DialTarget | undefined {
  const last = targets.find((target) => targetName(target) === route.target);
  if (last !== undefined && route.failures < FAILURES_PER_TARGET) return last;
  const others = targets.filter((target) => target !== last);
  return others.find((target) => !route.tried.includes(targetName(target))) ?? others[0] ?? last;
}

function tick(state: LinkState, context: LinkContext): Step {
  const { now } = context;
  switch (state.kind) {
    case 'stopped':
      return [state, []];
    case 'down':
      return dialWhenDue(state, context);
    case 'dialing':
    case 'authenticating': {
      if (now < state.giveUpAt) return [state, []];
      const what = state.kind === 'dialing' ? 'connect' : 'answer AuthRequest';
      const error = new VpndError('timeout', `${targetName(state.to)} took too long to ${what}`, { retryable: true });
      return [failed(state, error, context), abandon(state, error)];
    }
    case 'up': {
      if (now >= state.lastHeard + state.silenceLimit) {
        const silence = Math.round((now - state.lastHeard) / 1_000);
        const error = new VpndError('timeout', `nothing heard from ${targetName(state.to)} for ${silence} s`, {
          retryable: true,
        });
        return [failed(state, error, context), abandon(state, error)];
      }
      if (now < state.nextPing) return [state, []];
      return [{ ...state, nextPing: ms(now + state.pingInterval) }, [{ kind: 'ping' }]];
    }
  }
}

function dialWhenDue(state: Extract<LinkState, { kind: 'down' }>, context: LinkContext): Step {
  const { now } = context;
  if (now < state.retryAt) return [state, []];
  const to = chooseTarget(state.route, context.targets);
  if (to === undefined) {
    const lastError = state.lastError ?? new VpndError('unreachable', 'no supervisor is known', { retryable: true });
    return [{ ...state, retryAt: ms(now + NO_TARGET_WAIT), lastError }, []];
  }
  const route = routeTo(targetName(to), state.route);
  return [
    { kind: 'dialing', route, to, giveUpAt: ms(now + DIAL_LIMIT), lastError: state.lastError },
    [{ kind: 'dial', to, timeout: DIAL_LIMIT }],
  ];
}

function routeTo(target: string, { attempt, target: last, failures, tried }: Route): Route {
  if (target === last && failures < FAILURES_PER_TARGET) return { attempt, target, failures, tried };
  // It was tried already: everybody was, and the next round begins.
  const before = tried.includes(target) ? [] : tried;
  return { attempt, target, failures: 0, tried: last === undefined || last === target ? before : [...before, last] };
}

const closed = (why: string): VpndError => new VpndError('closed', why, { retryable: true });
const atOnce = (route: Route): Route => ({ ...route, attempt: 0 });

function again(state: LinkState, error: VpndError, context: LinkContext, route: (was: Route) => Route): Step {
  if (state.kind === 'stopped') return [state, []];
  const lastError = state.kind === 'down' ? state.lastError : error;
  const [next, effects] = dialWhenDue(down(route(state.route), context.now, lastError), context);
  return [next, [...abandon(state, error), ...effects]];
}

const down = (route: Route, retryAt: Millis, lastError: VpndError | undefined) =>
  ({ kind: 'down', route, retryAt, lastError }) as const;

/** The supervisor's wishes within reason: it must not make a peer ping a hundred times a second, or never notice death. */
function up(
  state: Extract<LinkState, { kind: 'dialing' | 'authenticating' }>,
  wish: { readonly pingInterval: Millis; readonly silenceLimit: Millis },
  now: Millis,
): LinkState {
  const pingInterval = ms(Math.min(Math.max(wish.pingInterval, 1_000), 60_000));
  const silenceLimit = ms(Math.min(Math.max(wish.silenceLimit, 2 * pingInterval), 300_000));
  const route = { ...FRESH, target: state.route.target };
  return {
    kind: 'up',
    route,
    to: state.to,
    lastHeard: now,
    nextPing: ms(now + pingInterval),
    pingInterval,
    silenceLimit,
  };
}

function failed(
  state: Exclude<LinkState, { kind: 'stopped' | 'down' }>,
  error: VpndError,
  context: LinkContext,
): LinkState {
  const { attempt, failures } = state.route;
  // A stream that was up and broke says nothing against its supervisor yet: that one still knows the sessions. Silence does.
  const blamed = state.kind === 'up' && error.code !== 'timeout' ? 0 : failures + 1;
  const route = { ...state.route, attempt: attempt + 1, failures: movesOn(error) ? FAILURES_PER_TARGET : blamed };
  const wait = isHopeless(error) ? longWait(RECONNECT, context.random) : fullJitter(RECONNECT, attempt, context.random);
  return down(route, ms(context.now + wait), error);
}

function abandon(state: LinkState, error: VpndError): readonly LinkEffect[] {
  return state.kind === 'stopped' || state.kind === 'down' ? [] : [{ kind: 'abandon', error }];
}

/** A supervisor that says it is full, or leaving, means it: asking it again at once only takes from the others. */
const movesOn = (error: VpndError): boolean => error.code === 'full' || error.code === 'draining';

const HOPELESS: ReadonlySet<ErrorCode> = new Set([
  'revoked',
  'wrong-region',
  'wrong-role',
  'wrong-ca',
  'clock-skew',
  'bad-membership',
  'membership-expired',
  'bad-signature',
  'version-mismatch',
  'forbidden',
]);

/** Whether the same attempt will fail until somebody does something: a person, a renewal, another node of this identity. */
export function isHopeless(error: VpndError): boolean {
  return HOPELESS.has(error.code) || error.details.replaced === 'true';
}
