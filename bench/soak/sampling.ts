import { setTimeout as pause } from 'node:timers/promises';
import type { OverlayNode } from '../../chaos/overlay/index.js';
import { busySeconds } from '../lib/machine.js';
import { sampleDaemon, sampleKernel } from './probe.js';
import type { SoakRecord } from './record.js';

const EVERY_MS = 15_000;

/** Look at every node until the signal aborts. What cannot be looked at is missing in the record, and nothing else. */
export async function sampleRegularly(
  nodes: readonly OverlayNode[],
  record: SoakRecord,
  signal: AbortSignal,
): Promise<void> {
  let busy = busySeconds();
  let since = performance.now();
  while (!signal.aborted) {
    await sampleOnce(nodes, record);
    await pause(Math.max(0, EVERY_MS - (performance.now() - since)), undefined, { signal }).catch(() => undefined);
    const [now, nowBusy] = [performance.now(), busySeconds()];
    record.busy.push({ at: Date.now(), cpus: (nowBusy - busy) / ((now - since) / 1000) });
    [since, busy] = [now, nowBusy];
  }
}

/** One after the other: the instrument is not to be what the machine is busy with. */
async function sampleOnce(nodes: readonly OverlayNode[], record: SoakRecord): Promise<void> {
  for (const node of nodes) {
    const sample = await sampleDaemon(node);
    if (sample !== undefined) record.daemons.push({ at: Date.now(), node: node.name, sample });
    const kernel = await sampleKernel(node).catch(() => undefined);
    if (kernel !== undefined) record.kernels.push({ at: Date.now(), node: node.name, sample: kernel });
  }
}
