import { setTimeout as pause } from 'node:timers/promises';
import type { OverlayNode } from '../../chaos/overlay/index.js';
import { Privacy } from '../../src/gen/vpnd/v1/types_pb.js';
import { toVpndError } from '../../src/model/errors.js';

/** One time that a real client connected, or failed to. */
export interface Connect {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly client: string;
  /** From the request to the daemon's answer that traffic flows; undefined when it failed. */
  readonly tookMs: number | undefined;
  /** What was said when it failed. */
  readonly failure: string | undefined;
}

const UP_LIMIT_MS = 60_000;
const STAY_MS = 4_000;
const APART_MS = 1_000;
const AFTER_FAILURE_MS = 3_000;

/** A client that connects, stays a moment, disconnects and begins anew until the signal aborts; it ends disconnected. */
export async function comeAndGo(
  node: OverlayNode,
  signal: AbortSignal,
  told: (connect: Connect) => void,
): Promise<void> {
  const idle = (forMs: number) => pause(forMs, undefined, { signal }).catch(() => undefined);
  for (let turn = 0; !signal.aborted; turn++) {
    const at = Date.now();
    const started = performance.now();
    try {
      const privacy = turn % 2 === 0 ? Privacy.AUTO : Privacy.PRIVATE;
      await node.api.up({ privacy }, AbortSignal.timeout(UP_LIMIT_MS));
      told({ at, client: node.name, tookMs: performance.now() - started, failure: undefined });
      await idle(STAY_MS);
    } catch (thrown) {
      told({ at, client: node.name, tookMs: undefined, failure: toVpndError(thrown).code });
      await idle(AFTER_FAILURE_MS);
    }
    // Its daemon may be down at present; what it held is then taken down by the next turn.
    await node.api.down().catch(() => undefined);
    await idle(APART_MS);
  }
  await disconnect(node);
}

/** However often it has to be asked: a fault may have its daemon down at this moment. Rejects when it never answers. */
export async function disconnect(node: OverlayNode): Promise<void> {
  const giveUp = Date.now() + UP_LIMIT_MS;
  for (;;) {
    try {
      await node.api.down();
      return;
    } catch (thrown) {
      if (Date.now() > giveUp) throw thrown;
      await pause(APART_MS);
    }
  }
}
