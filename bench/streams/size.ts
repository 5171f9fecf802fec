import { setTimeout as pause } from 'node:timers/promises';
import type { OverlayNode } from '../../chaos/overlay/index.js';
import { cpuTime } from '../lib/process-cost.js';
import { percentile } from '../lib/statistics.js';
import type { Asked, Counts } from '../load/crowd.js';
import type { Generator } from './generators.js';
import type { MeasuredSupernode, Memory } from './supernode.js';

/** So many come and go first, and a change costs what it costs with so few: what the work per change is held against. */
export const FEW = 100;
const SETTLE_MS = 10_000;
/** Two intervals of heartbeats. */
const REST_SECONDS = 20;
const PUSHES = 400;
const PUSH_EVERY_MS = 25;
const CHANGES = 6_000;
const CHANGES_AT_ONCE = 16;
const SESSIONS = 150;
const SESSIONS_AT_ONCE = 4;
const NEWS_LIMIT_MS = 30_000;

/** What a change costs the supernode, in microseconds of CPU, and how many a second there were. */
export interface Work {
  readonly cpuUs: number;
  readonly perSecond: number;
  readonly failed: number;
}

export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

export interface OneSize {
  readonly streams: number;
  readonly memory: {
    readonly empty: Memory;
    readonly full: Memory;
    readonly emptyCollected: Memory;
    readonly fullCollected: Memory;
    readonly perStreamKb: { readonly rss: number; readonly pss: number };
    readonly perStreamCollectedKb: { readonly rss: number; readonly pss: number; readonly heap: number };
    readonly collectionMs: number;
  };
  readonly join: { readonly perSecond: number; readonly cpuMsEach: number; readonly generatorsCpuMsEach: number };
  readonly rest: { readonly cpuMsPerSecond: number; readonly withoutStreams: number; readonly generators: number };
  readonly push: Latency & { readonly failed: number };
  /** A command pushed and acknowledged, as often as it goes. */
  readonly pushesFew: Work;
  readonly pushesSame: Work;
  readonly pushesAll: Work;
  readonly sessionsFew: Work & Latency;
  readonly sessionsAll: Work & Latency;
  /** One piece of news told to everybody. */
  readonly broadcast: { readonly told: number; readonly withinMs: number; readonly perSecond: number };
  readonly descriptors: { readonly empty: number; readonly full: number };
  readonly lost: number;
}

/** All generators together. */
export class Generators {
  constructor(readonly all: readonly Generator[]) {}

  get streams(): number {
    return this.all.reduce((sum, one) => sum + one.streams, 0);
  }

  /** Seconds of CPU so far. */
  cpu(): number {
    return this.all.reduce((sum, one) => sum + cpuTime(one.process.pid).own, 0);
  }

  async join(): Promise<number> {
    const began = performance.now();
    await Promise.all(this.all.map((one) => one.tell('join', { first: 0, count: one.streams })));
    return (performance.now() - began) / 1000;
  }

  counts(): Promise<readonly Counts[]> {
    return Promise.all(this.all.map((one) => one.tell('counts', {})));
  }

  /** Pushes to all streams, by all of them in turn. */
  async ask(times: number, every: number, atOnce: number): Promise<Asked> {
    const n = this.all.length;
    const each = { times: Math.ceil(times / n), every: every * n, atOnce: Math.ceil(atOnce / n), first: 0 };
    const asked = await Promise.all(this.all.map((one) => one.tell('ask', { ...each, count: one.streams })));
    return {
      latenciesMs: asked.flatMap((one) => one.latenciesMs),
      seconds: Math.max(...asked.map((one) => one.seconds)),
      failed: asked.reduce((sum, one) => sum + one.failed, 0),
    };
  }
}

/** Everything that is measured with one number of streams, on a supernode that has just been started. */
export async function measureSize(
  supernode: MeasuredSupernode,
  base: OverlayNode,
  generators: Generators,
  /** Of a member that is not connected: shutting it out is news to everybody else. */
  outsider: string,
  tell: (step: string) => void,
): Promise<OneSize> {
  const { streams } = generators;
  const [first] = generators.all;
  if (first === undefined) throw new Error('no load generator');
  const few = { first: 0, count: FEW };

  tell(`${FEW} come, are asked, and go`);
  await first.tell('join', few);
  const pushesFew = await workOf(supernode, () => first.tell('ask', { ...few, ...changes }));
  const sessionsFew = await workOf(supernode, () => first.tell('sessions', { ...few, ...openings }));
  await first.tell('leave', few);
  await pause(SETTLE_MS);
  const empty = supernode.memory();
  const { tookMs: _, ...emptyCollected } = await supernode.collected();
  const withoutStreams = await supernode.cpuOver(SETTLE_MS / 1000);
  const descriptorsEmpty = supernode.descriptors();

  tell(`${streams} come`);
  const [cpuBefore, generatorsBefore] = [supernode.cpu(), generators.cpu()];
  const seconds = await generators.join();
  const join = {
    perSecond: streams / seconds,
    cpuMsEach: ((supernode.cpu() - cpuBefore) * 1000) / streams,
    generatorsCpuMsEach: ((generators.cpu() - generatorsBefore) * 1000) / streams,
  };
  await pause(SETTLE_MS);
  tell('they rest');
  const generatorsAtRest = generators.cpu();
  const cpuMsPerSecond = await supernode.cpuOver(REST_SECONDS);
  const generatorsRest = ((generators.cpu() - generatorsAtRest) * 1000) / REST_SECONDS;
  const full = supernode.memory();
  const descriptors = { empty: descriptorsEmpty, full: supernode.descriptors() };

  tell('one push after another');
  const pushed = await generators.ask(PUSHES, PUSH_EVERY_MS, 1);
  tell('as many pushes and sessions as go');
  const pushesSame = await workOf(supernode, () => first.tell('ask', { ...few, ...changes }), cpuMsPerSecond);
  const pushesAll = await workOf(supernode, () => generators.ask(CHANGES, 0, CHANGES_AT_ONCE), cpuMsPerSecond);
  const sessionsAll = await workOf(supernode, () => first.tell('sessions', { ...few, ...openings }), cpuMsPerSecond);
  tell('news for everybody');
  const broadcast = await tellEverybody(base, generators, outsider);
  const { tookMs: collectionMs, ...fullCollected } = await supernode.collected();
  const lost = (await generators.counts()).reduce((sum, one) => sum + one.lost, 0);

  return {
    streams,
    memory: {
      empty,
      full,
      emptyCollected,
      fullCollected,
      perStreamKb: { rss: (full.rssKb - empty.rssKb) / streams, pss: (full.pssKb - empty.pssKb) / streams },
      perStreamCollectedKb: {
        rss: (fullCollected.rssKb - emptyCollected.rssKb) / streams,
        pss: (fullCollected.pssKb - emptyCollected.pssKb) / streams,
        heap: ((fullCollected.heapKb ?? 0) - (emptyCollected.heapKb ?? 0)) / streams,
      },
      collectionMs,
    },
    join,
    rest: { cpuMsPerSecond, withoutStreams, generators: generatorsRest },
    push: { ...latency(pushed.latenciesMs), failed: pushed.failed },
    pushesFew,
    pushesSame,
    pushesAll,
    sessionsFew,
    sessionsAll,
    broadcast,
    descriptors,
    lost,
  };
}

const changes = { times: CHANGES, every: 0, atOnce: CHANGES_AT_ONCE };
const openings = { times: SESSIONS, atOnce: SESSIONS_AT_ONCE };

const latency = (ms: readonly number[]): Latency => ({
  p50: percentile(ms, 0.5),
  p99: percentile(ms, 0.99),
  max: percentile(ms, 1),
});

/** CPU that the supernode spends on something, less what it spends anyway meanwhile. */
async function workOf(
  supernode: MeasuredSupernode,
  act: () => Promise<Asked>,
  restMsPerSecond = 0,
): Promise<Work & Latency> {
  const before = supernode.cpu();
  const { latenciesMs, seconds, failed, failure } = await act();
  if (latenciesMs.length === 0) throw new Error(`nothing of it went well: ${failure}`);
  const spent = supernode.cpu() - before - (seconds * restMsPerSecond) / 1000;
  const done = latenciesMs.length;
  return { cpuUs: (spent * 1e6) / done, perSecond: done / seconds, failed, ...latency(latenciesMs) };
}

async function tellEverybody(
  base: OverlayNode,
  generators: Generators,
  outsider: string,
): Promise<OneSize['broadcast']> {
  await generators.counts();
  await base.json('revoke', outsider);
  const giveUp = performance.now() + NEWS_LIMIT_MS;
  let told = 0;
  let [from, to] = [Number.POSITIVE_INFINITY, 0];
  while (told < generators.streams && performance.now() < giveUp) {
    await pause(250);
    for (const { news } of await generators.counts()) {
      const heard = news.revocations;
      if (heard === undefined) continue;
      told += heard.count;
      from = Math.min(from, heard.first);
      to = Math.max(to, heard.last);
    }
  }
  return { told, withinMs: to - from, perSecond: (told * 1000) / (to - from) };
}
