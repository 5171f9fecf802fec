import type { OverlayNode } from '../../chaos/overlay/index.js';

export { kernelResidue, relayElements, wireGuardPeers } from '../../chaos/overlay/index.js';

/** Sessions that a node's own status knows. */
export async function sessionsOf(node: OverlayNode): Promise<{ state: string; path?: string }[]> {
  return (await node.json<{ sessions: { state: string; path?: string }[] }>('status')).sessions;
}

/** Repeats a look until it is satisfied; throws with what it saw last. For states that daemons reach by themselves. */
export async function eventually<T>(look: () => Promise<T>, fits: (seen: T) => boolean, limitMs = 20_000): Promise<T> {
  const giveUp = Date.now() + limitMs;
  for (;;) {
    const seen = await look();
    if (fits(seen)) return seen;
    if (Date.now() > giveUp) throw new Error(`not within ${limitMs} ms; seen last: ${JSON.stringify(seen)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
