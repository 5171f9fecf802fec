import { readFileSync } from 'node:fs';
import { availableParallelism, setPriority } from 'node:os';
import { dirname, join } from 'node:path';
import { Compiler } from '../../mutants/compile.js';
import { edited, editsByFile } from '../../mutants/mutant.js';
import { Tree } from '../../mutants/tree.js';
import { playAll } from './crew.js';
import { PLANTED, type Planted } from './planted.js';

/**
 * `make sim PLANTED=all`: makes each mistake of planted.ts in a copy of the program, and plays seeds over it, from the first on,
 * until one fails for it. A line each, as a row of a table: the mistake, the seeds it took, the invariant that noticed. Ends with
 * `<found>/<all> planted mistakes found`; exit code 1 unless all are. `PLANTED=lease` for those whose names begin so, SEEDS=400
 * for the most seeds each.
 */
const ROOT = process.cwd();
const BUILT = dirname(dirname(dirname(import.meta.dirname)));
const MOST = Number(process.env.SEEDS || 400);
/** Below everything else that this machine does. */
const NICE = 10;

setPriority(NICE);
const beginning = process.env.PLANTED === 'all' ? '' : (process.env.PLANTED ?? '');
const wanted = PLANTED.filter(({ name }) => name.startsWith(beginning));
const compiler = new Compiler(ROOT);
const tree = new Tree(ROOT, BUILT);
process.once('exit', () => tree.remove());
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1));
let found = 0;
for (const one of wanted) {
  const told = await find(one);
  if (told !== undefined) found++;
  console.log(`| ${one.name} | ${one.mistake} | ${told ?? `not within ${MOST} seeds`} |`);
}
console.log(`${found}/${wanted.length} planted mistakes found`);
process.exitCode = found === wanted.length && found > 0 ? 0 : 1;

async function find({ name, mistake, edits, breaks }: Planted): Promise<string | undefined> {
  const sources = new Map<string, string>();
  for (const [file, list] of editsByFile({ edits }))
    sources.set(file, edited(file, readFileSync(join(ROOT, file), 'utf8'), list));
  for (const { file, text } of compiler.compile(sources)) tree.write(join('dist', file), text);
  const failed = new Map<number, string>();
  let tried = 0;
  const orders = Array.from({ length: MOST }, (_, index) => ({ seed: index + 1, shrink: false }));
  const jobs = availableParallelism();
  await playAll(
    orders,
    Math.min(jobs, 8),
    (result) => {
      tried++;
      const invariant = result.failed?.invariant;
      if (invariant !== undefined && breaks.includes(invariant)) failed.set(result.seed, invariant);
      return failed.size > 0 ? 'enough' : 'go on';
    },
    join(tree.root, 'dist/test/sim/engine'),
  );
  tree.restore();
  const [first] = [...failed].sort(([a], [b]) => a - b);
  if (process.env.VERBOSE) console.log(`${name}: ${mistake}: ${tried} seeds tried`);
  return first === undefined ? undefined : `${first[0]} | invariant ${first[1]}`;
}
