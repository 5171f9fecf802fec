import { writeFileSync } from 'node:fs';
import type { Machine } from '../lib/machine.js';
import { keep, type Row, resultFile, table, targetTable } from '../lib/report.js';
import { summarise } from '../lib/statistics.js';
import { CLIENTS, EXITS, SUPERNODES } from './bed.js';
import { FAULTS } from './faults.js';
import { draw, type Mark, type Panel } from './picture.js';
import { BLOCK_HOURS, type Judged, judged, type Quantity, quantitiesOf, WARM_UP_HOURS } from './quantities.js';
import { hourOf, type SoakRecord } from './record.js';
import type { Leftover } from './residue.js';

export interface Outcome {
  readonly record: SoakRecord;
  readonly left: readonly Leftover[];
  /** Until nothing was left. */
  readonly tookMs: number;
  /** After every daemon was told to end. */
  readonly stillRunning: readonly string[];
  readonly options: Readonly<Record<string, unknown>>;
}

/** Prints what came of it and keeps it, with a picture. Answers whether nothing grows and nothing is left. */
export function keepSoak(outcome: Outcome, machine: Machine, say: (text: string) => void): boolean {
  const { record } = outcome;
  const quantities = quantitiesOf(record);
  const verdicts = judged(quantities);
  const targets = [
    {
      what: 'quantities that grow',
      limit: 0,
      measured: verdicts.filter((one) => one.verdict === 'grows').length,
      unit: '',
    },
    { what: 'things left in kernels at the end', limit: 0, measured: outcome.left.length, unit: '' },
    { what: 'processes left at the end', limit: 0, measured: outcome.stillRunning.length, unit: '' },
  ];
  const result = {
    name: 'soak',
    command: `make soak HOURS=${outcome.options.hours} RATE=${outcome.options.perSecond}`,
    configuration: {
      ...outcome.options,
      nodes: { supernodes: SUPERNODES, exits: EXITS, clients: CLIENTS },
      faults: FAULTS.map(({ name, title }) => `${name}: ${title}`),
      slopes: `least squares after the first ${WARM_UP_HOURS * 60} minutes of each process, 95 % intervals from a block bootstrap with blocks of ${BLOCK_HOURS * 60} minutes`,
    },
    summary: { ...totals(outcome), left: outcome.left, stillRunning: outcome.stillRunning, verdicts },
    targets,
    samples: { ...record, daemons: columns(record.daemons), kernels: columns(record.kernels) },
  };
  const file = keep(result, machine);
  const svg = resultFile('soak').replace(/\.json$/, '.svg');
  writeFileSync(svg, picture(record, quantities));
  for (const line of told(outcome, verdicts)) say(line);
  console.log(`\n${targetTable(targets)}\n${file}\n${svg}`);
  return targets.every(({ limit, measured }) => measured <= limit);
}

function totals({ record, tookMs }: Outcome) {
  const failures = new Map<string, number>();
  for (const tally of record.visits) {
    for (const [why, n] of Object.entries(tally.failures)) failures.set(why, (failures.get(why) ?? 0) + n);
  }
  const count = (of: (one: SoakRecord['visits'][number]) => number) =>
    record.visits.reduce((sum, one) => sum + of(one), 0);
  const last = record.visits.at(-1)?.at ?? record.began;
  const opened = count((one) => one.opened);
  const hours = hourOf(record, last);
  const connected = record.connects.flatMap(({ tookMs }) => tookMs ?? []);
  const every = (list: readonly number[]) => (list.length === 0 ? undefined : summarise(list));
  return {
    hours,
    sessions: {
      opened,
      closed: count((one) => one.closeMs.length),
      vanished: count((one) => one.vanished),
      perSecond: opened / (hours * 3600),
    },
    visitsThatFailed: Object.fromEntries([...failures].sort(([, a], [, b]) => b - a)),
    visitsMissed: count((one) => one.missed),
    realConnects: { done: connected.length, failed: record.connects.length - connected.length },
    faults: {
      done: record.faults.length,
      withTrouble: record.faults.filter((one) => one.trouble !== undefined).length,
    },
    pings: {
      answered: record.pings.reduce((sum, one) => sum + one.answered, 0),
      lost: record.pings.reduce((sum, one) => sum + one.lost, 0),
    },
    latencyMs: {
      stream: every(record.visits.flatMap((one) => one.streamMs)),
      grant: every(record.visits.flatMap((one) => one.grantMs)),
      close: every(record.visits.flatMap((one) => one.closeMs)),
      connect: every(connected),
      ping: every(record.pings.flatMap((one) => one.roundTripMs)),
    },
    cpusBusyOnTheWholeMachine: every(record.busy.map((one) => one.cpus)),
    secondsUntilNothingWasLeft: tookMs / 1000,
  };
}

function told(outcome: Outcome, verdicts: readonly Judged[]): readonly string[] {
  const { sessions, realConnects, faults, pings, visitsThatFailed } = totals(outcome);
  const groups = [...new Set(verdicts.map((one) => one.group))].map((group): Row => {
    const of = verdicts.filter((one) => one.group === group);
    const n = (verdict: Judged['verdict']) => of.filter((one) => one.verdict === verdict).length;
    return [
      group,
      String(of.length),
      String(n('level')),
      String(n('unclear')),
      String(n('grows')),
      String(n('too short')),
    ];
  });
  const worth = verdicts.filter((one) => one.verdict === 'grows' || one.verdict === 'unclear').map(rowOf);
  return [
    `${sessions.opened} sessions (${sessions.perSecond.toFixed(2)} per second), ${realConnects.done} real connects and ${realConnects.failed} failed, ${faults.done} faults, ${pings.lost} of ${pings.answered + pings.lost} pings lost`,
    `visits that failed: ${JSON.stringify(visitsThatFailed)}`,
    `nothing left after ${(outcome.tookMs / 1000).toFixed(0)} s: ${outcome.left.length === 0 ? 'yes' : JSON.stringify(outcome.left)}`,
    `\n${table(['', 'followed', 'level', 'unclear', 'grows', 'too short'], groups)}`,
    ...(worth.length === 0 ? [] : [`\n${table(['', 'level', 'per hour', '95 %', 'tolerated', ''], worth)}`]),
  ];
}

export const rowOf = ({ of, what, unit, slope, tolerance, verdict }: Judged): Row =>
  slope === undefined
    ? [`${of}: ${what}`, '', '', '', '', verdict]
    : [
        `${of}: ${what}${unit === '' ? '' : `, ${unit}`}`,
        slope.level,
        slope.perHour,
        `${slope.low.toFixed(2)} to ${slope.high.toFixed(2)}`,
        tolerance,
        verdict,
      ];

function picture(record: SoakRecord, quantities: readonly Quantity[]): string {
  const marks: readonly Mark[] = record.faults.map(({ at, name }) => ({ hour: hourOf(record, at), title: name }));
  const panel = (
    title: string,
    unit: string,
    which: (one: Quantity) => boolean,
    name: (one: Quantity) => string,
  ): Panel => ({
    title,
    unit,
    lines: quantities.filter(which).map((one) => ({
      name: name(one),
      points: one.points.map((point) => ({ ...point, value: point.value * one.scale })),
    })),
  });
  const node = (what: string) => (one: Quantity) => one.what === what;
  const of = (one: Quantity) => one.of;
  const what = (one: Quantity) => one.what;
  return draw(
    'Soak: what daemons and kernels hold, and how long things take',
    [
      panel('Memory (PSS) of each daemon', 'MB', node('memory (PSS)'), of),
      panel('Heap in use', 'MB', node('heap in use'), of),
      panel('wireguard-go, resident', 'MB', node('wireguard-go (RSS)'), of),
      panel('Descriptors', '', node('descriptors'), of),
      panel('State directories', 'MB', node('state directory'), of),
      panel('WireGuard peers', '', node('WireGuard peers'), of),
      panel('nftables elements', '', node('nftables elements'), of),
      panel('Sockets', '', node('sockets'), of),
      panel('Tracked connections', '', node('tracked connections'), of),
      panel(
        'Latency, median of each minute',
        'ms',
        (one) => one.group === 'latency' && !one.what.startsWith('ping'),
        what,
      ),
      panel('Ping through the tunnel, median of each minute', 'ms', (one) => one.what.startsWith('ping'), what),
    ],
    marks,
  );
}

type Seen = { readonly at: number; readonly node: string; readonly sample: object };

/** By node, a list for each quantity: shorter than a thousand objects, and as true. */
function columns(seen: readonly Seen[]): Readonly<Record<string, Readonly<Record<string, readonly number[]>>>> {
  const by = new Map<string, Map<string, number[]>>();
  for (const { at, node, sample } of seen) {
    const lists = by.get(node) ?? new Map<string, number[]>();
    by.set(node, lists);
    for (const [name, value] of Object.entries({ at, ...sample })) {
      const list = lists.get(name) ?? [];
      list.push(Number(value));
      lists.set(name, list);
    }
  }
  return Object.fromEntries([...by].map(([node, lists]) => [node, Object.fromEntries(lists)]));
}
