import { type PeerId, shortId } from '../../model/ids.js';
import type { History } from './history.js';
import type { Line } from './line.js';

/** Tells the history when the line that a node works over leads to another supernode than before; for each time one is up. */
export function whereabouts(
  history: Pick<History, 'record'>,
  main: () => Pick<Line, 'isUp' | 'supervisor'>,
): () => void {
  let last: PeerId | undefined;
  return () => {
    const line = main();
    const at = line.isUp() ? line.supervisor() : undefined;
    if (at === undefined || at === last) return;
    const before = last === undefined ? '' : `, before at ${shortId(last)}`;
    history.record('supernode-changed', `at supernode ${shortId(at)}${before}`);
    last = at;
  };
}
