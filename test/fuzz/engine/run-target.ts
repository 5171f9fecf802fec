import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Coverage } from './coverage.js';
import { Inputs } from './inputs.js';
import type { OpenTarget, Target } from './target.js';

/** What an input broke. */
export interface Finding {
  readonly target: string;
  /** Which input of the run. */
  readonly index: number;
  readonly input: Uint8Array;
  readonly what: string;
}

export interface Stats {
  readonly target: string;
  readonly inputs: number;
  readonly ms: number;
  /** Milliseconds of processor time, which other programs on the machine do not lengthen. */
  readonly cpuMs: number;
  /** The slowest input, in milliseconds. */
  readonly slowest: number;
  /** Places of the project's code that were passed; 0 where nobody counted. */
  readonly places: number;
  /** Inputs that did something new, to be kept: none of them can be left out without losing a place. */
  readonly kept: readonly Uint8Array[];
  /** MiB that the heap grew by after the first tenth. */
  readonly growth: number;
  readonly findings: readonly Finding[];
}

export interface RunOptions {
  readonly seed: number;
  /** The first input's number; the next run of a target that hung begins after the input it hung with. */
  readonly from?: number;
  readonly count: number;
  readonly corpus: readonly Uint8Array[];
  readonly coverage?: Coverage;
  /** Told before an input is run. */
  readonly before?: (index: number, input: Uint8Array) => void;
  /** Milliseconds of processor time that an input may take. */
  readonly slow?: number;
}

/** Findings of one kind are one; a target with this many kinds is not looked at further. */
const MOST_FINDINGS = 12;
const SLOW = 500;
/** MiB; what a run keeps on purpose is far less. */
const GROWTH = 24;
const TURN = 64;
const CHECK = 2_000;

/** Runs inputs one after the other. Rejects only for what is wrong with the target itself. */
export async function runTarget(target: Target, options: RunOptions): Promise<Stats> {
  const { seed, from = 0, count, coverage, before, slow = SLOW } = options;
  // What comes out of files are Buffers, and what is cut from those is so, too.
  const corpus = options.corpus.map((one) => new Uint8Array(one));
  const open = await target.open(seed);
  const inputs = new Inputs(target, open, corpus);
  const findings = new Map<string, Finding>();
  const kept: { readonly input: Uint8Array; readonly signature: readonly number[] }[] = [];
  let slowest = 0;
  let heapBefore = 0;
  /** Inputs that are kept are no growth of what is tried. */
  let keptMiB = 0;
  let current: { index: number; input: Uint8Array } | undefined;
  const found = (thrown: unknown): void => {
    if (current === undefined) throw thrown;
    const what = textOf(thrown);
    const kind = kindOf(what);
    if (!findings.has(kind) && findings.size < MOST_FINDINGS)
      findings.set(kind, { target: target.name, ...current, input: open.history?.() ?? current.input, what });
  };
  const stray = (thrown: unknown) => found(new Error(`nobody caught it: ${textOf(thrown)}`));
  process.on('uncaughtException', stray).on('unhandledRejection', stray);

  const runOne = async (index: number, input: Uint8Array): Promise<void> => {
    current = { index, input };
    before?.(index, input);
    coverage?.begin();
    const began = performance.now();
    try {
      const running = open.run(input);
      if (running !== undefined) await running;
    } catch (thrown) {
      found(thrown);
    }
    const took = performance.now() - began;
    if (coverage?.end()) {
      inputs.keep(input);
      keptMiB += input.length / 1024 ** 2;
      kept.push({ input, signature: coverage.signature() });
    }
    if (took > slowest) slowest = took;
    if (took > slow && (await isSlow(open, input, slow))) found(new Error(`an input takes more than ${slow} ms`));
  };

  const began = performance.now();
  const cpu = process.cpuUsage();
  try {
    for (const input of corpus) await runOne(-1, input);
    for (let i = 0; i < count && findings.size < MOST_FINDINGS; i++) {
      const index = from + i;
      await runOne(index, inputs.of(seed + index));
      if (i % TURN === TURN - 1) await new Promise<void>((resolve) => setImmediate(resolve));
      if (i % CHECK === CHECK - 1) await checked(open, found);
      if (i === Math.floor(count / 10)) heapBefore = heapMiB() - keptMiB;
    }
    await checked(open, found);
    const growth = count > 100 ? heapMiB() - keptMiB - heapBefore : 0;
    if (growth > (target.mostGrowth ?? GROWTH)) found(new Error(`the heap grew by ${growth.toFixed(0)} MiB`));
    return {
      target: target.name,
      inputs: count,
      ms: performance.now() - began,
      cpuMs: cpuSince(cpu),
      slowest,
      places: coverage?.places ?? 0,
      kept: coverage === undefined ? corpus : fewest(kept),
      growth,
      findings: [...findings.values()],
    };
  } finally {
    await open.close?.();
    // What a rejected promise of the last input still has to say comes within a turn.
    await new Promise<void>((resolve) => setImmediate(resolve));
    process.off('uncaughtException', stray).off('unhandledRejection', stray);
  }
}

async function checked(open: OpenTarget, found: (thrown: unknown) => void): Promise<void> {
  try {
    await open.check?.();
  } catch (thrown) {
    found(thrown);
  }
}

/** A machine that has other things to do makes anything slow; what takes that much processor time, and twice again, is the input. */
async function isSlow(open: OpenTarget, input: Uint8Array, limit: number): Promise<boolean> {
  // What has a history cannot be tried again.
  if (open.history !== undefined) return false;
  for (let again = 0; again < 2; again++) {
    const before = process.cpuUsage();
    try {
      await open.run(input);
    } catch {
      // It was reported.
    }
    if (cpuSince(before) <= limit) return false;
  }
  return true;
}

/** The fewest, smallest inputs that pass every place as often as all of them did. */
function fewest(all: readonly { input: Uint8Array; signature: readonly number[] }[]): readonly Uint8Array[] {
  const covered = new Set<number>();
  return [...all]
    .sort((a, b) => a.input.length - b.input.length)
    .filter(({ signature }) => {
      const news = signature.some((one) => !covered.has(one));
      for (const one of signature) covered.add(one);
      return news;
    })
    .map(({ input }) => input);
}

const textOf = (thrown: unknown): string =>
  thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);

/** The same complaint about other numbers, from the same place, is the same. */
function kindOf(text: string): string {
  const [first = '', ...rest] = text.split('\n');
  const frame = rest.find((line) => /\/(src|dataplane)\//.test(line)) ?? '';
  return `${first.slice(0, 80).replace(/[0-9a-f]{6,}|\d+|'[^']*'|"[^"]*"/g, '')} ${frame.trim()}`;
}

function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

let collect: (() => void) | undefined;

/** After a collection of garbage. */
function heapMiB(): number {
  if (collect === undefined) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  // What lies outside the heap is given back after the objects that held it.
  collect();
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 1024 ** 2;
}
