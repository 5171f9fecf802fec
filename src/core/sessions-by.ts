import type { PeerId, SessionId } from '../model/ids.js';

/** Ids of sessions by whom they are of, in the order in which they came. */
export function sessionsBy<T extends { readonly session: SessionId }>(
  sessions: readonly T[],
  of: (one: T) => PeerId,
): ReadonlyMap<PeerId, readonly SessionId[]> {
  const found = new Map<PeerId, SessionId[]>();
  for (const one of sessions) {
    const before = found.get(of(one));
    if (before === undefined) found.set(of(one), [one.session]);
    else before.push(one.session);
  }
  return found;
}
