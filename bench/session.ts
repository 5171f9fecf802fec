/**
 * `make bench-session`: how fast a session opens, with and without post-quantum keys, what forwarding costs a supernode, what an idle client costs it, and
 * how long starting a program stops a daemon.
 * Names of benchmarks as arguments run those alone. Prints tables, keeps everything in bench/results, and judges nothing by its exit status: a slow machine is no failure.
 */
import { firstPackets, Overlay } from '../chaos/overlay/index.js';
import { describeMachine, type Machine } from './lib/machine.js';
import { keep, type Result, type Row, table, targetTable } from './lib/report.js';
import { benchFirstPacket, cpuRows, percentileRows } from './session/first-packet.js';
import { benchForwarding, transferRows } from './session/forwarding.js';
import { benchIdleStreams, idleHead, idleRows } from './session/idle-streams.js';
import { benchPostQuantum, postQuantumRows } from './session/post-quantum.js';
import { benchStartingPrograms, startingRows } from './session/starting-programs.js';

const COMMAND = 'make bench-session';
const SESSIONS = 100;
const PQ_ROUNDS = 7;
const PQ_SESSIONS = 10;
const DOWNLOAD_SECONDS = 30;
const STREAMS = 500;
const IDLE_SECONDS = 60;
/** More than that used by others, and the figures say as much about them. */
const QUIET_CPUS = 0.2;

const machine = await describeMachine();
console.log(`${machine.cores} x ${machine.cpu}, Linux ${machine.kernel}, Node ${process.version}`);
if (machine.othersCpus > QUIET_CPUS) {
  console.log(`Others use ${machine.othersCpus} of ${machine.cores} CPUs at present: times below are longer for it.`);
}

const wanted = (name: string): boolean => process.argv.length === 2 || process.argv.includes(name);
if (['first-packet', 'post-quantum', 'forwarding'].some(wanted)) await inTheLab(machine);
if (wanted('idle-streams')) {
  const idle = await benchIdleStreams(COMMAND, { streams: STREAMS, idleSeconds: IDLE_SECONDS });
  show('What an idle client costs a supernode', idleHead(idle.summary), idleRows(idle.summary), idle, machine);
}

if (wanted('starting-programs')) {
  const starting = await benchStartingPrograms(COMMAND);
  const head = ['start of a program, ms', 'median', 'min', 'max'];
  show('How long starting a program stops a daemon', head, startingRows(starting.summary), starting, machine);
}

async function inTheLab(on: Machine): Promise<void> {
  const overlay = await Overlay.start({ lab: { name: 'bench' } });
  try {
    if (wanted('first-packet')) {
      const first = await benchFirstPacket(overlay, COMMAND, SESSIONS);
      const title = `From the request to the first packet, ${SESSIONS} sessions through two relays`;
      show(title, ['milliseconds', 'min', 'p50', 'p90', 'p99', 'max'], percentileRows(first.summary), first, on);
      for (const failure of first.summary.failures) console.log(`  a session did not open: ${failure}`);
      console.log(table(['CPU per session, ms', 'the daemon', 'programs it starts'], cpuRows(first.summary)));
    }
    if (wanted('post-quantum')) {
      const quantum = await benchPostQuantum(overlay, COMMAND, PQ_ROUNDS, PQ_SESSIONS);
      const title = 'From the request to the first packet, without and with post-quantum keys';
      show(title, ['milliseconds', 'min', 'p50', 'p90', 'p99', 'max'], postQuantumRows(quantum.summary), quantum, on);
      console.log(`  added: ${quantum.summary.addedMs.toFixed(1)} ms (median of ${PQ_ROUNDS} rounds)\n`);
    }
    if (wanted('forwarding')) {
      await firstPackets(overlay, 1, 'us');
      const forwarding = await benchForwarding(overlay, COMMAND, DOWNLOAD_SECONDS);
      const head = ['CPU of the process', 'transferring, s', 'idle, s', 'transferring, ms/s', 'idle, ms/s', 'added'];
      show('What forwarding costs a supernode', head, transferRows(forwarding.summary), forwarding, on);
      const { median, min, max } = forwarding.summary.mbps;
      console.log(`  downloaded at ${median.toFixed(0)} Mbit/s (${min.toFixed(0)} to ${max.toFixed(0)})\n`);
    }
  } finally {
    await overlay.close();
  }
}

function show(title: string, head: readonly string[], rows: readonly Row[], result: Result, on: Machine): void {
  const file = keep(result, on);
  const judged = result.targets.length === 0 ? '' : `\n${targetTable(result.targets)}`;
  console.log(`\n${title}\n\n${table(head, rows)}${judged}\n  ${file}\n`);
}
