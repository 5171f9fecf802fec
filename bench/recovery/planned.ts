import { Path } from '../../src/gen/vpnd/v1/types_pb.js';
import type { Bed } from './bed.js';
import { type BedEvent, downloadsIntact, gapAtMost, noneLost, type Sample } from './event.js';

/** What is asked for and must not be felt: another path, another exit. */

const REQUEST_LIMIT_MS = 30_000;
const WATCH_MS = 3500;

async function timed(measured: (act: () => Promise<void>) => Promise<Sample>, request: () => Promise<unknown>) {
  let tookMs = 0;
  const sample = await measured(async () => {
    const began = performance.now();
    await request();
    tookMs = performance.now() - began;
  });
  return { ...sample, tookMs };
}

const setPath = (bed: Bed, path: Path) => () =>
  bed.node('c1').api.setPath({ path }, AbortSignal.timeout(REQUEST_LIMIT_MS));

const rotate = (bed: Bed) => () =>
  bed.node('c1').api.rotate({ reason: 'a benchmark' }, AbortSignal.timeout(REQUEST_LIMIT_MS));

export const toDirect: BedEvent = {
  name: 'to-direct',
  title: 'relay to direct, asked for',
  limits: [noneLost],
  async once(bed) {
    await bed.ready({ path: 'relay' });
    return timed((act) => bed.measure(act, { watchMs: WATCH_MS }), setPath(bed, Path.DIRECT));
  },
};

export const toRelay: BedEvent = {
  name: 'to-relay',
  title: 'direct to relay, asked for',
  limits: [noneLost],
  async once(bed) {
    await bed.ready({ path: 'direct' });
    return timed((act) => bed.measure(act, { watchMs: WATCH_MS }), setPath(bed, Path.RELAY));
  },
};

export const rotation: BedEvent = {
  name: 'rotation',
  title: 'planned rotation to another exit',
  limits: [noneLost, gapAtMost(20)],
  async once(bed) {
    await bed.ready({ path: 'direct' });
    return timed((act) => bed.measure(act, { watchMs: WATCH_MS }), rotate(bed));
  },
};

export const rotationWithDownload: BedEvent = {
  name: 'rotation-download',
  title: 'planned rotation while 20 Mbit/s are downloaded',
  limits: [noneLost, gapAtMost(20), downloadsIntact],
  async once(bed) {
    await bed.ready({ path: 'direct' });
    return timed((act) => bed.measureWithDownload(act, { watchMs: WATCH_MS }), rotate(bed));
  },
};
