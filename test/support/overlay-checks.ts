import type { OverlayNode } from '../../chaos/overlay/index.js';

/** What of ours the kernel of a node's machine holds, as lines; empty when nothing is left. */
export async function kernelResidue(node: OverlayNode): Promise<string[]> {
  const { host } = node;
  const [links, rules4, rules6, routes4, routes6, tables] = await Promise.all([
    host.exec(['ip', '-br', 'link', 'show']),
    host.exec(['ip', '-4', 'rule', 'show']),
    host.exec(['ip', '-6', 'rule', 'show']),
    host.exec(['ip', '-4', 'route', 'show', 'table', 'all']),
    host.exec(['ip', '-6', 'route', 'show', 'table', 'all']),
    host.exec(['nft', 'list', 'tables']),
  ]);
  const lines = (text: string) => text.split('\n').filter((line) => line.trim() !== '');
  const standard = /^(0|32766|32767):/;
  return [
    ...lines(links).filter((line) => /^(?:wg|vpnd)-/.test(line)),
    ...[...lines(rules4), ...lines(rules6)].filter((line) => !standard.test(line)),
    ...[...lines(routes4), ...lines(routes6)].filter((line) => /wg-|table 51820/.test(line)),
    ...lines(tables).filter((line) => /vpnd/.test(line)),
  ];
}

/** Elements in the maps and sets of a relay's tables that stay until somebody removes them: what it holds of sessions. */
export async function relayElements(node: OverlayNode): Promise<number> {
  const listed = JSON.parse(await node.host.exec(['nft', '-j', 'list', 'ruleset'])) as {
    nftables: { map?: NftSet; set?: NftSet }[];
  };
  return listed.nftables
    .flatMap(({ map, set }) => [map, set])
    .filter((one) => one?.table.startsWith('vpnd') === true && one.flags?.includes('timeout') !== true)
    .reduce((sum, one) => sum + (one?.elem?.length ?? 0), 0);
}

interface NftSet {
  readonly table: string;
  /** `timeout`: elements go by themselves within seconds. */
  readonly flags?: readonly string[];
  readonly elem?: readonly unknown[];
}

/** Public keys of the peers on a node's WireGuard devices. */
export async function wireGuardPeers(node: OverlayNode): Promise<string[]> {
  const shown = await node.host.exec(['wg', 'show', 'all', 'peers']);
  return shown.split('\n').filter((line) => line.trim() !== '' && !line.includes('(none)'));
}

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
