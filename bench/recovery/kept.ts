import { readFileSync } from 'node:fs';
import type { Machine } from '../lib/machine.js';
import { holds, keep, type Row, resultFile, type Target, table, targetTable } from '../lib/report.js';
import { type Summary, summarise } from '../lib/statistics.js';
import { type RecoveryEvent, type Sample, targetsOf } from './event.js';

export interface EventSummary {
  readonly title: string;
  readonly date: string;
  readonly runs: number;
  /** CPUs' worth that others used when this event's runs began. */
  readonly othersCpus: number;
  readonly failures: readonly string[];
  readonly recoveredMs?: Summary;
  readonly gapMs?: Summary;
  readonly quietGapMs?: Summary;
  readonly instrumentPauseMs?: Summary;
  readonly lost?: Summary & { readonly total: number; readonly sent: number };
  readonly downloadsIntact?: number;
  readonly sessionsLost?: number;
}

interface Kept {
  readonly summary: Readonly<Record<string, EventSummary>>;
  readonly targets: readonly (Target & { readonly event: string })[];
  readonly samples: Readonly<Record<string, unknown>>;
}

const NAME = 'recovery';

/** Puts one event's figures in their place among those kept before; answers with a table of them. */
export function keepEvents(
  machine: Machine,
  event: RecoveryEvent,
  { samples, failures }: { readonly samples: readonly Sample[]; readonly failures: readonly string[] },
): string {
  const before = keptBefore();
  const summary = summaryOf(event, machine, samples, failures);
  const targets = targetsOf(event, samples);
  keep(
    {
      name: NAME,
      command: 'make bench-recovery',
      configuration: {
        traffic: '100 datagrams a second from the client through the tunnel to an echo port of the web server and back',
        recoveredMs:
          'from the begin of the event to the answer that ended the standstill after it, of over 250 ms; 0 where there was none',
        topology:
          '3 supernodes, 4 exits, 2 clients, each peer behind a home router, in network namespaces; 50 clients and 2 exits for supernode-drained and drained-auto',
      },
      summary: { ...before.summary, [event.name]: summary },
      targets: [
        ...before.targets.filter((target) => target.event !== event.name),
        ...targets.map((target) => ({ ...target, event: event.name })),
      ],
      samples: { ...before.samples, [event.name]: samples },
    },
    machine,
  );
  return [table(['', 'min', 'p50', 'p99', 'max'], rows(summary)), targetTable(targets), ...targets.map(missed)].join(
    '',
  );
}

function summaryOf(
  { title }: RecoveryEvent,
  { othersCpus }: Machine,
  samples: readonly Sample[],
  failures: readonly string[],
): EventSummary {
  const common = { title, date: new Date().toISOString(), runs: samples.length, othersCpus, failures };
  if (samples.length === 0) return common;
  const of = (what: (sample: Sample) => number) => summarise(samples.map(what));
  const downloads = samples.flatMap(({ download }) => (download === undefined ? [] : [download]));
  const sum = (values: readonly number[]) => values.reduce((all, one) => all + one, 0);
  return {
    ...common,
    recoveredMs: of((one) => one.recoveredMs),
    gapMs: of((one) => one.gapMs),
    quietGapMs: of((one) => one.quietGapMs),
    instrumentPauseMs: of((one) => one.instrumentPauseMs),
    lost: {
      ...of((one) => one.lost),
      total: sum(samples.map((one) => one.lost)),
      sent: sum(samples.map((one) => one.sent)),
    },
    ...(downloads.length === 0 ? {} : { downloadsIntact: downloads.filter(({ intact }) => intact).length }),
    ...(samples.every((one) => one.sessionsLost === undefined)
      ? {}
      : { sessionsLost: sum(samples.map((one) => one.sessionsLost ?? 0)) }),
  };
}

function rows({ recoveredMs, gapMs, quietGapMs, instrumentPauseMs, lost }: EventSummary): readonly Row[] {
  const row = (what: string, one: Summary | undefined): Row[] =>
    one === undefined ? [] : [[what, one.min, one.p50, one.p99, one.max]];
  return [
    ...row('traffic again, ms', recoveredMs),
    ...row('longest gap, ms', gapMs),
    ...row('longest gap before the event, ms', quietGapMs),
    ...row('longest pause of the sender, ms', instrumentPauseMs),
    ...row('packets lost in a run', lost),
  ];
}

const missed = (target: Target): string => (holds(target) ? '' : `  missed: ${target.what}\n`);

function keptBefore(): Kept {
  try {
    return JSON.parse(readFileSync(resultFile(NAME), 'utf8')) as Kept;
  } catch {
    return { summary: {}, targets: [], samples: {} };
  }
}
