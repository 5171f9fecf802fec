import { followAnchors } from '../../core/anchors.js';
import type { Statements } from '../../core/ports/authority.js';
import type { Network } from '../../core/ports/network.js';
import type { HostPort } from '../../model/address.js';
import type { Trust } from '../../model/anchors.js';
import type { Bytes } from '../../model/bytes.js';
import { VpndError } from '../../model/errors.js';
import type { Signed } from '../../model/membership.js';
import { type Millis, seconds } from '../../model/time.js';

const CALL_TIMEOUT: Millis = seconds(15);

/** PEM of several, as TLS takes them. */
export const bundleOf = (authorities: readonly string[]): string =>
  authorities.length === 1 ? (authorities[0] ?? '') : authorities.map((pem) => `${pem.trim()}\n`).join('');

/** What a node goes by, and base's statements that led there: for nodes that have missed them. */
export interface Anchored {
  readonly trust: Trust;
  readonly chain: readonly Signed[];
}

/** With base's statements followed as far as they lead; undefined where they say nothing new. */
export function followed(
  statements: Pick<Statements, 'checkAnchors'>,
  { trust }: Pick<Anchored, 'trust'>,
  chain: readonly Signed[],
): Anchored | undefined {
  const next = followAnchors(statements, trust, chain);
  return next === undefined ? undefined : { trust: next, chain };
}

/**
 * What base says of its keys and CAs, asked by a node that knows no CA of base's certificate. Whoever answers shows a CA
 * of his own choice; that counts for nothing unless a key that the node knows has signed a statement with it. Rejects
 * with `wrong-ca` where none has, and with what the network rejects with.
 */
export async function askForAnchors(
  address: HostPort,
  trust: Trust,
  ports: { readonly network: Network; readonly statements: Pick<Statements, 'checkAnchors'> },
): Promise<Anchored> {
  const options = { timeout: CALL_TIMEOUT };
  const ca = await ports.network.fetchCa(address, undefined, options);
  const { chain } = await ports.network.call({ address, expect: { kind: 'base' }, ca }, 'fetchAnchors', {}, options);
  const found = followed(ports.statements, { trust }, chain);
  if (found === undefined || !found.trust.authorities.some((pem) => pem.trim() === ca.trim()))
    throw new VpndError('wrong-ca', 'whoever answers there is not the base that this node was enrolled by');
  return found;
}

/** What a node that knows one key of base, and nothing else, begins with. */
export const trustIn = (baseKey: Bytes, authorities: readonly string[] = []): Trust => ({
  serial: 0,
  baseKeys: [baseKey],
  authorities,
});
