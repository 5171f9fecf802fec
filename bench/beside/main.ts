/**
 * `make bench`: vpnd beside what else does parts of its work, all from Debian, in network namespaces of this machine. PART=relay (tunnel, streams,
 * recovery) runs one part alone, RUNS=1 makes it short. Prints tables, keeps everything in bench/results, and writes the chapter of docs/performance.md anew from
 * what is kept there. Judges nothing by its exit status.
 */
import { describeMachine } from '../lib/machine.js';
import { keep, type Result, targetTable } from '../lib/report.js';
import { writeChapter } from './chapter.js';
import { debianVersions } from './debian.js';
import { benchRecoveryBeside } from './recovery/measure.js';
import { benchRelay } from './relay/measure.js';
import { benchStreamsBeside } from './streams/measure.js';
import { benchTunnel } from './tunnel/measure.js';

const COMMAND = 'make bench';
const RUNS = 5;

type Part = (command: string, runs: number, tell: (line: string) => void) => Promise<Result>;
const PARTS: Readonly<Record<string, Part>> = {
  relay: benchRelay,
  tunnel: benchTunnel,
  streams: benchStreamsBeside,
  recovery: benchRecoveryBeside,
};

const wanted = process.env.PART ?? '';
const runs = Number(process.env.RUNS || RUNS);
const parts = Object.entries(PARTS).filter(([name]) => wanted === '' || wanted.split(/[\s,]+/).includes(name));
if (parts.length === 0 || !Number.isInteger(runs) || runs < 1) {
  console.error(`bench: PART is one of ${Object.keys(PARTS).join(', ')}, RUNS a number`);
  process.exit(2);
}

const machine = await describeMachine();
console.log(`${machine.cores} x ${machine.cpu}, Linux ${machine.kernel}, others use ${machine.othersCpus} CPUs`);
for (const [name, part] of parts) {
  const command = `${COMMAND} PART=${name}${runs === RUNS ? '' : ` RUNS=${runs}`}`;
  const result = await part(command, runs, (line) => console.log(`  ${line}`));
  const configuration = { ...result.configuration, packages: debianVersions() };
  const file = keep({ ...result, configuration }, machine);
  console.log(`\n${targetTable(result.targets)}  ${file}\n`);
}
console.log(`  ${writeChapter()}`);
