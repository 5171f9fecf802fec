import { create } from '@bufbuild/protobuf';
import { DrainRequestSchema } from '../../../src/gen/vpnd/v1/admin_pb.js';
import { minutes } from '../../../src/model/time.js';
import type { OverlayWorld } from '../overlay-world.js';

export type Progress = { readonly sessions?: number; readonly done?: boolean; readonly timedOut?: boolean };

export const inRegion = (region: string, count: number) => Array.from({ length: count }, () => ({ region }));

/** Of their paths other tests tell: these stay on relays, which is where a supernode can be missed. */
export const relayed = (region: string, count: number) =>
  inRegion(region, count).map((one) => ({ ...one, privacy: 'private' as const }));

/** `vpnd supernode drain`: what it has shown when it ends. */
export function draining(world: OverlayWorld, name: string, timeout = minutes(5)): Promise<readonly Progress[]> {
  const { drain } = world.node(name).running.local;
  if (drain === undefined) throw new Error(`${name} is no supernode`);
  const request = create(DrainRequestSchema, { timeoutMs: BigInt(timeout) });
  return (async () => {
    const steps: Progress[] = [];
    for await (const step of drain(request, new AbortController().signal)) steps.push(step as Progress);
    return steps;
  })();
}

/** The supernode that a node's stream goes to, by its name. */
export const supervisor = async (world: OverlayWorld, name: string): Promise<string | undefined> => {
  const id = (await world.upstream(name))?.supervisorId;
  return world.of('supernode').find((one) => one.id === id)?.name;
};
