import type { DeviceTraffic } from '../model/dataplane.js';
import { type Millis, ms } from '../model/time.js';

/**
 * Whether a tunnel still carries anything, told from its packet counters and from probes that the exit's kernel
 * answers. All times are monotonic. The rule (docs/sessions.md): it sends and hears nothing for 600 ms, and then three
 * probes, 200 ms apart, stay unanswered. Whatever comes in is a sign of life; an idle tunnel is probed every 5 s.
 */
export const SILENCE: Millis = ms(600);
export const PROBE_EVERY: Millis = ms(200);
export const PROBES = 3;
export const IDLE_PROBE: Millis = ms(5_000);
/** A look that comes so late was held up with the whole process: what was not heard meanwhile says nothing. */
const LATE: Millis = ms(1_000);
/** Probes of a tunnel that is dead, in case it comes back. */
const DEAD_PROBE: Millis = ms(1_000);

export type Pulse = 'alive' | 'silent' | 'dead';

export interface Liveness {
  readonly pulse: Pulse;
  readonly rx: number;
  readonly tx: number;
  readonly lookedAt: Millis;
  readonly heardAt: Millis;
  /** When something was sent that nothing has answered yet. */
  readonly unansweredSince: Millis | undefined;
  readonly probes: number;
  readonly probedAt: Millis | undefined;
  /** No verdict before then: the network underneath has just changed. */
  readonly patientUntil: Millis;
  /** Measured through the tunnel; undefined before the first answer. */
  readonly roundTrip: Millis | undefined;
}

export type LivenessInput =
  | { readonly kind: 'look'; readonly traffic: DeviceTraffic }
  /** A probe was answered. */
  | { readonly kind: 'answer'; readonly roundTrip: Millis }
  /** Somebody wants to know at once; `patience`: with that much time before it counts as dead. */
  | { readonly kind: 'ask'; readonly patience?: Millis };

export interface LivenessStep {
  readonly state: Liveness;
  /** Send a probe now. */
  readonly probe: boolean;
}

export const newLiveness = (traffic: DeviceTraffic, now: Millis): Liveness => ({
  pulse: 'alive',
  rx: traffic.rxPackets,
  tx: traffic.txPackets,
  lookedAt: now,
  heardAt: now,
  unansweredSince: undefined,
  probes: 0,
  probedAt: undefined,
  patientUntil: now,
  roundTrip: undefined,
});

/** Probes are further apart where the path itself takes longer: an answer must have the time to come. */
export const probeInterval = (state: Liveness): Millis =>
  ms(Math.max(PROBE_EVERY, Math.min(2_000, (state.roundTrip ?? 0) * 2)));

export function stepLiveness(state: Liveness, input: LivenessInput, now: Millis): LivenessStep {
  switch (input.kind) {
    case 'answer': {
      const before = state.roundTrip;
      const roundTrip = before === undefined ? input.roundTrip : ms(before * 0.75 + input.roundTrip * 0.25);
      return { state: { ...heard(state, now), roundTrip }, probe: false };
    }
    case 'ask':
      return probe({ ...state, patientUntil: ms(Math.max(state.patientUntil, now + (input.patience ?? 0))) }, now);
    case 'look':
      return look(state, input.traffic, now);
  }
}

function look(before: Liveness, traffic: DeviceTraffic, now: Millis): LivenessStep {
  const wasHeard = traffic.rxPackets > before.rx;
  const wasSent = traffic.txPackets > before.tx;
  const late = now - before.lookedAt > LATE;
  let state: Liveness = { ...before, rx: traffic.rxPackets, tx: traffic.txPackets, lookedAt: now };
  if (late && state.pulse !== 'dead') {
    // What was heard may have been so before the sleep.
    state = { ...state, unansweredSince: undefined, probes: 0, probedAt: undefined };
    return probe(state, now);
  }
  // A device that somebody made anew counts from nothing.
  if (wasHeard || traffic.rxPackets < before.rx) return { state: heard(state, now), probe: false };
  if (wasSent && state.unansweredSince === undefined) state = { ...state, unansweredSince: now };
  const sinceProbe = state.probedAt === undefined ? Number.POSITIVE_INFINITY : now - state.probedAt;
  if (state.pulse === 'dead') return sinceProbe >= DEAD_PROBE ? probe(state, now) : { state, probe: false };
  if (state.probes > 0) {
    if (sinceProbe < probeInterval(state)) return { state, probe: false };
    if (state.probes >= PROBES && now >= state.patientUntil)
      return { state: { ...state, pulse: 'dead' }, probe: false };
    return probe({ ...state, pulse: 'silent' }, now);
  }
  const silence = state.unansweredSince === undefined ? 0 : now - state.unansweredSince;
  // Not silent yet: much that programs send is never answered, and a tunnel over which that goes is well.
  if (silence >= Math.max(SILENCE, (state.roundTrip ?? 0) * 3)) return probe(state, now);
  if (now - state.heardAt >= IDLE_PROBE) return probe(state, now);
  return { state, probe: false };
}

const heard = (state: Liveness, now: Millis): Liveness => ({
  ...state,
  pulse: 'alive',
  heardAt: now,
  unansweredSince: undefined,
  probes: 0,
  probedAt: undefined,
});

const probe = (state: Liveness, now: Millis): LivenessStep => ({
  state: { ...state, probes: state.probes + 1, probedAt: now },
  probe: true,
});
