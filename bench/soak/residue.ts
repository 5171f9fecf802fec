import { setTimeout as pause } from 'node:timers/promises';
import type { OverlayNode } from '../../chaos/overlay/index.js';
import { type KernelSample, sampleKernel } from './probe.js';

/** What a host's kernel may not hold more of than before, once nobody is connected. */
const COMPARED = ['elements', 'nftRules', 'wgPeers', 'ipRules', 'routes', 'addresses', 'links'] as const;

export type Holdings = ReadonlyMap<string, KernelSample>;

export interface Leftover {
  readonly node: string;
  readonly what: (typeof COMPARED)[number];
  readonly before: number;
  readonly after: number;
}

const LOOK_MS = 3_000;

export async function holdings(nodes: readonly OverlayNode[]): Promise<Holdings> {
  const all = new Map<string, KernelSample>();
  for (const node of nodes) all.set(node.name, await sampleKernel(node));
  return all;
}

/** Everything that is there beyond what was before. */
export function leftovers(before: Holdings, after: Holdings): readonly Leftover[] {
  return [...after].flatMap(([node, now]) =>
    COMPARED.flatMap((what) => {
      const then = before.get(node)?.[what] ?? 0;
      return now[what] > then ? [{ node, what, before: then, after: now[what] }] : [];
    }),
  );
}

/** Looks until nothing is left or the time is over; answers with the last look, and how long that took. */
export async function untilNothingIsLeft(
  nodes: readonly OverlayNode[],
  before: Holdings,
  limitMs: number,
): Promise<{ readonly left: readonly Leftover[]; readonly tookMs: number }> {
  const began = performance.now();
  for (;;) {
    const left = leftovers(before, await holdings(nodes));
    const tookMs = performance.now() - began;
    if (left.length === 0 || tookMs > limitMs) return { left, tookMs };
    await pause(LOOK_MS);
  }
}
