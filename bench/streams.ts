/**
 * `make bench-streams`: what streams cost one supernode process. STREAMS="1000 5000 15000" (or arguments) says how many,
 * NODE_EXTRA="--cpu-prof" adds flags for the supernode's Node. Prints tables, keeps everything in bench/results, and judges
 * nothing by its exit status: a slow machine is no failure.
 */
import { createLab } from '../chaos/lab/index.js';
import { openSodium } from '../src/identity/sodium.js';
import type { Region } from '../src/model/role.js';
import { instantOf } from '../src/model/time.js';
import { describeMachine } from './lib/machine.js';
import { keep, type Result, table, targetTable } from './lib/report.js';
import { signMembers } from './load/members.js';
import { startGenerators } from './streams/generators.js';
import { rows, sizeHead, targets } from './streams/report.js';
import { Generators, measureSize, type OneSize } from './streams/size.js';
import { measureStorm, type Storm } from './streams/storm.js';
import { MeasuredSupernode, NODE_FLAGS, SUPERNODE, startBase } from './streams/supernode.js';

const REGION = 'eu' as Region;
const STORM = 10_000;
const EXITS = 20;
const AT_ONCE = 64;
/** More than that used by others, and the figures say as much about them. */
const QUIET_CPUS = 0.2;

const asked = process.argv.slice(2).length > 0 ? process.argv.slice(2) : (process.env.STREAMS ?? '').split(/\s+/);
const given = asked.map(Number).filter((one) => one >= 100);
const sizes = given.length > 0 ? given : [1_000, 5_000, 15_000];
const largest = Math.max(...sizes);
const extra = (process.env.NODE_EXTRA ?? '').split(/\s+/).filter((one) => one !== '');

const machine = await describeMachine();
console.log(`${machine.cores} x ${machine.cpu}, Linux ${machine.kernel}, Node ${process.version}`);
if (machine.othersCpus > QUIET_CPUS) {
  console.log(`Others use ${machine.othersCpus} of ${machine.cores} CPUs at present: times below are longer for it.`);
}
const began = performance.now();
const tell = (step: string) => console.log(`${((performance.now() - began) / 1000).toFixed(0).padStart(5)} s  ${step}`);

const lab = await createLab({ name: 'bench' });
try {
  const base = await startBase(lab);
  const supernode = await MeasuredSupernode.start(lab, base, { region: REGION, capacity: largest, extra });
  const { crypto } = await openSodium();
  const wanted = { count: largest + sizes.length, exits: EXITS, region: REGION, now: instantOf(Date.now()) };
  const { keys, members } = signMembers(base.stateDir, supernode.node.stateDir, wanted, crypto);
  const measured: OneSize[] = [];
  for (const [i, streams] of sizes.entries()) {
    if (i > 0) {
      await supernode.node.stop();
      supernode.restart();
      await supernode.node.process.waitForLine(/ ready: /);
    }
    // Three processes, each of them with streams for itself to close; the storm is of two of them.
    const options = { processes: streams >= 3_000 ? 3 : 1, region: REGION, atOnce: AT_ONCE };
    const generators = new Generators(
      await startGenerators(supernode.host, SUPERNODE, keys, members.slice(0, streams), options),
    );
    const outsider = crypto.identityFromSeed(Buffer.from(members[largest + i]?.seed ?? '', 'base64')).id;
    try {
      measured.push(await measureSize(supernode, base, generators, outsider, tell));
      report(measured, undefined);
      if (streams === largest) {
        const stay = new Generators(
          generators.all.slice(0, Math.max(1, Math.round((STORM * generators.all.length) / streams))),
        );
        for (const one of generators.all) if (!stay.all.includes(one)) await one.end();
        tell(`the supernode is killed; ${stay.streams} have to come back`);
        report(measured, await measureStorm(supernode, stay));
      }
    } finally {
      await Promise.all(generators.all.map((one) => one.end()));
    }
  }
} finally {
  await lab.close();
}

/** Keeps and prints what there is. */
function report(measured: readonly OneSize[], storm: Storm | undefined): void {
  const result: Result<{ sizes: readonly OneSize[]; storm: Storm | undefined }> = {
    name: 'streams',
    command: 'make bench-streams',
    configuration: {
      sizes,
      supernode: `vpnd supernode --dataplane memory, NODE_OPTIONS=${[...NODE_FLAGS, ...extra].join(' ')}`,
      stream: 'TLS 1.3 on a TCP connection of its own, authenticated member, ping every 10 s, HTTP/2 ping every 20 s',
      generators: 'processes of bench/load/streams.ts, reconnecting by the decisions of the daemon',
      setUpAtOnceByEach: AT_ONCE,
    },
    summary: { sizes: measured, storm },
    targets: targets(measured, storm),
    samples: {},
  };
  const file = keep(result, machine);
  console.log(`\nWhat streams cost one supernode\n\n${table(sizeHead(measured), rows(measured, storm))}`);
  console.log(`${targetTable(result.targets)}\n  ${file}\n`);
}
