import type { TransferOutcome } from '../../chaos/overlay/index.js';
import type { Target } from '../lib/report.js';
import { percentile } from '../lib/statistics.js';
import type { Bed } from './bed.js';

/** One event, once. */
export interface Sample {
  /** From the event's begin to the answer that ended the standstill after it, of over 250 ms: 0 where there was none. */
  readonly recoveredMs: number;
  readonly sent: number;
  readonly lost: number;
  /** When those were sent that got lost, from the event's begin. */
  readonly lostAtMs?: readonly number[];
  /** The longest time between two answers, from the event on. */
  readonly gapMs: number;
  /** The same of the packets as the instrument sent them. */
  readonly instrumentPauseMs: number;
  /** The longest time between two answers before the event. */
  readonly quietGapMs: number;
  /** How many addresses the web server saw, one after the other. */
  readonly seen: number;
  readonly download?: TransferOutcome;
  readonly sessions?: number;
  readonly sessionsLost?: number;
  /** What went wrong besides, in words. */
  readonly troubles?: readonly string[];
  /** How long the event itself took, where it is a request that is answered. */
  readonly tookMs?: number;
}

export interface Limit {
  readonly what: string;
  readonly unit: string;
  readonly limit: number;
  of(samples: readonly Sample[]): number;
}

interface Described {
  /** Also the argument that runs it alone. */
  readonly name: string;
  readonly title: string;
  readonly limits: readonly Limit[];
  /** How often, of the runs asked for; all when left out. */
  readonly runs?: (asked: number) => number;
}

/** An event in the common bed. */
export interface BedEvent extends Described {
  once(bed: Bed): Promise<Sample>;
}

/** An event with a fleet of its own. */
export interface OwnEvent extends Described {
  all(runs: number, tell: (text: string) => void): Promise<readonly Sample[]>;
}

export type RecoveryEvent = BedEvent | OwnEvent;

export const noneLost: Limit = {
  what: 'packets lost, all runs',
  unit: '',
  limit: 0,
  of: (samples) => samples.reduce((sum, { lost }) => sum + lost, 0),
};

export const gapAtMost = (limit: number): Limit => ({
  what: 'longest gap, worst run',
  unit: 'ms',
  limit,
  of: (samples) => Math.max(...samples.map(({ gapMs }) => gapMs)),
});

export const recoveredWithin = (p50: number, p99: number): readonly Limit[] => [
  { what: 'traffic again, p50', unit: 'ms', limit: p50, of: (samples) => percentile(samples.map(recovered), 0.5) },
  { what: 'traffic again, p99', unit: 'ms', limit: p99, of: (samples) => percentile(samples.map(recovered), 0.99) },
];

export const recoveredAlways = (limit: number): Limit => ({
  what: 'traffic again, worst run',
  unit: 'ms',
  limit,
  of: (samples) => Math.max(...samples.map(recovered)),
});

export const downloadsIntact: Limit = {
  what: 'downloads not intact',
  unit: '',
  limit: 0,
  of: (samples) => samples.filter(({ download }) => download?.intact !== true).length,
};

export const noSessionLost: Limit = {
  what: 'sessions lost, all runs',
  unit: '',
  limit: 0,
  of: (samples) => samples.reduce((sum, { sessionsLost = 0 }) => sum + sessionsLost, 0),
};

const recovered = ({ recoveredMs }: Sample): number => recoveredMs;

export const targetsOf = (event: RecoveryEvent, samples: readonly Sample[]): Target[] =>
  samples.length === 0
    ? []
    : event.limits.map(({ what, unit, limit, of }) => ({
        what: `${event.name}: ${what}`,
        unit,
        limit,
        measured: of(samples),
      }));
