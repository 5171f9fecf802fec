import { CLIENTS, EXITS, SUPERNODES } from './bed.js';
import type { DaemonSample, KernelSample } from './probe.js';
import {
  connectLatency,
  daemonPoints,
  kernelPoints,
  minutePoints,
  pingLatency,
  type SoakRecord,
  visitLatency,
} from './record.js';
import { judge, type Point, type Slope, slopeOf, type Verdict } from './slopes.js';

/** Something that must not grow, of one node or of the whole. */
export interface Quantity {
  readonly group: 'memory' | 'heap' | 'descriptors' | 'disk' | 'kernel' | 'latency';
  readonly of: string;
  readonly what: string;
  readonly unit: string;
  /** Measured value to unit. */
  readonly scale: number;
  /** Units per hour that nobody needs to care about. */
  readonly tolerance: number;
  readonly points: readonly Point[];
}

export interface Judged extends Omit<Quantity, 'points' | 'scale'> {
  readonly slope: Slope | undefined;
  readonly verdict: Verdict | 'too short';
}

const MB = 1 / 2 ** 20;
/** A daemon of 100 MB that grows by so much doubles in half a day; less than the noise of a run of an hour cannot be told. */
const MEMORY_MB = 8;
const THINGS = 4;
const KERNEL_SHARE = 0.1;
const LATENCY_SHARE = 0.25;
/** Until code is compiled, caches are full and what is kept for ten minutes is ten minutes old. */
export const WARM_UP_HOURS = 20 / 60;
export const BLOCK_HOURS = 5 / 60;

/** Everything that is followed. */
export function quantitiesOf(record: SoakRecord): readonly Quantity[] {
  const nodes = ['base', ...SUPERNODES, ...EXITS, ...CLIENTS];
  const daemon = (
    node: string,
    group: Quantity['group'],
    key: keyof DaemonSample,
    what: string,
    unit: string,
    tolerance: number,
  ): Quantity => ({
    group,
    of: node,
    what,
    unit,
    scale: unit === 'MB' ? MB : 1,
    tolerance,
    points: daemonPoints(record, node, key),
  });
  const daemons = nodes.flatMap((node) => [
    daemon(node, 'memory', 'pss', 'memory (PSS)', 'MB', MEMORY_MB),
    daemon(node, 'memory', 'rss', 'memory (RSS)', 'MB', MEMORY_MB),
    daemon(node, 'heap', 'heap', 'heap in use', 'MB', MEMORY_MB),
    daemon(node, 'heap', 'external', 'buffers outside of the heap', 'MB', MEMORY_MB),
    daemon(node, 'descriptors', 'descriptors', 'descriptors', '', THINGS),
    daemon(node, 'descriptors', 'handles', 'handles of the event loop', '', THINGS),
    daemon(node, 'disk', 'disk', 'state directory', 'MB', MEMORY_MB),
    ...(node === 'base' || SUPERNODES.some((one) => one === node)
      ? []
      : [
          daemon(node, 'memory', 'wireguardRss', 'wireguard-go (RSS)', 'MB', MEMORY_MB),
          daemon(node, 'descriptors', 'wireguardDescriptors', 'descriptors of wireguard-go', '', THINGS),
        ]),
  ]);
  const kernels = nodes.flatMap((node) =>
    (
      [
        ['elements', 'nftables elements'],
        ['nftRules', 'nftables rules'],
        ['wgPeers', 'WireGuard peers'],
        ['ipRules', 'ip rules'],
        ['routes', 'routes'],
        ['addresses', 'addresses'],
        ['links', 'interfaces'],
        ['conntrack', 'tracked connections'],
        ['sockets', 'sockets'],
      ] satisfies readonly (readonly [keyof KernelSample, string])[]
    ).map(([key, what]): Quantity => {
      const points = kernelPoints(record, node, key);
      // What follows the sessions that are open goes up and down with them.
      const tolerance = Math.max(THINGS, levelOf(points) * KERNEL_SHARE);
      return { group: 'kernel', of: node, what, unit: '', scale: 1, tolerance, points };
    }),
  );
  const latency = (what: string, measured: Parameters<typeof minutePoints>[1]): Quantity => {
    const points = minutePoints(record, measured);
    return {
      group: 'latency',
      of: 'all',
      what,
      unit: 'ms',
      scale: 1,
      tolerance: levelOf(points) * LATENCY_SHARE,
      points,
    };
  };
  return [
    ...daemons,
    ...kernels,
    latency('a client’s stream is up', visitLatency(record, 'streamMs')),
    latency('an exit is granted', visitLatency(record, 'grantMs')),
    latency('a session is closed everywhere', visitLatency(record, 'closeMs')),
    latency('a real client is connected', connectLatency(record)),
    latency('ping through the tunnel', pingLatency(record)),
  ];
}

const levelOf = (points: readonly Point[]): number =>
  points.reduce((sum, { value }) => sum + value, 0) / Math.max(1, points.length);

export function judged(quantities: readonly Quantity[], options = { warmUp: WARM_UP_HOURS }): readonly Judged[] {
  return quantities.map(({ points, scale, ...quantity }) => {
    const scaled = points.map((one) => ({ ...one, value: one.value * scale }));
    const slope = slopeOf(scaled, { warmUp: options.warmUp, block: BLOCK_HOURS });
    return { ...quantity, slope, verdict: slope === undefined ? 'too short' : judge(slope, quantity.tolerance) };
  });
}
