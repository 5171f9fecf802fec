import type { Trust } from '../model/anchors.js';
import type { Signed } from '../model/membership.js';
import type { Statements } from './ports/authority.js';

/**
 * Where base's statements lead from here, oldest first: each counts when a key of the one before has signed it. Undefined
 * where none of them is newer, or the first newer one is signed by nobody this node knows.
 */
export function followAnchors(
  statements: Pick<Statements, 'checkAnchors'>,
  trust: Trust,
  chain: readonly Signed[],
): Trust | undefined {
  let at: Trust = trust;
  for (const signed of chain) {
    const checked = statements.checkAnchors({ keys: at.baseKeys }, signed);
    if (!checked.ok || checked.value.serial <= at.serial) continue;
    const { serial, baseKeys, authorities } = checked.value;
    at = { serial, baseKeys, authorities };
  }
  return at === trust ? undefined : at;
}
