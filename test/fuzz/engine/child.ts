import { openSync, writeSync } from 'node:fs';
import { Coverage } from './coverage.js';
import { type Finding, runTarget, type Stats } from './run-target.js';

/**
 * One target in a process of its own, which may hang, run out of memory or die. What it is doing is in a file that the
 * parent reads when that happens: the number of the input, its length, and the input.
 */
export interface Job {
  readonly target: string;
  readonly seed: number;
  readonly from: number;
  readonly count: number;
  readonly corpus: readonly string[];
  readonly current: string;
}

export type Told =
  | {
      readonly kind: 'done';
      readonly stats: Omit<Stats, 'kept' | 'findings'>;
      readonly kept: readonly string[];
      readonly findings: readonly ToldFinding[];
      readonly rss: number;
    }
  | { readonly kind: 'failed'; readonly why: string };

export type ToldFinding = Omit<Finding, 'input'> & { readonly input: string };

const HEAD = 8;
const tell = (what: Told): Promise<void> =>
  new Promise((resolve) => {
    if (process.send === undefined) resolve();
    else process.send(what, () => resolve());
  });

process.on('message', (job: Job) => {
  work(job).then(
    () => process.disconnect?.(),
    async (thrown: unknown) => {
      await tell({ kind: 'failed', why: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown) });
      process.disconnect?.();
      process.exitCode = 1;
    },
  );
});

async function work({ target: name, seed, from, count, corpus, current }: Job): Promise<void> {
  const coverage = new Coverage();
  coverage.install();
  const { openTargetNamed } = await import('../targets/index.js');
  const target = await openTargetNamed(name);
  const file = openSync(current, 'w');
  let room = Buffer.alloc(64 * 1024);
  const stats = await runTarget(target, {
    seed,
    from,
    count,
    coverage,
    corpus: corpus.map((one) => Buffer.from(one, 'base64')),
    before: (index, input) => {
      if (room.length < HEAD + input.length) room = Buffer.alloc(HEAD + input.length * 2);
      room.writeInt32LE(index, 0);
      room.writeUInt32LE(input.length, 4);
      room.set(input, HEAD);
      writeSync(file, room, 0, HEAD + input.length, 0);
    },
  });
  const { kept, findings, ...rest } = stats;
  await tell({
    kind: 'done',
    stats: rest,
    kept: kept.map((one) => Buffer.from(one).toString('base64')),
    findings: findings.map((one) => ({ ...one, input: Buffer.from(one.input).toString('base64') })),
    rss: process.resourceUsage().maxRSS / 1024,
  });
}
