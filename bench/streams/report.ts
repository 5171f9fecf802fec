import type { Row, Target } from '../lib/report.js';
import type { OneSize } from './size.js';
import type { Storm } from './storm.js';

const MEMORY_LIMIT_KB = 80;
const REST_LIMIT_MS = 150;
const PUSH_P50_MS = 5;
const PUSH_P99_MS = 40;
const STORM_LIMIT_S = 45;
const WORK_LIMIT_PERCENT = 20;

export const sizeHead = (sizes: readonly OneSize[]): readonly string[] => [
  '',
  ...sizes.map(({ streams }) => `${streams} streams`),
];

export function rows(sizes: readonly OneSize[], storm: Storm | undefined): readonly Row[] {
  const row = (what: string, value: (one: OneSize) => number): Row => [what, ...sizes.map(value)];
  const last = (what: string, value: string | number): Row => [what, ...sizes.slice(1).map(() => ''), value];
  return [
    row('resident memory per stream, KB', (one) => one.memory.perStreamKb.rss),
    row('the same, shared pages divided (PSS), KB', (one) => one.memory.perStreamKb.pss),
    row('the same (RSS), after all garbage was collected, KB', (one) => one.memory.perStreamCollectedKb.rss),
    row('of that, V8’s heap, KB', (one) => one.memory.perStreamCollectedKb.heap),
    row('resident memory of the empty process, MB', (one) => one.memory.empty.rssKb / 1024),
    row('the same with all streams, MB', (one) => one.memory.full.rssKb / 1024),
    row('file descriptors', (one) => one.descriptors.full),
    row('streams set up per second', (one) => one.join.perSecond),
    row('CPU to set one up, ms', (one) => one.join.cpuMsEach),
    row('the generators’ CPU for it, ms', (one) => one.join.generatorsCpuMsEach),
    row('CPU at rest, ms/s', (one) => one.rest.cpuMsPerSecond),
    row('the same without a stream, ms/s', (one) => one.rest.withoutStreams),
    row('the generators’ CPU at rest, ms/s', (one) => one.rest.generators),
    row('one push, p50, ms', (one) => one.push.p50),
    row('one push, p99, ms', (one) => one.push.p99),
    row('one push, longest of 400, ms', (one) => one.push.max),
    row('pushes acknowledged per second', (one) => one.pushesAll.perSecond),
    row('told to everybody, streams per second', (one) => one.broadcast.perSecond),
    row('told to everybody, streams', (one) => one.broadcast.told),
    row('CPU per push with 100 streams, us', (one) => one.pushesFew.cpuUs),
    row('to the same 100 with all streams, us', (one) => one.pushesSame.cpuUs),
    row('to all in turn with all streams, us', (one) => one.pushesAll.cpuUs),
    row('CPU per session with 100 streams, us', (one) => one.sessionsFew.cpuUs),
    row('the same with all streams, us', (one) => one.sessionsAll.cpuUs),
    row('session set up, p50, ms', (one) => one.sessionsAll.p50),
    row('what failed', (one) => failed(one)),
    row('streams lost', (one) => one.lost),
    ...(storm === undefined
      ? []
      : [
          last('killed and restarted: streams', storm.streams),
          last('until all were back, s', storm.seconds ?? 'never'),
          last('until it answered again, s', storm.startedAfterSeconds),
          last(
            'attempts that failed',
            Object.values(storm.failures).reduce((sum, one) => sum + one, 0),
          ),
          last('CPU until then, s', storm.cpuSeconds.supernode),
          last('the generators’ CPU, s', storm.cpuSeconds.generators),
        ]),
  ];
}

const failed = (one: OneSize): number =>
  one.push.failed +
  one.pushesFew.failed +
  one.pushesSame.failed +
  one.pushesAll.failed +
  one.sessionsFew.failed +
  one.sessionsAll.failed;

export function targets(sizes: readonly OneSize[], storm: Storm | undefined): readonly Target[] {
  const large = sizes.reduce((most, one) => (one.streams > most.streams ? one : most));
  const { streams } = large;
  const change = (few: number, many: number) => Math.abs(many / few - 1) * 100;
  const against = `of 100 and of ${streams} streams`;
  return [
    {
      what: `resident memory per stream, ${streams}`,
      limit: MEMORY_LIMIT_KB,
      measured: large.memory.perStreamKb.rss,
      unit: 'KB',
    },
    {
      what: `CPU at rest, heartbeats of ${streams}`,
      limit: REST_LIMIT_MS,
      measured: large.rest.cpuMsPerSecond,
      unit: 'ms/s',
    },
    { what: `one push, p50, ${streams}`, limit: PUSH_P50_MS, measured: large.push.p50, unit: 'ms' },
    { what: `one push, p99, ${streams}`, limit: PUSH_P99_MS, measured: large.push.p99, unit: 'ms' },
    {
      what: `CPU per push, difference ${against}`,
      limit: WORK_LIMIT_PERCENT,
      measured: change(large.pushesFew.cpuUs, large.pushesSame.cpuUs),
      unit: '%',
    },
    {
      what: `CPU per session, difference ${against}`,
      limit: WORK_LIMIT_PERCENT,
      measured: change(large.sessionsFew.cpuUs, large.sessionsAll.cpuUs),
      unit: '%',
    },
    ...(storm === undefined
      ? []
      : [
          {
            what: `storm of ${storm.streams}, until all were back`,
            limit: STORM_LIMIT_S,
            measured: storm.seconds ?? 1e6,
            unit: 's',
          },
          {
            what: 'streams lost in the storm',
            limit: 0,
            measured: storm.streams - storm.back + storm.lostAgain,
            unit: '',
          },
        ]),
  ];
}
